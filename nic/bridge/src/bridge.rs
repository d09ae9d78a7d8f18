use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use mem::{Pool, Room};
use nic::{Depths, Faults, Impairment, Line, Passed, Queue, RxFrame, RxPools, TxFrame};
use sys::clock;
use sys::wait::{self, EventFd};
use units::Nanos;

/// Buffers for frames under way, both ways together.
const BUFFERS: u32 = 8192;
/// Bytes of a buffer: a frame with the usual MTU.
const BUFFER: u32 = 2048;
/// Frames taken from a queue at a time.
const BURST: usize = 64;
/// Pieces that a frame may lie in.
const PIECES: usize = 8;
/// How long it sleeps where nothing is due and a queue cannot wake it.
const LOOK: Nanos = Nanos::from_micros(100);
/// No sleep is longer, so that new faults are noticed.
const NAP: Nanos = Nanos::from_millis(50);

/// Two queues joined by two impaired directions: a to b is number 0, b to a number 1.
pub struct Bridge<A, B> {
    a: A,
    b: B,
    pools: RxPools,
    burst: Vec<RxFrame>,
    lines: [Line<RxFrame>; 2],
    ways: Arc<Ways>,
}

/// What the owner shares with the thread that moves frames. Locked once a burst.
type Ways = Mutex<[Impairment; 2]>;

/// What became of the frames of both directions so far.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counts, a to b and b to a.
    pub passed: [Passed; 2],
    /// How full their queues were.
    pub depths: [Depths; 2],
}

/// What a [`Bridge::pump`] has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pumped {
    /// Frames taken from both queues.
    pub took: usize,
    /// When the next one that is under way comes out.
    pub due: Option<Nanos>,
}

