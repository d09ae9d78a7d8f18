//! The Linux kernel as a [`Subject`]: the referee.
//!
//! Each script gets a thread, the thread a network namespace of its own, the namespace a TUN interface: what the script
//! injects is written to it, what Linux sends is read from it, the user's calls go through ordinary sockets. The kernel
//! is brought to the rules that the scripts are written to by sysctls of the namespace (`sysctls`), among them: no
//! RACK-TLP where it can be switched off, no F-RTO, NewReno for congestion control, delayed acknowledgments from the
//! first segment on. Nothing outside of the namespace is touched, and all of it ends with the thread.

mod os;
mod socket;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use tcp::Ecn;
use units::Nanos;
use wire::tcp::Segment;

use crate::packet::{self, Family};
use crate::run::{Failure, Run, run};
use crate::script::{Call, Check, Config, Kind, Script};
use crate::subject::{Heard, LOCAL, LOCAL_PORT, Pace, REMOTE, REMOTE_PORT, Refusal, Subject};
use socket::User;

const INTERFACE: &str = "script";

/// Whether scripts can be run on Linux here.
///
/// # Errors
/// What lacks, and the remedy.
pub fn available() -> Result<(), String> {
    in_own_thread("probe", || Referee::new(&Config::default()).map(drop))
}

/// Runs a script on Linux, in a namespace of its own.
pub fn run_on_linux(script: &Script) -> Run {
    in_own_thread(&script.name, || {
        let mut referee = match Referee::new(&script.config) {
            Ok(referee) => referee,
            Err(why) => {
                let failure =
                    Failure { line: 0, expected: "a namespace with a TUN interface".into(), got: why, fields: vec![] };
                return Run { script: script.name.clone(), trace: vec![], unasked: None, failure: Some(failure) };
            }
        };
        run(script, &mut referee)
    })
}

/// A thread that leaves its namespace behind when it ends.
fn in_own_thread<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.into()).spawn_scoped(scope, f);
        match thread.expect("a thread").join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// One namespace, one interface, one user.
struct Referee {
    tun: File,
    user: User,
    began: Instant,
}

impl Referee {
    /// Must run in a thread of its own: it moves into a new namespace.
    fn new(config: &Config) -> Result<Referee, String> {
        sys::netns::unshare_net().map_err(|e| e.to_string())?;
        for (name, value) in sysctls(config) {
            set_sysctl(&name, &value)?;
        }
        let tun = os::open_tun(INTERFACE).map_err(|e| format!("no TUN interface: {e}; is /dev/net/tun there?"))?;
        sys::link::set_mtu(INTERFACE, u32::from(config.mss) + 40)
            .and_then(|()| sys::link::add_address(INTERFACE, LOCAL, 24))
            .and_then(|()| sys::link::up(INTERFACE))
            .map_err(|e| e.to_string())?;
        Ok(Referee { tun, user: User::new(config), began: Instant::now() })
    }

    /// The next TCP packet that waits at the interface.
    fn read(&mut self) -> Option<Heard> {
        let mut bytes = vec![0u8; 65_536];
        loop {
            let len = self.tun.read(&mut bytes).ok().filter(|&n| n > 0)?;
            if let Some((_, heard)) = packet::parse(Family::V4, &bytes[..len], self.now()) {
                return Some(heard);
            }
        }
    }
}

impl Subject for Referee {
    fn kind(&self) -> Kind {
        Kind::Linux
    }

    fn pace(&self) -> Pace {
        Pace::Real
    }

    fn now(&self) -> Nanos {
        Nanos::from(self.began.elapsed())
    }

    fn inject(&mut self, seg: &Segment, payload: &[u8]) {
        let packet = packet::emit(Family::V4, seg, payload, REMOTE_PORT, LOCAL_PORT);
        let written = self.tun.write(&packet).expect("a TUN interface takes packets while it is up");
        assert_eq!(written, packet.len(), "TUN takes packets whole");
    }

