//! What a dataplane can be asked through its door, a Unix socket: one JSON object per line, and one in answer.
//!
//! ```text
//!   -> {"cmd":"hello"}                              <- {"ok":{"hello":{"name":"kv",...}}}       and, with it, the descriptor of the metrics page
//!   -> {"cmd":"move","groups":"0-15,40","to":1}     <- {"ok":{"moved":[{"from":0,"to":1,...}]}}
//!   -> {"cmd":"park","core":7}                      <- {"error":{"code":"no-such-core","text":"there is no core 7"}}
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::GroupList;

/// Of the commands and answers below. One more command or field is no new version: unknown commands are refused, unknown fields left out.
pub const PROTOCOL_VERSION: u32 = 1;
/// Bytes of a command at most, the end of its line included.
pub const LINE_MAX: usize = 4096;

/// What may be asked. Cores are numbered from 0 on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum Command {
    /// Who are you? With the answer comes the descriptor of the metrics page.
    Hello,
    /// All cores.
    Cores,
    /// The owner of each flow group.
    Groups,
    /// Moves flow groups to a core, from wherever they are.
    Move {
        /// Which.
        groups: GroupList,
        /// Where to.
        to: u16,
    },
    /// Gives a core's flow groups to the others and lets it sleep.
    Park {
        /// Which.
        core: u16,
    },
    /// Wakes a core and gives it its share.
    Unpark {
        /// Which.
        core: u16,
        /// How many more are about to be woken: their shares stay where they are.
        #[serde(default)]
        more: u16,
    },
    /// Confines a core's thread to a hardware thread of the machine: what becomes of hyperthreads is decided by that.
    Pin {
        /// Which.
        core: u16,
        /// The hardware thread; none: any that the process may use.
        cpu: Option<u32>,
    },
    /// All counters of all cores, and all below.
    Dump,
    /// The latest moves, oldest first.
    Log,
}

/// What comes back: one of the two.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Ok(Answer),
    /// It was not, or not all of it.
    Error(Refusal),
}

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs: `bad-command`, `busy`, `no-such-core`, `no-groups`, `same-core`, `parked`, `not-parked`, `last-core`, `in-progress`, `timed-out`, `stopped`, `pin`.
    pub code: String,
    /// For people: one line.
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Of [`Command::Hello`].
    Hello(Hello),
    /// Of [`Command::Cores`].
    Cores(Vec<CoreInfo>),
    /// Of [`Command::Groups`]: the owner of each, by group.
    Groups(Vec<u16>),
    /// Of [`Command::Move`], [`Command::Park`], [`Command::Unpark`]: a report for each core that groups were taken from, or given to.
    Moved(Vec<MoveInfo>),
    /// Of [`Command::Pin`].
    Pinned,
    /// Of [`Command::Dump`].
    Dump(Box<Dump>),
    /// Of [`Command::Log`].
    Log(Vec<MoveInfo>),
}

/// Who a dataplane is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The name by which it is reached.
    pub name: String,
    /// What it serves, where, and how: for people.
    pub about: String,
    /// The process.
    pub pid: u32,
    /// Elastic threads.
    pub cores: u16,
    /// As `--sched` and `--assist` say it.
    pub sched: String,
}

/// What is known of a core.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoreInfo {
    /// Which.
    pub core: u16,
    /// It owns nothing, and sleeps.
    pub parked: bool,
    /// The flow groups that it owns.
    pub groups: GroupList,
    /// The kernel's id of its thread.
    pub tid: Option<u32>,
    /// The one hardware thread that it may run on; none: it floats.
    pub cpu: Option<u32>,
}

/// What a move took (thesis table 2.5). Times in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MoveInfo {
    /// The core that had the groups.
    pub from: u16,
    /// The core that has them now.
    pub to: u16,
    /// Those moved.
    pub groups: GroupList,
    /// Until the groups were put together and the NIC's table was set.
    pub prepare_ns: u64,
    /// From there until the NIC had sent what the old core had given it.
    pub wait_ns: u64,
    /// From there until the new core had them.
    pub rpc_ns: u64,
    /// From there until all that was deferred had gone on.
    pub deferred_ns: u64,
    /// All of it.
    pub total_ns: u64,
    /// Frames that were deferred.
    pub packets: u64,
    /// Groups that the NIC does not steer: their frames are forwarded.
    pub forwarded: GroupList,
}

/// Everything at once, for reports of errors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dump {
    /// Who.
    pub hello: Hello,
    /// All cores.
    pub cores: Vec<CoreInfo>,
    /// The owner of each flow group.
    pub groups: Vec<u16>,
    /// What each core has counted.
    pub counters: Vec<Counters>,
    /// The latest moves, oldest first.
    pub log: Vec<MoveInfo>,
}

/// What a core has counted, by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// Its counters.
    pub counted: BTreeMap<String, u64>,
    /// Frames dropped, by reason; those of which there were none are left out.
    pub drops: BTreeMap<String, u64>,
}

/// The directories where dataplanes have their sockets, `NAME.sock`, in the order in which a dataplane tries them: `$ZYGIX_DIR` alone, if that is set; else
/// `/run/zygix`, which root may make, and `$XDG_RUNTIME_DIR/zygix`, which is a user's own.
pub fn door_directories() -> Vec<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(only) = var("ZYGIX_DIR") {
        return vec![only];
    }
    let own = var("XDG_RUNTIME_DIR").map(|dir| dir.join("zygix"));
    std::iter::once(PathBuf::from("/run/zygix")).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_documented() {
        for (text, command) in [
            (r#"{"cmd":"hello"}"#, Command::Hello),
            (
                r#"{"cmd":"move","groups":"0-15,40","to":1}"#,
                Command::Move { groups: "0-15,40".parse().unwrap(), to: 1 },
            ),
            (r#"{"cmd":"pin","core":1,"cpu":null}"#, Command::Pin { core: 1, cpu: None }),
        ] {
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
            assert_eq!(serde_json::from_str::<Command>(text).unwrap(), command);
        }
        let refused = Reply::Error(Refusal { code: "no-such-core".into(), text: "there is no core 7".into() });
        let text = r#"{"error":{"code":"no-such-core","text":"there is no core 7"}}"#;
        assert_eq!(serde_json::to_string(&refused).unwrap(), text);
        assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), refused);
        for nonsense in [r#"{"cmd":"dance"}"#, r#"{"cmd":"move","groups":"200","to":0}"#, r#"{"cmd":"park","core":-1}"#]
        {
            assert!(serde_json::from_str::<Command>(nonsense).is_err(), "{nonsense}");
        }
    }
}
