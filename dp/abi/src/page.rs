//! The metrics page: what a dataplane shows of itself to whoever it gives the page to, ten times in a tenth of a second.
//!
//! ```text
//!   word 0                       16               16 + groups
//!   | header                      | load per group  | core 0                      | core 1 ...
//!     magic version cores groups    frames so far     sequence, then its fields
//!     pid bound sched heartbeat ..
//! ```
//!
//! An array of 64-bit words in shared memory. The dataplane alone writes, one thread of it; it never reads what it wrote, so nothing that happens to the page can harm it.
//! Readers take no locks. A core's block is guarded by a sequence word: odd while it is written, and another value after. A reader that
//! saw the same even value before and after has a consistent copy; else it tries again. Single words of the header and of the groups need no guard.
//!
//! A reader believes nothing: a page of another program, another version or another size is a [`PageError`], and any bits are some value of each field.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use serde::Serialize;
use units::{FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};

use crate::{GroupList, LATENCY_BUCKETS, LatencyHistogram};

/// `zygixpag`.
const MAGIC: u64 = u64::from_be_bytes(*b"zygixpag");
/// Of the layout below. A field added, removed or moved makes it another.
pub const PAGE_VERSION: u64 = 1;
/// Words of the header.
const HEADER: usize = 16;
/// Cores at most: what `serve --cores` takes.
pub const PAGE_CORES: usize = 128;
/// How often the dataplane writes.
pub const PAGE_PERIOD: Nanos = Nanos::from_millis(10);
/// A page whose heartbeat is older belongs to a dataplane that does not run (or does not get to).
pub const PAGE_STALE: Nanos = Nanos::from_secs(1);
/// How often a reader tries to get a consistent copy of a core. Writing one takes about a microsecond in ten milliseconds.
const TRIES: usize = 1000;

/// Words that somebody else may be writing.
pub trait PageWords {
    /// How many there are.
    fn count(&self) -> usize;
    /// Word `at`, which is below [`PageWords::count`]: a load with acquire ordering.
    fn load(&self, at: usize) -> u64;
}

impl PageWords for [AtomicU64] {
    fn count(&self) -> usize {
        self.len()
    }

    fn load(&self, at: usize) -> u64 {
        self[at].load(Ordering::Acquire)
    }
}

/// What is said of the whole dataplane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PageHeader {
    /// Elastic threads.
    pub cores: usize,
    /// Flow groups.
    pub groups: usize,
    /// The process.
    pub pid: u32,
    /// B: at most so many frames and connections in a turn.
    pub bound: u32,
    /// Which core runs what.
    pub sched: PageSched,
    /// When it began, on the monotonic clock.
    #[serde(serialize_with = "as_ns")]
    pub started: Nanos,
    /// When it wrote last, on the monotonic clock.
    #[serde(serialize_with = "as_ns")]
    pub heartbeat: Nanos,
    /// How often it has written.
    pub published: u64,
}

/// Which core runs what, as it stands in the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u64)]
pub enum PageSched {
    /// Partitioned.
    Ix,
    /// Work-conserving, without assistance.
    ZygosNone,
    /// Work-conserving, with interrupts.
    ZygosIpi,
    /// Work-conserving, with lending.
    ZygosLend,
}

impl PageSched {
    const ALL: [PageSched; 4] = [PageSched::Ix, PageSched::ZygosNone, PageSched::ZygosIpi, PageSched::ZygosLend];

    /// Whether idle cores steal.
    pub fn steals(self) -> bool {
        self != PageSched::Ix
    }
}

/// Why a page cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageError {
    /// It is not one of a dataplane.
    Foreign,
    /// It is of another version: this one.
    Version(u64),
    /// It says of itself what cannot be.
    Nonsense,
    /// It is smaller than it says.
    Truncated {
        /// Words that there are.
        have: usize,
        /// Words that there should be.
        want: usize,
    },
    /// A core's block was being written at every look: whoever writes has ended in the middle of it.
    Torn(usize),
}

