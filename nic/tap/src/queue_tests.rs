//! The queue over a datagram socket in place of the device: what arrives is ours to choose, hostile headers included.

use super::*;
use mem::Room;
use nic::{CsumStart, Gso, Steering};
use proptest::prelude::*;
use std::os::unix::net::UnixDatagram;

fn pair(vnet: bool) -> (TapQueue, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let caps = Caps {
        mtu: 1500,
        tx_csum: vnet,
        rx_csum: vnet,
        tso: vnet,
        large_rx: vnet,
        gather: true,
        steering: Steering::Software,
        reta_size: 128,
        mac: [2; 6],
        name: "test".to_owned(),
    };
    (TapQueue::new(ours.into(), Arc::new(caps), vnet), theirs)
}

fn pools(mbufs: u32, spills: u32) -> RxPools {
    RxPools {
        mbufs: Pool::new(Room::Received, mbufs, 2048).unwrap(),
        spills: Pool::new(Room::Received, spills, 65536).unwrap(),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn bytes(frame: &RxFrame) -> Vec<u8> {
    let mut all = frame.head.to_vec();
    frame.rest.iter().for_each(|mbuf| all.extend_from_slice(mbuf));
    all
}

fn one(queue: &mut TapQueue, pools: &mut RxPools) -> Option<RxFrame> {
    let mut out = Vec::with_capacity(1);
    queue.rx_burst(pools, 64, &mut out);
    out.pop()
}

#[test]
fn frames_of_every_size_arrive_whole() {
    let (mut queue, peer) = pair(true);
    // Plenty of spills; one only (it must stay with the reader); none (the spare buffer serves).
    for spills in [4, 1, 0] {
        let mut pools = pools(64, spills.max(1));
        let held = if spills == 0 { pools.spills.alloc() } else { None };
        for len in [14, 60, 1514, 2047, 2048, 2049, 4096, 2048 + KEEP_SPILL - 1, 2048 + KEEP_SPILL, 65549] {
            let frame = pattern(len);
            peer.send(&[&[0; vnet::SIZE][..], &frame].concat()).unwrap();
            let received = one(&mut queue, &mut pools).unwrap();
            assert_eq!(bytes(&received), frame, "{len} bytes, {spills} spills");
            assert_eq!(
                received.rest.len() == 1 && received.rest.bytes() > 2048,
                spills > 1 && len >= 2048 + KEEP_SPILL
            );
        }
        drop(held);
        assert_eq!((pools.mbufs.available(), pools.spills.available()), (64, pools.spills.count()));
    }
    assert_eq!(queue.counters().rx_frames, 30);
}

#[test]
fn a_dry_pool_leaves_frames_in_the_ring() {
    let (mut queue, peer) = pair(true);
    let mut pools = pools(2, 1);
    for _ in 0..2 {
        peer.send(&[0; 72]).unwrap();
    }
    let held: Vec<Mbuf> = std::iter::from_fn(|| pools.mbufs.alloc()).collect();
    assert!(one(&mut queue, &mut pools).is_none());
    assert_eq!((queue.counters().rx_nombuf, queue.counters().rx_syscalls), (1, 0));
    drop(held);
    assert!(one(&mut queue, &mut pools).is_some() && one(&mut queue, &mut pools).is_some());
    // A rest that finds no mbufs drops the frame and leaks nothing.
    peer.send(&[0; 12 + 2048 * 3]).unwrap();
    assert!(one(&mut queue, &mut pools).is_none());
    assert_eq!((queue.counters().rx_nombuf, pools.mbufs.available()), (2, 2));
}

#[test]
fn a_burst_respects_both_bounds() {
    let (mut queue, peer) = pair(false);
    let mut pools = pools(16, 1);
    for _ in 0..8 {
        peer.send(&[0; 60]).unwrap();
    }
    let mut out = Vec::with_capacity(16);
    assert_eq!(queue.rx_burst(&mut pools, 3, &mut out), 3);
    let mut small = Vec::with_capacity(2);
    let capacity = small.capacity();
    assert_eq!(queue.rx_burst(&mut pools, 64, &mut small), capacity.min(5));
    assert_eq!(queue.rx_burst(&mut pools, 64, &mut out), 5 - capacity.min(5));
    assert!(!out[0].csum_ok);
}

#[test]
fn every_number_of_pieces_is_one_frame() {
    let (mut queue, peer) = pair(true);
    let data = pattern(4000);
    for pieces in [0, 1, FEW_PIECES, FEW_PIECES + 1, MAX_PIECES, MAX_PIECES + 1, 400] {
        let payload: Vec<IoSlice<'_>> = data.chunks(10).take(pieces).map(IoSlice::new).collect();
        let csum = Some(CsumStart { start: 34, offset: 16 });
        let gso = Some(Gso { mss: 1448, hdr_len: 54, v6: false });
        let frame = TxFrame { head: &[9; 54], payload: &payload, csum, gso };
        assert_eq!(queue.tx(&frame), Ok(()));
        let mut got = vec![0; 8000];
        let n = peer.recv(&mut got).unwrap();
        assert_eq!(got[..12], vnet::emit(csum, gso));
        assert_eq!(got[12..66], [9; 54]);
        assert_eq!(&got[66..n], &data[..pieces * 10]);
    }
    assert_eq!(queue.counters().tx_frames, 7);
}

#[test]
fn a_full_ring_says_so_and_a_cut_wire_swallows() {
    let (mut queue, peer) = pair(false);
    let frame = TxFrame { head: &[0; 60], payload: &[], csum: None, gso: None };
    let placed = (0..100_000).take_while(|_| queue.tx(&frame).is_ok()).count();
    assert!(placed < 100_000 && queue.counters().tx_full == 1);
    let mut bytes = [0; 60];
    while peer.recv(&mut bytes).is_ok() {}
    assert_eq!(queue.tx(&frame), Ok(()));
    drop(peer);
    assert_eq!((queue.tx(&frame), queue.counters().tx_errors), (Ok(()), 1));
}

proptest! {
    #[test]
    fn hostile_headers_never_panic(header: [u8; 12], len in 0usize..5000) {
        let (mut queue, peer) = pair(true);
        let mut pools = pools(8, 2);
        peer.send(&[&header[..], &pattern(len)].concat()).unwrap();
        let frame = one(&mut queue, &mut pools);
        let counters = queue.counters();
        prop_assert_eq!(counters.rx_frames + counters.rx_invalid, 1);
        if let Some(frame) = frame {
            prop_assert_eq!(bytes(&frame), pattern(len));
        }
    }
}
