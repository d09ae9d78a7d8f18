use std::sync::Arc;

use abi::{Answer, Command, CoreInfo, Counters, Dump, GroupList, Hello, MoveInfo, Refusal, Reply};
use dataplane::{Controller, MoveError, Report};
use netstack::{DropReason, Shared};
use sys::SysError;
use units::CoreId;

use crate::pages::only_cpu;

/// Carries out commands.
pub(crate) struct Orders {
    hello: Hello,
    controller: Controller,
    shared: Arc<Shared>,
    tids: Arc<[u32]>,
    /// What the process may use: where a thread goes that is not to be pinned any more.
    allowed: Vec<usize>,
}

impl Orders {
    pub(crate) fn new(
        hello: Hello,
        controller: Controller,
        shared: Arc<Shared>,
        tids: Arc<[u32]>,
    ) -> Result<Orders, SysError> {
        Ok(Orders { hello, controller, shared, tids, allowed: sys::thread::allowed_cores()? })
    }

    /// Waits until it is done: for moves, some milliseconds.
    pub(crate) fn carry_out(&self, command: &Command) -> Reply {
        let moved = |done: Result<Vec<Report>, MoveError>| match done {
            Ok(reports) => Reply::Ok(Answer::Moved(reports.iter().map(info).collect())),
            Err(e) => Reply::Error(Refusal { code: code(&e).into(), text: e.to_string() }),
        };
        match *command {
            Command::Hello => Reply::Ok(Answer::Hello(self.hello.clone())),
            Command::Cores => Reply::Ok(Answer::Cores(self.cores())),
            Command::Groups => Reply::Ok(Answer::Groups(self.groups())),
            Command::Move { groups, to } => moved(self.controller.move_groups(groups.0, CoreId(to))),
            Command::Park { core } => moved(self.controller.park(CoreId(core))),
            Command::Unpark { core, more } => moved(self.controller.unpark(CoreId(core), more.into())),
            Command::Pin { core, cpu } => self.pin(core, cpu),
            Command::Dump => Reply::Ok(Answer::Dump(Box::new(self.dump()))),
            Command::Log => Reply::Ok(Answer::Log(self.log())),
        }
    }

    fn cores(&self) -> Vec<CoreInfo> {
        let core = |state: dataplane::CoreState| {
            let tid = self.tids.get(state.core.index()).copied();
            CoreInfo {
                core: state.core.0,
                parked: state.parked,
                groups: GroupList(state.groups),
                tid,
                cpu: tid.and_then(only_cpu),
            }
        };
        self.controller.cores().into_iter().map(core).collect()
    }

    fn groups(&self) -> Vec<u16> {
        self.controller.groups().into_iter().map(|owner| owner.0).collect()
    }

    fn log(&self) -> Vec<MoveInfo> {
        self.controller.log().iter().map(info).collect()
    }

    fn pin(&self, core: u16, cpu: Option<u32>) -> Reply {
        let Some(&tid) = self.tids.get(usize::from(core)) else {
            let e = MoveError::NoSuchCore(CoreId(core));
            return Reply::Error(Refusal { code: code(&e).into(), text: e.to_string() });
        };
        let done = match cpu {
            Some(cpu) => sys::thread::pin_other(tid, &[cpu as usize]),
            None => sys::thread::pin_other(tid, &self.allowed),
        };
        match done {
            Ok(()) => Reply::Ok(Answer::Pinned),
            Err(e) => Reply::Error(Refusal { code: "pin".into(), text: e.to_string() }),
        }
    }

    fn dump(&self) -> Dump {
        let counters = |core: usize| {
            let metrics = self.shared.metrics(CoreId(core as u16));
            let drops = DropReason::ALL.iter().map(|&why| (why.label().to_owned(), metrics.drops(why)));
            Counters {
                counted: metrics.named().map(|(name, n)| (name.to_owned(), n)).collect(),
                drops: drops.filter(|(_, n)| *n > 0).collect(),
            }
        };
        Dump {
            hello: self.hello.clone(),
            cores: self.cores(),
            groups: self.groups(),
            counters: (0..self.shared.cores()).map(counters).collect(),
            log: self.log(),
        }
    }
}

fn info(report: &Report) -> MoveInfo {
    MoveInfo {
        from: report.from.0,
        to: report.to.0,
        groups: GroupList(report.groups),
        prepare_ns: report.prepare.0,
        wait_ns: report.wait.0,
        rpc_ns: report.rpc.0,
        deferred_ns: report.deferred.0,
        total_ns: report.total.0,
        packets: report.packets,
        forwarded: GroupList(report.forwarded),
    }
}

fn code(e: &MoveError) -> &'static str {
    match e {
        MoveError::NoSuchCore(_) => "no-such-core",
        MoveError::NoGroups => "no-groups",
        MoveError::SameCore(_) => "same-core",
        MoveError::Parked(_) => "parked",
        MoveError::NotParked(_) => "not-parked",
        MoveError::LastCore => "last-core",
        MoveError::InProgress => "in-progress",
        MoveError::TimedOut(_) => "timed-out",
        MoveError::Stopped => "stopped",
    }
}
