//! What the cores have counted, as the metrics page tells it: averages over windows, made by whoever calls [`Publisher::publish`] every 10 ms.
//!
//! The cores know nothing of it: it reads their counters, which have one writer each, and writes the page, which has one writer: itself. It takes its time from its caller,
//! so a simulator's page is as good as a machine's.

use std::sync::atomic::AtomicU64;

use abi::{CorePage, GroupList, PageHeader, PageSched, PageWriter};
use netstack::{Metrics, Shared};
use units::{CoreId, FLOW_GROUPS, FlowGroupId, Nanos};

use crate::sched::{Assist, Sched};

/// The smoothing factors of averages that are told three times. Those that are told once have the first.
const SMOOTHING: [f64; 3] = [0.5, 0.25, 0.125];
/// No average is smaller, but for zero.
const LEAST: f64 = 1e-9;
/// An application call that takes longer is non-responsive (thesis section 2.3.3).
const LONG_CALL: Nanos = Nanos::from_millis(10);

/// What cannot be learnt from a core's counters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Place {
    /// It is parked.
    pub parked: bool,
    /// The kernel's id of its thread.
    pub tid: Option<u32>,
    /// The one hardware thread that it may run on.
    pub cpu: Option<u32>,
}

/// Writes a metrics page.
pub struct Publisher<P> {
    page: PageWriter<P>,
    cores: Vec<Meter>,
    bound: u64,
    last: Nanos,
}

impl<P: AsRef<[AtomicU64]>> Publisher<P> {
    /// Begins a page, in [`abi::page_words`] words that are zero. `None`: there are not so many, or more cores than a page can have.
    pub fn new(words: P, shared: &Shared, sched: Sched, pid: u32, now: Nanos) -> Option<Publisher<P>> {
        let (cores, bound) = (shared.cores(), shared.config().batch.max(1));
        let sched = match sched {
            Sched::Ix => PageSched::Ix,
            Sched::Zygos(Assist::None) => PageSched::ZygosNone,
            Sched::Zygos(Assist::Ipi) => PageSched::ZygosIpi,
            Sched::Zygos(Assist::Lend) => PageSched::ZygosLend,
        };
        let header = PageHeader {
            cores,
            groups: FLOW_GROUPS,
            pid,
            bound: bound as u32,
            sched,
            started: now,
            heartbeat: now,
            published: 0,
        };
        let page = PageWriter::new(words, &header)?;
        let cores = (0..cores).map(|i| Meter::new(shared.metrics(CoreId(i as u16)), now)).collect();
        Some(Publisher { page, cores, bound: bound as u64, last: now })
    }

    /// Closes the window that began with the last call, and tells everybody. Some microseconds per core. `places`: by core; those that are missing are
    /// taken for threads of which nothing is known.
    pub fn publish(&mut self, now: Nanos, shared: &Shared, places: &[Place]) {
        let window = now - self.last;
        if window == Nanos::ZERO {
            return;
        }
        let mut owned = vec![GroupList::default(); self.cores.len()];
        let mut load = [0u64; FLOW_GROUPS];
        for group in (0..FLOW_GROUPS as u16).map(FlowGroupId) {
            if let Some(set) = owned.get_mut(shared.owner(group).index()) {
                set.0.insert(group);
            }
        }
        for (i, (meter, groups)) in self.cores.iter_mut().zip(owned).enumerate() {
            let metrics = shared.metrics(CoreId(i as u16));
            let Place { parked, tid, cpu } = places.get(i).copied().unwrap_or_default();
            meter.close(metrics, window, now, self.bound);
            self.page.core(i, &CorePage { parked, groups, tid, cpu, ..meter.tell(metrics, now) });
            (0..).map(FlowGroupId).zip(&mut load).for_each(|(g, sum)| *sum += metrics.frames_of(g));
        }
        (0..).map(FlowGroupId).zip(load).for_each(|(group, n)| self.page.group(group, n));
        self.page.beat(now);
        self.last = now;
    }
}

/// The counters that averages are made of.
#[derive(Clone, Copy, Default)]
struct Seen {
    frames: u64,
    behind: u64,
    polls: u64,
    ready: u64,
    batches: u64,
    turns: u64,
    busy: u64,
    idle: u64,
    helping: u64,
    helped: u64,
}

/// One core's averages.
struct Meter {
    seen: Seen,
    /// With the part of the present sleep that is over; never goes back.
    slept: u64,
    /// Time in turns, with the present call's part; never goes back.
    busy: u64,
    ready_rate: f64,
    frame_rate: f64,
    depth: [f64; 3],
    batch: f64,
    iteration: f64,
    queueing: f64,
    idle: [f64; 3],
    helping: f64,
    helped: f64,
}