impl std::fmt::Display for PageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PageError::Foreign => write!(f, "this is no metrics page of a dataplane"),
            PageError::Version(v) => {
                write!(
                    f,
                    "the metrics page has version {v}, this program reads {PAGE_VERSION}: use the zygix that serves"
                )
            }
            PageError::Nonsense => write!(f, "the metrics page describes a dataplane that cannot be"),
            PageError::Truncated { have, want } => write!(f, "the metrics page has {have} words instead of {want}"),
            PageError::Torn(core) => {
                write!(f, "what the page says of core {core} was never finished: the dataplane has ended in the middle")
            }
        }
    }
}

impl std::error::Error for PageError {}

/// A value of one or more words of the page.
trait Field: Sized {
    const WORDS: usize;
    fn put(&self, put: &mut dyn FnMut(u64));
    fn get(next: &mut dyn FnMut() -> u64) -> Self;
}

impl Field for u64 {
    const WORDS: usize = 1;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        put(*self);
    }
    fn get(next: &mut dyn FnMut() -> u64) -> u64 {
        next()
    }
}

impl Field for bool {
    const WORDS: usize = 1;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        put((*self).into());
    }
    fn get(next: &mut dyn FnMut() -> u64) -> bool {
        next() != 0
    }
}

/// One more than the number; 0: none.
impl Field for Option<u32> {
    const WORDS: usize = 1;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        put(self.map_or(0, |n| u64::from(n) + 1));
    }
    fn get(next: &mut dyn FnMut() -> u64) -> Option<u32> {
        next().checked_sub(1).and_then(|n| u32::try_from(n).ok())
    }
}

/// Its bits. Whoever reads gets no infinity and no NaN, whatever the bits are.
impl Field for f64 {
    const WORDS: usize = 1;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        put(self.to_bits());
    }
    fn get(next: &mut dyn FnMut() -> u64) -> f64 {
        Some(f64::from_bits(next())).filter(|v| v.is_finite()).unwrap_or(0.0)
    }
}

impl Field for [f64; 3] {
    const WORDS: usize = 3;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        self.iter().for_each(|v| v.put(put));
    }
    fn get(next: &mut dyn FnMut() -> u64) -> [f64; 3] {
        [(); 3].map(|()| f64::get(next))
    }
}

impl Field for GroupList {
    const WORDS: usize = 2;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        self.0.to_words().into_iter().for_each(put);
    }
    fn get(next: &mut dyn FnMut() -> u64) -> GroupList {
        GroupList(GroupSet::from_words([next(), next()]))
    }
}

impl Field for LatencyHistogram {
    const WORDS: usize = LATENCY_BUCKETS;
    fn put(&self, put: &mut dyn FnMut(u64)) {
        self.counts().iter().copied().for_each(put);
    }
    fn get(next: &mut dyn FnMut() -> u64) -> LatencyHistogram {
        LatencyHistogram::of((0..LATENCY_BUCKETS).map(|_| next()))
    }
}

macro_rules! core_page {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty,)+) => {
        /// What a dataplane says of one core. Averages (`_ewma`) are exponentially weighted over windows of [`PAGE_PERIOD`]; where there are three, by 0.5, 0.25
        /// and 0.125 for the latest window. Counts are since the start: readers take differences.
        #[derive(Clone, PartialEq, Debug, Default, Serialize)]
        pub struct CorePage {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        /// Words of a core's block: the sequence word, and its fields in order.
        const CORE: usize = 1 $(+ <$type as Field>::WORDS)+;

        impl CorePage {
            fn put(&self, put: &mut dyn FnMut(u64)) {
                $(self.$name.put(put);)+
            }

            fn get(next: &mut dyn FnMut() -> u64) -> CorePage {
                CorePage { $($name: Field::get(next),)+ }
            }
        }
    };
}

