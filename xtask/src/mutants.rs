//! The table of mutations: one line of the shuffle layer each, and the promise that it breaks.

/// A line, broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// Relative to the root.
    pub(crate) file: &'static str,
    /// The line as it is, with as many around it as make it the only one in its file.
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
    /// What does not hold any more.
    pub(crate) breaks: &'static str,
}

const ZYGOS: &str = "dp/dataplane/src/zygos.rs";
const STATION: &str = "dp/dataplane/src/station.rs";
const SLIPS: &str = "dp/netstack/src/slips.rs";
const SYSCALLS: &str = "dp/netstack/src/syscalls.rs";
const STACK: &str = "dp/netstack/src/stack.rs";
const STATE: &str = "dp/shuffle/src/state.rs";

/// All of them, by the way of a connection: ready, offered, run, home again. Not here, for virtual time does not show it: that who lets go of a network layer looks
/// at what was left meanwhile (`Station::release`). Somebody else looks soon enough in a simulated world.
pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "lifo-ready-queue",
        file: STACK,
        right: "let Some(id) = self.ready.pop_front() else { break };",
        wrong: "let Some(id) = self.ready.pop_back() else { break };",
        breaks: "first come, first served: what is ready longest is offered last",
    },
    Mutant {
        name: "dispatched-while-busy",
        file: STATE,
        right: "(Phase::Busy, Step::News) => Some(Phase::Busy),",
        wrong: "(Phase::Busy, Step::News) => Some(Phase::Ready),",
        breaks: "a connection is in one batch at a time, so its handlers keep their order",
    },
    Mutant {
        name: "place-not-moved",
        file: SLIPS,
        right: "conn.place = into.entries.len() as u16;",
        wrong: "conn.place = 0;",
        breaks: "a connection that its home takes back from an offer is found in the batch that it is in now",
    },
    Mutant {
        name: "offers-not-taken-back",
        file: SLIPS,
        right: "        while work.len() < max\n            && let",
        wrong: "        while work.len() > max\n            && let",
        breaks: "what nobody steals is run by its home",
    },
    Mutant {
        name: "offers-taken-back-are-lost",
        file: SLIPS,
        right: "            self.slips.narrow.push(narrow);\n",
        wrong: "",
        breaks: "a slip that its home takes back from the offers is free again",
    },
    Mutant {
        name: "nothing-offered",
        file: ZYGOS,
        right: "let offered = if drawn.is_some() { stack.offer(most, self.pace.each()) } else { 0 };",
        wrong: "let offered = if drawn.is_none() { stack.offer(most, self.pace.each()) } else { 0 };",
        breaks: "what is ready behind a batch is offered before the batch runs",
    },
    Mutant {
        name: "nobody-lends",
        file: STATION,
        right: "            Some(_) if self.each.load(Relaxed) <= 1 => Nanos::ZERO,\n            Some(since) => since + BATCH + Nanos(1),",
        wrong: "            Some(_) => Nanos::MAX,",
        breaks: "the network layer of a core in application code is seen to by idle ones",
    },
    Mutant {
        name: "stolen-work-brought-to-the-thief",
        file: ZYGOS,
        right: "let lends = self.sched() == Sched::Zygos(Assist::Lend);\n        let station = &self.crew.stations[victim];",
        wrong: "let lends = self.sched() == Sched::Zygos(Assist::Lend);\n        let station = &self.crew.stations[self.own];",
        breaks: "syscalls are carried out at the connection's home",
    },
    Mutant {
        name: "lost-wake-up",
        file: ZYGOS,
        right: "_ if !lends => self.shared().wake(station.core()),",
        wrong: "_ if !lends => {}",
        breaks: "without lending, a home is woken for what comes back to it",
    },
    Mutant {
        name: "no-look-after-giving-back",
        file: STATION,
        right: "        if collect {\n",
        wrong: "        if collect && now == Nanos::ZERO {\n",
        breaks: "who gives work back carries it out, unless somebody is at it who will see it",
    },
    Mutant {
        name: "only-the-last-slip-of-several",
        file: SLIPS,
        right: "shuffle.returned(|slip| back.push_back(slip));",
        wrong: "shuffle.returned(|slip| (back.clear(), back.push_back(slip)).1);",
        breaks: "all slips that come home together are carried out",
    },
    Mutant {
        name: "a-slip-not-carried-out",
        file: SLIPS,
        right: "            self.complete(now, &mut work);\n            if work.has_left() {",
        wrong: "            if work.has_left() {",
        breaks: "the syscalls on a slip are carried out",
    },
    Mutant {
        name: "slips-not-filed",
        file: SLIPS,
        right: "        self.file(slip);\n",
        wrong: "",
        breaks: "a slip that has come home is free again",
    },
    Mutant {
        name: "re-arm-dropped",
        file: SYSCALLS,
        right: "if conn.phase.step(if conn.has_news() { Step::CompletedWithNews } else { Step::Completed }) {",
        wrong: "if conn.phase.step(Step::Completed) {",
        breaks: "a connection with news that came while it was busy is ready again",
    },
    Mutant {
        name: "news-while-busy-not-looked-for",
        file: SYSCALLS,
        right: "if conn.owner == Owner::Gone || conn.has_news() {",
        wrong: "if conn.owner == Owner::Gone {",
        breaks: "the same, where the usual case is done without the table's help",
    },
    Mutant {
        name: "the-end-told-and-forgotten",
        file: SYSCALLS,
        right: "        if told_dead {\n",
        wrong: "        if told_dead && conn.cookie != conn.cookie {\n",
        breaks: "a connection whose end has been told is given back",
    },
    Mutant {
        name: "replies-not-flushed",
        file: STATION,
        right: "let deadline = stack.transmit(now);",
        wrong: "let deadline = Nanos::MAX;",
        breaks: "replies of stolen work leave without their home",
    },
    Mutant {
        name: "home-replies-not-flushed",
        file: ZYGOS,
        right: "        stack.finish(now, slip, work);\n        let deadline = stack.egress(now, arena);",
        wrong: "        stack.finish(now, slip, work);\n        let (deadline, _) = (Nanos::MAX, arena);",
        breaks: "replies of the home's own batch leave when it is over",
    },
    Mutant {
        name: "due-lost",
        file: STATION,
        right: "self.due(if stack.has_returned() || stack.ready() > 0 { now } else { deadline });",
        wrong: "let _ = deadline;",
        breaks: "who helped a home notes when its network layer has to run again",
    },
    Mutant {
        name: "timers-of-a-home-forgotten",
        file: STATION,
        right: "        stack.run_timers(now, LEND);\n",
        wrong: "",
        breaks: "a pass on behalf of a home works off its timers",
    },
];