impl<A: Queue, B: Queue> Bridge<A, B> {
    /// Joins two queues, with the faults of each direction; their dice are thrown by `seed`.
    ///
    /// # Errors
    /// A queue receives super-frames; no memory.
    pub fn new(a: A, b: B, faults: [Faults; 2], seed: u64) -> io::Result<Bridge<A, B>> {
        for caps in [a.caps(), b.caps()] {
            if caps.large_rx {
                let why = format!("{}: open it without offloads: a super-frame would be lost as one", caps.name);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        let pool = |n| Pool::new(Room::Received, n, BUFFER).map_err(io::Error::other);
        Ok(Bridge {
            a,
            b,
            pools: RxPools { mbufs: pool(BUFFERS)?, spills: pool(1)? },
            burst: Vec::with_capacity(BURST),
            lines: [Line::new(), Line::new()],
            ways: Arc::new(Mutex::new(impairments(faults, seed))),
        })
    }

    /// Takes what has come at `now`, at most 64 frames of each queue, and sends what is due.
    pub fn pump(&mut self, now: Nanos) -> Pumped {
        let Bridge { a, b, pools, burst, lines: [there, back], ways } = self;
        let mut ways = lock(ways);
        let [to_b, to_a] = &mut *ways;
        let took = take(a, to_b, there, pools, burst, now) + take(b, to_a, back, pools, burst, now);
        drop(ways);
        send(there, b, pools, now);
        send(back, a, pools, now);
        let due = there.due().into_iter().chain(back.due()).min();
        Pumped { took, due }
    }

    /// Moves frames until `end` is rung. Sleeps whenever there is nothing to do.
    ///
    /// # Errors
    /// ppoll(2)'s: none that a caller could do anything about.
    pub fn run(&mut self, end: &EventFd) -> io::Result<()> {
        while !end.take() {
            let Pumped { took, due } = self.pump(clock::now());
            if took == 0 {
                self.sleep(due, end)?;
            }
        }
        Ok(())
    }

    /// Until a frame comes, one is due, or the end.
    fn sleep(&mut self, due: Option<Nanos>, end: &EventFd) -> io::Result<()> {
        let Bridge { a, b, .. } = self;
        let fds = [a.wait_fd(), b.wait_fd()];
        let longest = if fds.contains(&None) { LOOK } else { NAP };
        let mut armed = a.before_sleep();
        if armed && !b.before_sleep() {
            a.after_sleep();
            armed = false;
        }
        if !armed {
            return Ok(());
        }
        let span = due.map_or(longest, |at| Nanos(at.0.saturating_sub(clock::now().0)).min(longest));
        let fds: Vec<_> = fds.into_iter().flatten().chain([end.as_raw_fd()]).collect();
        let woken = wait::readable(&fds, span);
        a.after_sleep();
        b.after_sleep();
        woken.map(drop).map_err(io::Error::other)
    }

    /// Moves frames in a thread of its own, on this core if one is named, until the answer is dropped.
    ///
    /// # Errors
    /// No descriptors, no thread.
    pub fn start(mut self, core: Option<usize>) -> io::Result<Running>
    where
        A: 'static,
        B: 'static,
    {
        let end = Arc::new(EventFd::new().map_err(io::Error::other)?);
        let (ways, theirs) = (self.ways.clone(), end.clone());
        let thread = std::thread::Builder::new().name("bridge".into()).spawn(move || {
            // Where neither is allowed it works a little less evenly.
            let _ = core.map(sys::thread::pin);
            sys::thread::exact_timers();
            if let Err(e) = self.run(&theirs) {
                eprintln!("the bridge has ended: {e}");
            }
        })?;
        Ok(Running { ways, end, thread: Some(thread) })
    }
}

/// A bridge at work. It ends with this value.
#[derive(Debug)]
pub struct Running {
    ways: Arc<Ways>,
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Other faults from now on, and nothing seen so far. Frames that are under way come out as they would have.
    pub fn set(&self, faults: [Faults; 2], seed: u64) {
        *lock(&self.ways) = impairments(faults, seed);
    }

    /// What became of the frames so far.
    pub fn seen(&self) -> Seen {
        let ways = lock(&self.ways);
        let of = |i: usize| &ways[i];
        Seen { passed: [of(0).passed(), of(1).passed()], depths: [of(0).depths().clone(), of(1).depths().clone()] }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.ring();
        // One that has panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn impairments(faults: [Faults; 2], seed: u64) -> [Impairment; 2] {
    // Any two streams of dice.
    [Impairment::new(faults[0], seed), Impairment::new(faults[1], seed ^ 0x9e37_79b9)]
}

fn lock(ways: &Ways) -> MutexGuard<'_, [Impairment; 2]> {
    // Impairments are sound whatever has happened to another thread.
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From a queue into the line; answers how many.
fn take<Q: Queue>(
    from: &mut Q,
    way: &mut Impairment,
    line: &mut Line<RxFrame>,
    pools: &mut RxPools,
    burst: &mut Vec<RxFrame>,
    now: Nanos,
) -> usize {
    let took = from.rx_burst(pools, BURST, burst);
    for mut frame in burst.drain(..) {
        if frame.csum_ok {
            nic::complete_checksum(&mut frame.head, frame.rest.iter().map(|piece| &**piece));
        }
        let len = frame.head.len() + frame.rest.bytes() as usize;
        let Some(passage) = way.judge(now, len, line.len()) else {
            lose(frame, pools);
            continue;
        };
        if passage.mark {
            nic::mark_ce(&mut frame.head);
        }
        if let Some(bit) = passage.flip {
            nic::flip_bit(&mut frame.head, bit);
        }
        let twin = passage.twin.and_then(|at| Some((at, double(&frame, pools)?)));
        match passage.behind {
            0 => line.push(passage.at, frame),
            later => line.push_behind(later, passage.at, frame),
        }
        if let Some((at, twin)) = twin {
            line.push(at, twin);
        }
    }
    took
}

/// From the line what is due.
fn send<Q: Queue>(line: &mut Line<RxFrame>, to: &mut Q, pools: &mut RxPools, now: Nanos) {
    let mut sent = false;
    while let Some(frame) = line.pop(now) {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let rest = frame.rest.iter().zip(&mut pieces).map(|(piece, slot)| *slot = IoSlice::new(piece)).count();
        let out = TxFrame { head: &frame.head, payload: &pieces[..rest], csum: None, gso: None };
        // A full ring loses it, as any full queue would.
        let _ = to.tx(&out);
        lose(frame, pools);
        sent = true;
    }
    if sent {
        to.flush();
    }
}

fn lose(frame: RxFrame, pools: &mut RxPools) {
    pools.mbufs.free(frame.head);
    pools.spills.free_queue(frame.rest);
}

/// The same frame in a buffer of its own, if there is one and it lies in one piece.
fn double(frame: &RxFrame, pools: &mut RxPools) -> Option<RxFrame> {
    let mut head = pools.mbufs.alloc().filter(|_| frame.rest.is_empty())?;
    head.reset(0);
    head.extend(&frame.head);
    Some(RxFrame { head, rest: Default::default(), csum_ok: frame.csum_ok, group: frame.group })
}

#[cfg(test)]
mod tests {
    use nic::Nic;
    use shm::{ShmNic, ShmQueue};

    use super::*;

    /// Ends of two wires whose other ends a bridge joins.
    struct Rig {
        near: ShmQueue,
        far: ShmQueue,
        bridge: Bridge<ShmQueue, ShmQueue>,
        pools: RxPools,
    }

    fn rig(faults: Faults) -> Rig {
        let config = |n| shm::Config { mac: wire::Mac::local(n), ..shm::Config::default() };
        let queue = |mut nic: ShmNic| nic.queues().pop().unwrap();
        let (near, a) = shm::pair(&config(1), &config(2)).unwrap();
        let (b, far) = shm::pair(&config(3), &config(4)).unwrap();
        let bridge = Bridge::new(queue(a), queue(b), [faults; 2], 7).unwrap();
        let pool = || Pool::new(Room::Received, 64, 2048).unwrap();
        Rig { near: queue(near), far: queue(far), bridge, pools: RxPools { mbufs: pool(), spills: pool() } }
    }

    fn received(queue: &mut ShmQueue, pools: &mut RxPools) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        queue.rx_burst(pools, 64, &mut out);
        out.into_iter().map(|frame| (frame.head[20], lose(frame, pools)).0).collect()
    }

    fn transmit(queue: &mut ShmQueue, number: u8) {
        let head = [number; 60];
        queue.tx(&TxFrame { head: &head, payload: &[], csum: None, gso: None }).unwrap();
        queue.flush();
    }

    #[test]
    fn frames_pass_both_ways_when_they_are_due() {
        let mut rig = rig(Faults { latency: Nanos(1000), duplicate: 1.0, ..Faults::default() });
        transmit(&mut rig.near, 1);
        transmit(&mut rig.far, 2);
        assert_eq!(rig.bridge.pump(Nanos(5000)), Pumped { took: 2, due: Some(Nanos(6000)) });
        assert_eq!(received(&mut rig.far, &mut rig.pools), []);
        rig.bridge.pump(Nanos(6000));
        assert_eq!(received(&mut rig.far, &mut rig.pools), [1, 1]);
        assert_eq!(received(&mut rig.near, &mut rig.pools), [2, 2]);
        assert_eq!(rig.bridge.pools.mbufs.available(), BUFFERS as usize, "no buffer is lost");
    }

    #[test]
    fn a_running_bridge_takes_other_faults_and_ends() {
        let Rig { mut near, mut far, bridge, mut pools } = rig(Faults { loss: 1.0, ..Faults::default() });
        let running = bridge.start(None).unwrap();
        transmit(&mut near, 1);
        while running.seen().passed[0].lost == 0 {
            std::thread::yield_now();
        }
        running.set([Faults::default(); 2], 1);
        assert_eq!(running.seen().passed[0], Passed::default());
        transmit(&mut near, 2);
        let mut got = received(&mut far, &mut pools);
        while got.is_empty() {
            std::thread::yield_now();
            got = received(&mut far, &mut pools);
        }
        assert_eq!(got, [2]);
    }
}