    fn heard(&mut self, until: Nanos) -> Option<Heard> {
        loop {
            if let Some(heard) = self.read() {
                return Some(heard);
            }
            let left = until - self.now();
            if left == Nanos::ZERO {
                return None;
            }
            // Whatever woke us: the loop looks again.
            let _ = sys::wait::readable(&[self.tun.as_raw_fd()], left);
        }
    }

    fn wait(&mut self, until: Nanos) {
        std::thread::sleep((until - self.now()).duration());
    }

    fn call(&mut self, call: Call) -> Result<(), Refusal> {
        Ok(self.user.call(call)?)
    }

    fn check(&mut self, check: Check) -> Result<(), String> {
        self.user.check(check)
    }

    fn new_connection(&mut self) {
        self.user.new_connection();
    }
}

/// Brings the namespace's TCP to the rules that scripts are written to.
fn sysctls(c: &Config) -> Vec<(String, String)> {
    let bit = |b: bool| u8::from(b).to_string();
    let seconds = |n: Nanos| n.as_secs_f64().ceil().to_string();
    let fixed = [
        ("tcp_comp_sack_nr", "0"),        // a SACK for every segment
        ("tcp_syn_linear_timeouts", "0"), // back-off from the first SYN on
        ("tcp_no_metrics_save", "1"),
        ("tcp_moderate_rcvbuf", "0"),
        ("tcp_autocorking", "0"),
        ("tcp_fastopen", "0"),
        ("tcp_rfc1337", "1"),
    ];
    let mut all: Vec<(String, String)> = fixed.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let mut put = |key: &str, value: String| all.push((key.to_string(), value));
    let ecn = match c.ecn {
        Ecn::Off => "0",
        Ecn::On => "1",
        Ecn::Accept => "2",
    };
    // Others than this one are chosen by the sockets: a namespace may have it only.
    put("tcp_congestion_control", "reno".into());
    put("tcp_ecn", ecn.into());
    put("tcp_recovery", bit(c.rack));
    put("tcp_early_retrans", if c.tlp { "3".into() } else { "0".into() });
    put("tcp_frto", if c.frto { "2".into() } else { "0".into() });
    put("tcp_dsack", bit(c.dsack));
    put("tcp_timestamps", bit(c.timestamps));
    put("tcp_sack", bit(c.sack));
    put("tcp_window_scaling", bit(c.wscale.is_some()));
    put("tcp_syncookies", if c.cookies { "2".into() } else { "0".into() });
    put("tcp_invalid_ratelimit", c.challenge_spacing.millis().to_string());
    put("tcp_syn_retries", c.syn_retries.to_string());
    put("tcp_synack_retries", c.syn_retries.to_string());
    put("tcp_retries2", c.retries.to_string());
    put("tcp_orphan_retries", c.retries.to_string());
    put("tcp_fin_timeout", seconds(c.fin_wait2));
    put("tcp_rto_min_us", c.rto_min.micros().to_string());
    if let Some((idle, interval, probes)) = c.keepalive {
        put("tcp_keepalive_time", seconds(idle));
        put("tcp_keepalive_intvl", seconds(interval));
        put("tcp_keepalive_probes", probes.to_string());
    }
    all.extend(c.sysctls.iter().cloned());
    all
}

/// Sets a sysctl below `net.ipv4` of the calling thread's namespace. One that this kernel lacks is passed over: what
/// it would switch off is not there either.
fn set_sysctl(name: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/net/ipv4/{}", name.replace('.', "/"));
    match std::fs::write(&path, value) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("sysctl net.ipv4.{name}={value}: {e}")),
        _ => Ok(()),
    }
}

fn local() -> SocketAddrV4 {
    SocketAddrV4::new(LOCAL, LOCAL_PORT)
}

fn remote() -> SocketAddrV4 {
    SocketAddrV4::new(REMOTE, REMOTE_PORT)
}