core_page! {
    /// It owns no flow group, and sleeps.
    parked: bool,
    /// The flow groups that it owns.
    groups: GroupList,
    /// The kernel's id of its thread; none in a simulation.
    tid: Option<u32>,
    /// The hardware thread that it is pinned to; none: it floats.
    cpu: Option<u32>,
    /// Connections of its flow groups, half-open ones not counted.
    connections: u64,
    /// Ready connections and datagrams given to the application, per second.
    ready_rate_ewma: f64,
    /// Frames received, per second.
    frame_rate_ewma: f64,
    /// Frames that a poll which found any found waiting (the queue depth Q): those taken, and those left behind where the NIC can tell.
    depth_ewma: [f64; 3],
    /// Polls that found at least as many frames as they may take: what was behind these is known only where the NIC can tell.
    ring_full: u64,
    /// Connections and datagrams of a batch.
    batch_ewma: f64,
    /// What a turn that found something to do took, in ns.
    iteration_ns_ewma: f64,
    /// What a frame waits that comes to the end of the queue, in ns: ceil(Q / B) iterations.
    queueing_ns_ewma: f64,
    /// Share of time that it polled for nothing or slept.
    idle_ewma: [f64; 3],
    /// Share of time in turns that ran another core's connections.
    helping_ewma: f64,
    /// Share of time (of another core) that others ran this core's connections: may exceed 1.
    helped_ewma: f64,
    /// Slips taken from other cores.
    steals: u64,
    /// Slips of this core that others ran.
    stolen: u64,
    /// Network passes that it did in other cores' stead.
    lends: u64,
    /// Network passes that others did in its stead.
    lent: u64,
    /// Interrupts that found it in application code.
    interrupts: u64,
    /// Application calls of more than 10 ms, once they are over.
    non_responsive: u64,
    /// It is in application code now, and has been for more than 10 ms.
    in_app_long: bool,
    /// Frames dropped, for whatever reason.
    drops: u64,
    /// TCP segments sent again.
    retransmits: u64,
    /// Frames received.
    frames_in: u64,
    /// Frames sent.
    frames_out: u64,
    /// TCP segments for known connections, and datagrams.
    segments_in: u64,
    /// Connections and datagrams given to the application: in a service of questions and answers the requests, but several that came together count once.
    ready: u64,
    /// Turns that found something to do.
    turns: u64,
    /// Time in turns that found something to do.
    busy_ns: u64,
    /// Time polling for nothing.
    idle_ns: u64,
    /// Time asleep.
    sleep_ns: u64,
    /// From the poll that received a request to the end of the turn that answered it, per connection or datagram given to the application. What waits in the
    /// NIC's ring does so before.
    latency: LatencyHistogram,
}

/// How many words the page of a dataplane with `cores` cores has.
pub const fn page_words(cores: usize) -> usize {
    HEADER + FLOW_GROUPS + cores * CORE
}

/// Words of the header.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const CORES: usize = 2;
    pub(super) const GROUPS: usize = 3;
    pub(super) const PID: usize = 4;
    pub(super) const BOUND: usize = 5;
    pub(super) const SCHED: usize = 6;
    pub(super) const STARTED: usize = 7;
    pub(super) const HEARTBEAT: usize = 8;
    pub(super) const PUBLISHED: usize = 9;
}

/// The one writer of a page.
#[derive(Debug)]
pub struct PageWriter<P> {
    words: P,
    published: u64,
}

impl<P: AsRef<[AtomicU64]>> PageWriter<P> {
    /// Writes the header of a new page. `None`: there are fewer words than [`page_words`], or more cores than [`PAGE_CORES`].
    pub fn new(words: P, header: &PageHeader) -> Option<PageWriter<P>> {
        if header.cores > PAGE_CORES || words.as_ref().len() < page_words(header.cores) {
            return None;
        }
        let put = |at: usize, value: u64| words.as_ref()[at].store(value, Ordering::Relaxed);
        put(at::VERSION, PAGE_VERSION);
        put(at::CORES, header.cores as u64);
        put(at::GROUPS, FLOW_GROUPS as u64);
        put(at::PID, header.pid.into());
        put(at::BOUND, header.bound.into());
        put(at::SCHED, header.sched as u64);
        put(at::STARTED, header.started.0);
        put(at::HEARTBEAT, header.heartbeat.0);
        // Last: until then it is nobody's page.
        words.as_ref()[at::MAGIC].store(MAGIC, Ordering::Release);
        Some(PageWriter { words, published: 0 })
    }

