//! What the tests of the wire share.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use mem::{Pool, Room};
use nic::{Queue, RxFrame, RxPools, TxFrame, TxFull};
use shm::ShmQueue;
use wire::{Ipv4Addr, Tuple};

pub fn pools(count: u32, capacity: u32) -> RxPools {
    RxPools {
        mbufs: Pool::new(Room::Received, count, capacity).unwrap(),
        spills: Pool::new(Room::Received, 0, 64).unwrap(),
    }
}

/// A UDP frame from `port` whose payload is `body`.
pub fn udp(port: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 42];
    frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    frame[23] = 17;
    frame[26..30].copy_from_slice(&[198, 18, 0, 1]);
    frame[30..34].copy_from_slice(&[198, 18, 0, 2]);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&9u16.to_be_bytes());
    frame.extend(body);
    frame
}

/// The flow of [`udp`]'s frames as their receiver sees it.
pub fn flow(port: u16) -> Tuple {
    Tuple {
        local: Ipv4Addr::new(198, 18, 0, 2).into(),
        remote: Ipv4Addr::new(198, 18, 0, 1).into(),
        local_port: 9,
        remote_port: port,
    }
}

pub fn send(queue: &mut ShmQueue, head: &[u8]) -> Result<(), TxFull> {
    queue.tx(&TxFrame { head, payload: &[], csum: None, gso: None })
}

/// All frames that wait, at most `max`.
pub fn receive(queue: &mut ShmQueue, pools: &mut RxPools, max: usize) -> Vec<RxFrame> {
    let mut out = Vec::with_capacity(max);
    let n = queue.rx_burst(pools, max, &mut out);
    assert_eq!(n, out.len());
    out
}

/// A path for a socket that no other test has; removed when dropped.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zygix-wire-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}
