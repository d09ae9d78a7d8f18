//! What the live tests share: a network namespace per test, and a hand-made peer on the far end of the TAP.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{IoSlice, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use mem::{Pool, Room};
use nic::{CsumStart, Gso, Nic, Queue, RxFrame, RxPools, TxFrame};
use tap::{TapConfig, TapError, TapNic, TapQueue};
use units::Nanos;
use wire::checksum::Sum;
use wire::{Mac, Tuple, ethernet, ipv4, tcp, udp};

/// Linux's end of the link.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Ours.
pub(crate) const US: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Says past the harness's capture that a test did not run, why, and how many did not so far.
pub(crate) fn skipped(test: &str, why: &dyn std::fmt::Display) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    // In one write, so that lines of parallel tests do not mix.
    let line = format!("SKIPPED {test} ({count} so far): {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Runs `test` in a thread with a network namespace of its own.
pub(crate) fn in_own_namespace(name: &str, test: impl FnOnce() + Send) {
    std::thread::scope(|s| {
        s.spawn(|| match sys::netns::unshare_net() {
            Err(e) if e.is_permission() => skipped(name, &e),
            done => {
                done.unwrap();
                if !std::path::Path::new("/dev/net/tun").exists() {
                    return skipped(name, &"/dev/net/tun is missing; load the tun module");
                }
                test();
            }
        });
    });
}

pub(crate) fn config(queues: u16) -> TapConfig {
    TapConfig { host_addrs: vec![(HOST.into(), 24)], ..TapConfig::new("zxtest0", queues) }
}

/// A TAP whose far end Linux knows by a static neighbour entry.
pub(crate) fn open(config: &TapConfig) -> Result<TapNic, TapError> {
    let nic = TapNic::open(config)?;
    sys::link::add_neighbour(nic.name(), US, nic.mac().0)?;
    Ok(nic)
}

/// A received frame, taken apart.
pub(crate) struct Received {
    pub(crate) tuple: Tuple,
    pub(crate) tcp: Option<tcp::Header>,
    pub(crate) payload: Vec<u8>,
    pub(crate) len: usize,
    pub(crate) csum_ok: bool,
}

/// Our end of one queue.
pub(crate) struct End {
    pub(crate) queue: TapQueue,
    pools: RxPools,
    mac: Mac,
    host_mac: Mac,
    waiting: Vec<RxFrame>,
}

impl End {
    /// Both ends' names and buffers for each queue.
    pub(crate) fn of(nic: &mut TapNic) -> Vec<End> {
        let (mac, host_mac) = (nic.mac(), nic.host_mac());
        let pools = || RxPools {
            mbufs: Pool::new(Room::Received, 512, 2048).unwrap(),
            spills: Pool::new(Room::Received, 8, 65536).unwrap(),
        };
        let end = |queue| End { queue, pools: pools(), mac, host_mac, waiting: Vec::with_capacity(64) };
        nic.queues().into_iter().map(end).collect()
    }

    /// The next frame that is TCP or UDP, if one is there; others (the kernel's own chatter) are passed over.
    pub(crate) fn poll(&mut self) -> Option<Received> {
        loop {
            if self.waiting.is_empty() {
                self.queue.rx_burst(&mut self.pools, 64, &mut self.waiting);
                self.waiting.reverse();
            }
            let RxFrame { head, rest, csum_ok, group: _ } = self.waiting.pop()?;
            let mut frame = head.to_vec();
            rest.iter().for_each(|mbuf| frame.extend_from_slice(mbuf));
            let Some(tuple) = Tuple::of_frame(&frame) else {
                continue;
            };
            let (_, packet) = ethernet::parse(&frame).unwrap();
            let (ip, segment) = ipv4::parse(packet).unwrap();
            let tcp = (ip.protocol == ipv4::TCP).then(|| tcp::Header::parse(segment).unwrap());
            let skip = tcp.map_or(udp::HEADER, |h| usize::from(h.header_len));
            return Some(Received { tuple, tcp, payload: segment[skip..].to_vec(), len: frame.len(), csum_ok });
        }
    }

    /// The next frame; waits 20 s at most.
    pub(crate) fn next(&mut self) -> Received {
        let deadline = sys::clock::now() + Nanos::from_secs(20);
        loop {
            if let Some(received) = self.poll() {
                return received;
            }
            assert!(sys::clock::now() < deadline, "nothing arrived for 20 s");
            let fd = self.queue.wait_fd().unwrap();
            if self.queue.before_sleep() {
                sys::wait::readable(&[fd], Nanos::from_millis(100)).unwrap();
            }
            self.queue.after_sleep();
        }
    }

    /// The frame's head up to the IP header; returns where the transport header starts (34).
    fn begin(&self, head: &mut [u8], protocol: u8, transport_len: usize) -> usize {
        let ethernet = ethernet::Header { dst: self.host_mac, src: self.mac, ethertype: ethernet::IPV4 };
        let at = ethernet.emit(head);
        at + ipv4::Header::new(US, HOST, protocol, transport_len as u16).emit(&mut head[at..])
    }

    /// Sends a TCP segment with a partial checksum; payload beyond `mss` makes a super-frame.
    pub(crate) fn send_tcp(&mut self, header: &tcp::Header, payload: &[u8], mss: u16) {
        let mut head = [0; 100];
        let start = self.begin(&mut head, ipv4::TCP, header.wire_len() + payload.len());
        let len = start + header.emit(&mut head[start..]);
        let pseudo = Sum::pseudo_v4(US, HOST, ipv4::TCP, (header.wire_len() + payload.len()) as u32).fold();
        head[start + tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&pseudo.to_be_bytes());
        let gso = (payload.len() > usize::from(mss)).then_some(Gso { mss, hdr_len: len as u16, v6: false });
        let csum = Some(CsumStart { start: start as u16, offset: tcp::CHECKSUM_OFFSET as u16 });
        let pieces: Vec<IoSlice<'_>> = payload.chunks(1000).map(IoSlice::new).collect();
        self.queue.tx(&TxFrame { head: &head[..len], payload: &pieces, csum, gso }).unwrap();
        self.queue.flush();
    }

    /// Sends a UDP datagram whose checksum we computed, then damaged by `damage`.
    pub(crate) fn send_udp(&mut self, src_port: u16, dst_port: u16, payload: &[u8], damage: u16) {
        let len = (udp::HEADER + payload.len()) as u16;
        let header = udp::Header { src_port, dst_port, len, checksum: 0 }.with_checksum(US, HOST, payload);
        let mut head = [0; 42];
        let start = self.begin(&mut head, ipv4::UDP, usize::from(len));
        udp::Header { checksum: header.checksum ^ damage, ..header }.emit(&mut head[start..]);
        self.queue.tx(&TxFrame { head: &head, payload: &[IoSlice::new(payload)], csum: None, gso: None }).unwrap();
        self.queue.flush();
    }
}
