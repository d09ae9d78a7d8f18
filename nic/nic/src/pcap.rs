//! A queue that records what another queue receives and transmits.
//!
//! The file is a classic pcap with nanosecond stamps, as tcpdump and Wireshark read it:
//!
//! ```text
//!   file    | magic a1b23c4d | 2 . 4 | 0 | 0 | snaplen 65535 | link type 1, Ethernet |     u32s, versions u16
//!   record  | seconds | nanoseconds | bytes here | bytes of the frame | bytes ...
//! ```
//!
//! Frames are recorded as they pass the seam: super-frames uncut, and partial checksums partial. A file that can't be
//! written ends the recording and nothing else.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::iter;
use std::mem;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};

/// Bytes of a frame that are recorded at most.
const SNAPLEN: usize = 65_535;

/// A queue, and the file that all its frames go to (if there is one).
///
/// Without a file it costs a branch per call; with one, a copy per frame and now and then a blocking write. Written
/// out when the buffer is full, when the queue is polled in vain, and at the end.
pub struct Pcap<Q> {
    queue: Q,
    tape: Tape,
    /// Time since 1970.
    clock: fn() -> Duration,
}

enum Tape {
    Off,
    Runs(BufWriter<Box<dyn Write + Send>>),
    Broken { missed: u64 },
}

impl<Q: Queue> Pcap<Q> {
    /// `queue` as it is, without recording.
    pub fn off(queue: Q) -> Pcap<Q> {
        Pcap { queue, tape: Tape::Off, clock: wall_clock }
    }

    /// Records the frames of `queue` in a new file at `path`, with the time of day.
    ///
    /// Errors: the file cannot be created.
    pub fn create(queue: Q, path: &Path) -> io::Result<Pcap<Q>> {
        let explain =
            |e: io::Error| io::Error::new(e.kind(), format!("cannot record frames in {}: {e}", path.display()));
        let file = File::create(path).map_err(explain)?;
        Pcap::to(queue, Box::new(file), wall_clock).map_err(explain)
    }

    /// Records the frames of `queue` in `out`, with stamps (since 1970) by `clock`.
    ///
    /// Errors: `out` refuses the first bytes.
    pub fn to(queue: Q, out: Box<dyn Write + Send>, clock: fn() -> Duration) -> io::Result<Pcap<Q>> {
        let mut file = BufWriter::with_capacity(1 << 16, out);
        file.write_all(&file_header())?;
        file.flush()?;
        Ok(Pcap { queue, tape: Tape::Runs(file), clock })
    }

    /// Where queue number `index` records when `file` was asked for: `file`, `file.1`, `file.2` …
    pub fn path(file: &Path, index: usize) -> PathBuf {
        if index == 0 {
            return file.into();
        }
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{index}"));
        name.into()
    }

    /// Frames that passed since the file could no longer be written (what was in the buffer then is lost, too).
    pub fn missed(&self) -> u64 {
        match self.tape {
            Tape::Broken { missed } => missed,
            Tape::Off | Tape::Runs(_) => 0,
        }
    }

    /// Has `write` put `frames` frames on the tape. If that fails, it was the last attempt.
    #[inline]
    fn record(&mut self, frames: usize, write: impl FnOnce(&mut dyn Write, Duration) -> io::Result<()>) {
        match &mut self.tape {
            Tape::Off => {}
            Tape::Broken { missed } => *missed += frames as u64,
            Tape::Runs(file) => {
                if write(file, (self.clock)()).is_err() {
                    self.give_up(frames as u64);
                }
            }
        }
    }

    /// Writes out what is buffered.
    fn write_out(&mut self) {
        if let Tape::Runs(file) = &mut self.tape
            && !file.buffer().is_empty()
            && file.flush().is_err()
        {
            self.give_up(0);
        }
    }

    #[cold]
    fn give_up(&mut self, missed: u64) {
        if let Tape::Runs(file) = mem::replace(&mut self.tape, Tape::Broken { missed }) {
            // Taken apart, for its own drop would try to write once more.
            drop(file.into_parts());
        }
    }
}

impl<Q: Queue> Queue for Pcap<Q> {
    fn caps(&self) -> &Caps {
        self.queue.caps()
    }

    #[inline]
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let n = self.queue.rx_burst(pools, max, out);
        if n == 0 {
            self.write_out();
        } else {
            let frames = &out[out.len() - n..];
            self.record(n, |file, now| frames.iter().try_for_each(|frame| write_record(file, now, received(frame))));
        }
        n
    }

    #[inline]
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        self.queue.tx(frame)?;
        let TxFrame { head, payload, .. } = *frame;
        let pieces = iter::once(head).chain(payload.iter().map(|piece| &piece[..]));
        self.record(1, |file, now| write_record(file, now, pieces));
        Ok(())
    }

    fn rx_waiting(&mut self) -> usize {
        self.queue.rx_waiting()
    }

    #[inline]
    fn has_room(&mut self) -> bool {
        self.queue.has_room()
    }

    #[inline]
    fn flush(&mut self) {
        self.queue.flush();
    }

    fn tx_mark(&mut self) {
        self.queue.tx_mark();
    }

    fn tx_passed(&mut self) -> bool {
        self.queue.tx_passed()
    }

    fn rx_mark(&mut self) {
        self.queue.rx_mark();
    }

    fn rx_passed(&mut self) -> bool {
        self.queue.rx_passed()
    }

    fn rx_hint(&self) -> RxHint {
        self.queue.rx_hint()
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.queue.wait_fd()
    }

    fn before_sleep(&mut self) -> bool {
        self.write_out();
        self.queue.before_sleep()
    }

    fn after_sleep(&mut self) {
        self.queue.after_sleep();
    }

    fn counters(&self) -> QueueCounters {
        self.queue.counters()
    }
}

fn wall_clock() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn received(frame: &RxFrame) -> impl Iterator<Item = &[u8]> + Clone {
    iter::once(&frame.head[..]).chain(frame.rest.iter().map(|mbuf| &mbuf[..]))
}

fn file_header() -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
    header[4] = 2;
    header[6] = 4;
    header[16..20].copy_from_slice(&(SNAPLEN as u32).to_le_bytes());
    header[20] = 1;
    header
}

/// Writes a frame that lies in `pieces`, cut at [`SNAPLEN`].
fn write_record<'a>(
    file: &mut dyn Write,
    now: Duration,
    pieces: impl Iterator<Item = &'a [u8]> + Clone,
) -> io::Result<()> {
    let len: usize = pieces.clone().map(<[u8]>::len).sum();
    let mut left = len.min(SNAPLEN);
    for word in [now.as_secs() as u32, now.subsec_nanos(), left as u32, len as u32] {
        file.write_all(&word.to_le_bytes())?;
    }
    for piece in pieces {
        let n = piece.len().min(left);
        file.write_all(&piece[..n])?;
        left -= n;
    }
    Ok(())
}
