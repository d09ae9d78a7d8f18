//! The recording, read back by a reader of its own; and what happens when it can't be written.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mem::{MbufQueue, Pool, Room};
use nic::{Caps, Pcap, Queue, QueueCounters, RxFrame, RxPools, Steering, TxFrame, TxFull};
use proptest::prelude::*;

/// A queue that receives what it is given, in mbufs of 64 bytes, and transmits up to a number of frames.
struct Script {
    caps: Caps,
    arriving: VecDeque<Vec<u8>>,
    room: usize,
}

impl Script {
    fn new(arriving: &[Vec<u8>], room: usize) -> Script {
        let caps = Caps {
            mtu: 1500,
            tx_csum: false,
            rx_csum: false,
            tso: false,
            large_rx: true,
            gather: true,
            steering: Steering::Software,
            reta_size: 128,
            mac: [2, 0, 0, 0, 0, 1],
            name: "script".into(),
        };
        Script { caps, arriving: arriving.iter().cloned().collect(), room }
    }
}

impl Queue for Script {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let n = max.min(self.arriving.len());
        for bytes in self.arriving.drain(..n) {
            let mut mbufs = bytes.chunks(64).map(|chunk| {
                let mut mbuf = pools.mbufs.alloc().expect("enough for the script");
                mbuf.extend(chunk);
                mbuf
            });
            let head = mbufs.next().expect("no empty frames");
            let mut rest = MbufQueue::new();
            mbufs.for_each(|mbuf| rest.push_back(mbuf));
            out.push(RxFrame { head, rest, csum_ok: false, group: None });
        }
        n
    }

    fn tx(&mut self, _: &TxFrame<'_>) -> Result<(), TxFull> {
        self.room = self.room.checked_sub(1).ok_or(TxFull)?;
        Ok(())
    }

    fn flush(&mut self) {}

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn before_sleep(&mut self) -> bool {
        true
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        QueueCounters::default()
    }
}

/// A disk of `room` bytes, whose contents outlive its writer.
#[derive(Clone)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl Disk {
    fn new(room: usize) -> Disk {
        Disk { bytes: Arc::default(), room }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.bytes.lock().unwrap();
        let n = bytes.len().min(self.room - disk.len());
        disk.extend(&bytes[..n]);
        if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

/// A clock that moves 1 s and 1 ns per reading.
fn clock() -> Duration {
    NOW.set(NOW.get() + 1);
    Duration::new(NOW.get(), NOW.get() as u32)
}

/// One record of a pcap file.
#[derive(Debug, PartialEq)]
struct Record {
    stamp: (u32, u32),
    len: usize,
    bytes: Vec<u8>,
}

/// Reads a pcap file: its whole records, and whether something is left over.
fn parse(file: &[u8]) -> (Vec<Record>, bool) {
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((u32_at(0), u32_at(4), u32_at(16), u32_at(20)), (0xa1b23c4d, 4 << 16 | 2, 65_535, 1));
    let (mut at, mut records) = (24, Vec::new());
    while at + 16 <= file.len() {
        let (here, len) = (u32_at(at + 8) as usize, u32_at(at + 12) as usize);
        let Some(bytes) = file.get(at + 16..at + 16 + here) else {
            break;
        };
        records.push(Record { stamp: (u32_at(at), u32_at(at + 4)), len, bytes: bytes.to_vec() });
        at += 16 + here;
    }
    (records, at < file.len())
}

fn pools() -> RxPools {
    RxPools { mbufs: Pool::new(Room::Received, 256, 64).unwrap(), spills: Pool::new(Room::Received, 0, 64).unwrap() }
}

fn send(queue: &mut impl Queue, head: &[u8], payload: &[u8]) -> Result<(), TxFull> {
    let half = payload.len() / 2;
    let pieces = [IoSlice::new(&payload[..half]), IoSlice::new(&payload[half..])];
    queue.tx(&TxFrame { head, payload: &pieces, csum: None, gso: None })
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20)
}

