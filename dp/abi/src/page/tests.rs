use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::*;

#[derive(Clone)]
struct Shared(Arc<Vec<AtomicU64>>);

impl Shared {
    fn new(words: usize) -> Shared {
        Shared(Arc::new((0..words).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl AsRef<[AtomicU64]> for Shared {
    fn as_ref(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl PageWords for Shared {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn load(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Acquire)
    }
}

fn header(cores: usize) -> PageHeader {
    PageHeader {
        cores,
        groups: FLOW_GROUPS,
        pid: 4711,
        bound: 64,
        sched: PageSched::ZygosLend,
        started: Nanos(5),
        heartbeat: Nanos(6),
        published: 0,
    }
}

/// A page all of whose numbers follow from one.
fn page(n: u64) -> CorePage {
    CorePage {
        parked: n.is_multiple_of(2),
        groups: GroupList(GroupSet::from_words([n, n])),
        tid: Some(n as u32),
        depth_ewma: [n as f64; 3],
        ring_full: n,
        busy_ns: n,
        sleep_ns: n,
        latency: LatencyHistogram::of((0..LATENCY_BUCKETS).map(|_| n)),
        ..CorePage::default()
    }
}

#[test]
fn what_is_written_is_read() {
    let words = Shared::new(page_words(2));
    let mut writer = PageWriter::new(words.clone(), &header(2)).unwrap();
    writer.core(1, &page(12));
    writer.core(7, &page(1));
    writer.group(FlowGroupId(127), 99);
    writer.group(FlowGroupId(128), 1);
    writer.beat(Nanos(77));
    let reader = PageReader::new(words).unwrap();
    let header = PageHeader { heartbeat: Nanos(77), published: 1, ..header(2) };
    assert_eq!(reader.header(), header);
    assert_eq!((reader.core(0), reader.core(1)), (Ok(CorePage::default()), Ok(page(12))));
    assert_eq!(reader.core(2), Err(PageError::Nonsense));
    let load = reader.group_load();
    assert_eq!((load.len(), load[127], load.iter().sum::<u64>()), (FLOW_GROUPS, 99, 99));
}

#[test]
fn a_copy_is_of_one_moment() {
    let words = Shared::new(page_words(1));
    let writer = PageWriter::new(words.clone(), &header(1)).unwrap();
    writer.core(0, &page(0));
    let reader = PageReader::new(words).unwrap();
    std::thread::scope(|s| {
        let writing = s.spawn(|| (1..=20_000).for_each(|n| writer.core(0, &page(n))));
        let mut last = 0;
        while !writing.is_finished() {
            // Written without a pause, it may be torn at all of the looks: that is an answer, a mixture is none.
            match reader.core(0) {
                Ok(seen) => {
                    assert_eq!(seen, page(seen.ring_full));
                    assert!(seen.ring_full >= last, "older than what was seen before");
                    last = seen.ring_full;
                }
                Err(e) => assert_eq!(e, PageError::Torn(0)),
            }
        }
    });
    assert_eq!(reader.core(0), Ok(page(20_000)));
}

#[test]
fn a_page_is_not_believed() {
    let check = |words: &Shared| PageReader::new(words.clone()).map(|_| ()).unwrap_err();
    assert_eq!(check(&Shared::new(0)), PageError::Foreign);
    assert_eq!(check(&Shared::new(1000)), PageError::Foreign);
    let good = Shared::new(page_words(2));
    PageWriter::new(good.clone(), &header(2)).unwrap();
    let with = |at: usize, value: u64, len: usize| {
        let copy = Shared(Arc::new(good.0[..len].iter().map(|w| AtomicU64::new(w.load(Relaxed))).collect()));
        copy.0[at].store(value, Relaxed);
        check(&copy)
    };
    let all = good.0.len();
    assert_eq!(with(at::VERSION, PAGE_VERSION + 1, all), PageError::Version(PAGE_VERSION + 1));
    for cores in [0, PAGE_CORES as u64 + 1, u64::MAX] {
        assert_eq!(with(at::CORES, cores, all), PageError::Nonsense);
    }
    assert_eq!(with(at::CORES, 3, all), PageError::Truncated { have: all, want: page_words(3) });
    assert_eq!(with(at::GROUPS, 64, all), PageError::Nonsense);
    assert_eq!(with(at::SCHED, 4, all), PageError::Nonsense);
    assert_eq!(with(at::PID, 1, HEADER - 1), PageError::Truncated { have: HEADER - 1, want: HEADER });
    assert_eq!(with(at::PID, 1, all - 1), PageError::Truncated { have: all - 1, want: all });
    assert!(PageWriter::new(Shared::new(page_words(2) - 1), &header(2)).is_none());
    assert!(PageWriter::new(Shared::new(page_words(200)), &header(200)).is_none());
}

#[test]
fn a_writer_that_died_while_writing_and_any_bits_are_borne() {
    let words = Shared::new(page_words(1));
    PageWriter::new(words.clone(), &header(1)).unwrap();
    let reader = PageReader::new(words.clone()).unwrap();
    words.0[HEADER + FLOW_GROUPS].store(3, Relaxed);
    assert_eq!(reader.core(0), Err(PageError::Torn(0)));
    words.0[at::MAGIC + 4..].iter().for_each(|w| w.store(u64::MAX - 1, Relaxed));
    let core = reader.core(0).unwrap();
    assert!(core.depth_ewma.iter().all(|v| v.is_finite()) && core.cpu.is_none());
    assert_eq!((reader.header().pid, reader.header().sched), (u32::MAX, PageSched::Ix));
    let _ = (core.latency.total(), core.latency.quantile(0.99), core.latency.above(Nanos(1)));
}