    /// Writes what is to be said of a core; one that does not exist is left out.
    pub fn core(&self, core: usize, page: &CorePage) {
        let Some(block) = self.words.as_ref().get(HEADER + FLOW_GROUPS + core * CORE..).and_then(|w| w.get(..CORE))
        else {
            return;
        };
        let (sequence, fields) = (&block[0], &block[1..]);
        let before = sequence.load(Ordering::Relaxed);
        sequence.store(before.wrapping_add(1) | 1, Ordering::Relaxed);
        // No field is seen before the odd number is: pairs with the reader's fence.
        fence(Ordering::Release);
        let mut places = fields.iter();
        page.put(&mut |value| {
            if let Some(place) = places.next() {
                place.store(value, Ordering::Relaxed);
            }
        });
        sequence.store((before.wrapping_add(1) | 1).wrapping_add(1), Ordering::Release);
    }

    /// Writes how many frames have come for a flow group so far.
    pub fn group(&self, group: FlowGroupId, load: u64) {
        if group.index() < FLOW_GROUPS {
            self.words.as_ref()[HEADER + group.index()].store(load, Ordering::Relaxed);
        }
    }

    /// Everything has been written once more.
    pub fn beat(&mut self, now: Nanos) {
        self.published += 1;
        self.words.as_ref()[at::PUBLISHED].store(self.published, Ordering::Relaxed);
        self.words.as_ref()[at::HEARTBEAT].store(now.0, Ordering::Release);
    }
}

/// A page that has been found to be one.
#[derive(Debug)]
pub struct PageReader<P> {
    words: P,
    cores: usize,
}

impl<P: PageWords> PageReader<P> {
    /// Looks at the header.
    ///
    /// # Errors
    /// It is of something else, of another version, or not all there.
    pub fn new(words: P) -> Result<PageReader<P>, PageError> {
        let have = words.count();
        if have == 0 || words.load(at::MAGIC) != MAGIC {
            return Err(PageError::Foreign);
        }
        if have < HEADER {
            return Err(PageError::Truncated { have, want: HEADER });
        }
        let version = words.load(at::VERSION);
        if version != PAGE_VERSION {
            return Err(PageError::Version(version));
        }
        let cores = usize::try_from(words.load(at::CORES)).unwrap_or(usize::MAX);
        let sched = usize::try_from(words.load(at::SCHED)).unwrap_or(usize::MAX);
        if !(1..=PAGE_CORES).contains(&cores)
            || words.load(at::GROUPS) != FLOW_GROUPS as u64
            || sched >= PageSched::ALL.len()
        {
            return Err(PageError::Nonsense);
        }
        let want = page_words(cores);
        if have < want {
            return Err(PageError::Truncated { have, want });
        }
        Ok(PageReader { words, cores })
    }

    /// What is said of the whole.
    pub fn header(&self) -> PageHeader {
        let small = |at: usize| u32::try_from(self.words.load(at)).unwrap_or(u32::MAX);
        let sched = usize::try_from(self.words.load(at::SCHED)).ok().and_then(|n| PageSched::ALL.get(n));
        PageHeader {
            cores: self.cores,
            groups: FLOW_GROUPS,
            pid: small(at::PID),
            bound: small(at::BOUND),
            sched: sched.copied().unwrap_or(PageSched::Ix),
            started: Nanos(self.words.load(at::STARTED)),
            heartbeat: Nanos(self.words.load(at::HEARTBEAT)),
            published: self.words.load(at::PUBLISHED),
        }
    }

    /// A consistent copy of what is said of a core.
    ///
    /// # Errors
    /// [`PageError::Torn`]; there is no such core: [`PageError::Nonsense`].
    pub fn core(&self, core: usize) -> Result<CorePage, PageError> {
        if core >= self.cores {
            return Err(PageError::Nonsense);
        }
        let first = HEADER + FLOW_GROUPS + core * CORE;
        for _ in 0..TRIES {
            let before = self.words.load(first);
            if before & 1 == 0 {
                let mut next = first;
                let page = CorePage::get(&mut || {
                    next += 1;
                    self.words.load(next)
                });
                fence(Ordering::Acquire);
                if self.words.load(first) == before {
                    return Ok(page);
                }
            }
            std::thread::yield_now();
        }
        Err(PageError::Torn(core))
    }

    /// Frames that have come for each flow group so far.
    pub fn group_load(&self) -> Vec<u64> {
        (0..FLOW_GROUPS).map(|g| self.words.load(HEADER + g)).collect()
    }
}

fn as_ns<S: serde::Serializer>(at: &Nanos, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(at.0)
}

#[cfg(test)]
mod tests;