/// Application code of a core: since when, if it runs.
fn in_app(m: &Metrics) -> Option<Nanos> {
    Some(Nanos(m.app_since_ns.get())).filter(|since| since.0 != 0)
}

impl Meter {
    fn new(m: &Metrics, now: Nanos) -> Meter {
        let mut meter = Meter {
            seen: Seen::default(),
            slept: 0,
            busy: 0,
            ready_rate: 0.0,
            frame_rate: 0.0,
            depth: [0.0; 3],
            batch: 0.0,
            iteration: 0.0,
            queueing: 0.0,
            idle: [0.0; 3],
            helping: 0.0,
            helped: 0.0,
        };
        meter.seen = meter.look(m, now);
        meter
    }

    /// The counters as they are; sleeps and calls that are not over count as far as they have got.
    fn look(&mut self, m: &Metrics, now: Nanos) -> Seen {
        // Read before the counter that will have it: in between it may be counted twice, which the next window makes up for.
        let (asleep, called) = (m.sleep_since_ns.get(), in_app(m));
        let sleeping = if asleep == 0 { 0 } else { now.0.saturating_sub(asleep) };
        let calling = called.map_or(0, |since| (now - since).0);
        self.slept = self.slept.max(m.sleep_ns.get() + sleeping);
        self.busy = self.busy.max(m.busy_ns.get() + calling);
        Seen {
            frames: m.rx_frames.get(),
            behind: m.rx_behind.get(),
            polls: m.rx_polls.get(),
            ready: m.batch_conns.get() + m.stolen_conns.get(),
            batches: m.batches.get() + m.steals.get(),
            turns: m.turns_busy.get(),
            busy: self.busy,
            idle: m.idle_ns.get() + self.slept,
            helping: m.helping_ns.get(),
            helped: m.helped_ns.get(),
        }
    }

    fn close(&mut self, m: &Metrics, window: Nanos, now: Nanos, bound: u64) {
        let before = self.seen;
        self.seen = self.look(m, now);
        let since = |of: fn(&Seen) -> u64| of(&self.seen).saturating_sub(of(&before)) as f64;
        let [frames, behind, polls] = [since(|s| s.frames), since(|s| s.behind), since(|s| s.polls)];
        let [ready, batches, turns] = [since(|s| s.ready), since(|s| s.batches), since(|s| s.turns)];
        let [busy, idle] = [since(|s| s.busy), since(|s| s.idle)];
        let [helping, helped] = [since(|s| s.helping), since(|s| s.helped)];
        let (ns, seconds) = (window.0 as f64, window.as_secs_f64());
        let smooth = |average: &mut f64, value: f64| weigh(average, SMOOTHING[0], value);
        smooth(&mut self.ready_rate, ready / seconds);
        smooth(&mut self.frame_rate, frames / seconds);
        smooth(&mut self.helping, helping / ns);
        smooth(&mut self.helped, helped / ns);
        let share = (idle / (busy + idle).max(1.0)).clamp(0.0, 1.0);
        three(&mut self.idle, share);
        if batches > 0.0 {
            smooth(&mut self.batch, ready / batches);
        }
        if turns > 0.0 {
            smooth(&mut self.iteration, busy / turns);
        }
        // A core that has been in one call all the time has not looked, and what it saw before is the latest that is known.
        let away = polls == 0.0 && in_app(m).is_some_and(|since| now - since >= window);
        if !away {
            let depth = if polls > 0.0 { (frames + behind) / polls } else { 0.0 };
            three(&mut self.depth, depth);
            let rounds = (depth / bound as f64).ceil();
            smooth(&mut self.queueing, rounds * self.iteration);
        }
    }

    fn tell(&self, m: &Metrics, now: Nanos) -> CorePage {
        CorePage {
            connections: m.connections(),
            ready_rate_ewma: self.ready_rate,
            frame_rate_ewma: self.frame_rate,
            depth_ewma: self.depth,
            ring_full: m.ring_full.get(),
            batch_ewma: self.batch,
            iteration_ns_ewma: self.iteration,
            queueing_ns_ewma: self.queueing,
            idle_ewma: self.idle,
            helping_ewma: self.helping,
            helped_ewma: self.helped,
            steals: m.steals.get(),
            stolen: m.stolen.get(),
            lends: m.lends.get(),
            lent: m.lent.get(),
            interrupts: m.interrupts.get(),
            non_responsive: m.non_responsive.get(),
            in_app_long: in_app(m).is_some_and(|since| now - since > LONG_CALL),
            drops: m.drops_total(),
            retransmits: m.tcp_retransmits.get(),
            frames_in: m.rx_frames.get(),
            frames_out: m.tx_frames.get(),
            segments_in: m.tcp_segments_in.get() + m.udp_in.get(),
            ready: self.seen.ready,
            turns: self.seen.turns,
            busy_ns: self.busy,
            idle_ns: m.idle_ns.get(),
            sleep_ns: self.slept,
            latency: m.latency(),
            ..CorePage::default()
        }
    }
}