proptest! {
    #[test]
    fn every_frame_that_passes_is_read_back(arriving in frames(), leaving in frames(), room in 0..20usize) {
        let disk = Disk::new(usize::MAX);
        let mut queue = Pcap::to(Script::new(&arriving, room), Box::new(disk.clone()), clock).unwrap();
        let (mut pools, mut out) = (pools(), Vec::with_capacity(32));
        let mut expected = Vec::new();
        prop_assert_eq!(queue.rx_burst(&mut pools, 32, &mut out), arriving.len());
        expected.extend(arriving);
        for frame in &leaving {
            if send(&mut queue, &frame[..frame.len() / 3], &frame[frame.len() / 3..]).is_ok() {
                expected.push(frame.clone());
            }
        }
        prop_assert_eq!(queue.missed(), 0);
        // Polled in vain: everything is in the file now, not only when the queue goes.
        prop_assert_eq!(queue.rx_burst(&mut pools, 32, &mut out), 0);
        let (records, rest) = parse(&disk.bytes());
        prop_assert!(!rest && records.iter().map(|record| &record.bytes).eq(&expected));
        prop_assert!(records.iter().all(|record| record.len == record.bytes.len()));
        prop_assert!(records.iter().all(|record| record.stamp.0 == record.stamp.1), "seconds, then nanoseconds");
        prop_assert!(records.is_sorted_by_key(|record| record.stamp));
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_nothing_else(room in 24..20_000usize, frames in 0..200u64) {
        let disk = Disk::new(room);
        let mut queue = Pcap::to(Script::new(&[], usize::MAX), Box::new(disk.clone()), clock).unwrap();
        for _ in 0..frames {
            prop_assert_eq!(send(&mut queue, &[7; 14], &[8; 86]), Ok(()));
        }
        queue.before_sleep();
        for _ in 0..5 {
            prop_assert_eq!(send(&mut queue, &[7; 14], &[8; 86]), Ok(()));
        }
        let missed = queue.missed();
        drop(queue);
        let (records, rest) = parse(&disk.bytes());
        let whole = records.len() as u64;
        if frames as usize * 116 > room - 24 {
            prop_assert!(missed == 5 && whole < frames, "{} missed, {} whole", missed, whole);
        } else {
            prop_assert_eq!((missed, whole < frames), (0, false));
            prop_assert!(whole <= frames + 5 && (!rest || whole < frames + 5));
        }
    }
}

#[test]
fn a_super_frame_beyond_the_snap_length_is_cut_and_its_length_kept() {
    let disk = Disk::new(usize::MAX);
    let mut queue = Pcap::to(Script::new(&[], 1), Box::new(disk.clone()), clock).unwrap();
    send(&mut queue, &[1; 66], &vec![2; 65_535]).unwrap();
    drop(queue);
    let (records, rest) = parse(&disk.bytes());
    assert_eq!((records.len(), records[0].len, records[0].bytes.len(), rest), (1, 65_601, 65_535, false));
}

#[test]
fn without_a_file_frames_just_pass() {
    let mut queue = Pcap::off(Script::new(&[vec![1; 200]], 1));
    let mut out = Vec::with_capacity(4);
    assert_eq!(queue.rx_burst(&mut pools(), 4, &mut out), 1);
    assert_eq!((send(&mut queue, b"a", b"b"), send(&mut queue, b"a", b"b")), (Ok(()), Err(TxFull)));
    assert_eq!((queue.missed(), queue.caps().name.as_str(), out[0].rest.bytes()), (0, "script", 136));
}

#[test]
fn files_are_numbered_and_errors_name_them() {
    let path = |index| Pcap::<Script>::path(Path::new("a/b.pcap"), index);
    assert_eq!((path(0), path(2)), ("a/b.pcap".into(), "a/b.pcap.2".into()));
    let error = Pcap::create(Script::new(&[], 0), Path::new("/nowhere/x.pcap")).err().unwrap().to_string();
    assert!(error.contains("/nowhere/x.pcap"), "{error}");
}