fn three(averages: &mut [f64; 3], value: f64) {
    averages.iter_mut().zip(SMOOTHING).for_each(|(average, factor)| weigh(average, factor, value));
}

/// What is next to nothing is nothing: halved for ever it would become a number that processors are slow with.
fn weigh(average: &mut f64, factor: f64, value: f64) {
    *average += factor * (value - *average);
    if average.abs() < LEAST {
        *average = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Nanos = Nanos::from_millis(10);

    /// A core that is told what it has counted, window by window.
    struct Core {
        metrics: Metrics,
        meter: Meter,
        now: Nanos,
    }

    impl Core {
        fn new() -> Core {
            let metrics = Metrics::default();
            let now = Nanos::from_secs(1);
            Core { meter: Meter::new(&metrics, now), metrics, now }
        }

        fn window(&mut self, counts: impl Fn(&Metrics)) -> CorePage {
            counts(&self.metrics);
            self.now += WINDOW;
            self.meter.close(&self.metrics, WINDOW, self.now, 64);
            self.meter.tell(&self.metrics, self.now)
        }
    }

    #[test]
    fn averages_come_to_what_the_windows_say() {
        let mut core = Core::new();
        let steady = |m: &Metrics| {
            m.rx_frames.add(1000);
            m.rx_behind.add(600);
            m.rx_polls.add(10);
            m.turns_busy.add(10);
            m.batches.add(10);
            m.batch_conns.add(640);
            m.busy_ns.add(8_000_000);
            m.idle_ns.add(2_000_000);
            m.helped_ns.add(5_000_000);
        };
        let first = core.window(steady);
        assert!((first.idle_ewma[0] - 0.1).abs() < 1e-9 && (first.idle_ewma[2] - 0.025).abs() < 1e-9);
        let page = (0..200).map(|_| core.window(steady)).last().unwrap();
        let near = |value: f64, want: f64| assert!((value - want).abs() < want * 1e-6, "{value} instead of {want}");
        page.idle_ewma.iter().for_each(|v| near(*v, 0.2));
        page.depth_ewma.iter().for_each(|v| near(*v, 160.0));
        near(page.batch_ewma, 64.0);
        near(page.iteration_ns_ewma, 800_000.0);
        near(page.queueing_ns_ewma, 3.0 * 800_000.0);
        near(page.ready_rate_ewma, 64_000.0);
        near(page.helped_ewma, 0.5);
        let quiet = (0..100).map(|_| core.window(|m| m.idle_ns.add(10_000_000))).last().unwrap();
        assert!(quiet.depth_ewma[0] < 1e-3 && quiet.idle_ewma[0] > 0.999 && quiet.queueing_ns_ewma < 1.0);
        near(quiet.batch_ewma, 64.0);
    }

    #[test]
    fn a_sleep_and_a_call_count_while_they_last() {
        let mut core = Core::new();
        let asleep = core.now;
        core.metrics.sleep_since_ns.set(asleep.0);
        let page = (0..10).map(|_| core.window(|_| {})).last().unwrap();
        assert!(page.idle_ewma[0] > 0.99 && page.sleep_ns == 100_000_000, "{page:?}");
        // It wakes: what was told of the sleep is not told again.
        core.metrics.sleep_ns.add(100_000_000);
        core.metrics.sleep_since_ns.set(0);
        core.metrics.app_since_ns.set(core.now.0);
        let page = (0..10).map(|_| core.window(|_| {})).last().unwrap();
        assert!(page.idle_ewma[0] < 0.01 && page.sleep_ns == 100_000_000 && page.busy_ns == 100_000_000, "{page:?}");
        assert!(page.in_app_long && page.non_responsive == 0);
        core.metrics.app_since_ns.set(0);
        core.metrics.busy_ns.add(100_000_000);
        let page = core.window(|m| m.idle_ns.add(10_000_000));
        assert!(!page.in_app_long && page.busy_ns == 100_000_000);
    }

    #[test]
    fn a_core_that_is_away_is_not_taken_for_one_with_an_empty_queue() {
        let mut core = Core::new();
        let busy = |m: &Metrics| {
            m.rx_frames.add(640);
            m.rx_polls.add(10);
            m.turns_busy.add(10);
            m.busy_ns.add(10_000_000);
        };
        (0..100).for_each(|_| drop(core.window(busy)));
        core.metrics.app_since_ns.set(core.now.0);
        let page = (0..100).map(|_| core.window(|_| {})).last().unwrap();
        assert!(page.depth_ewma[0] > 63.0, "{page:?}");
    }
}
