//! `bulk [MEGABYTES] [plain]`: what bulk transfer costs each end over the in-process wire, in CPU time of its own: both ends take turns on one thread, so
//! that neither waits for the other, nor for other programs.
//!
//! The server sends the pattern of `echo`'s source, the client digests it. `plain`: without the wire's offloads.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use abi::Cookie;
use dataplane::{App, BatchView, ElasticThread};
use echo::{Digest, Echo, Mode};
use mem::MbufQueue;
use netstack::{Pending, Shared, StackConfig};
use nic::Nic;
use shm::{ShmNic, ShmQueue};
use sys::clock::thread_cpu;
use units::{CoreId, Nanos};
use wire::Mac;
use zygix::Runtime;

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Asks for so many bytes, and digests what comes.
struct Sink {
    bytes: u64,
    digest: Digest,
}

impl App for Sink {
    fn start(&mut self, view: &mut BatchView<'_>) {
        view.connect(Cookie(1), SocketAddr::from((SERVER, 7))).expect("a connection is free");
    }

    fn run(&mut self, view: &mut BatchView<'_>) {
        for i in 0..view.len() {
            let entry = view.entry(i);
            for piece in entry.rx.iter() {
                self.digest.update(piece);
            }
            let (unread, connected) = (entry.rx.bytes(), entry.pending.contains(Pending::CONNECTED));
            view.recv_done(i, unread).expect("what is there can be consumed");
            if connected {
                let mut ask = view.arena().alloc().expect("a buffer is free");
                ask.reset(0);
                ask.extend(format!("{}\n", self.bytes).as_bytes());
                view.sendv(i, &mut MbufQueue::from(ask), false).expect("the window is open");
            }
        }
    }
}

fn end(
    mac: u32,
    ip: Ipv4Addr,
    mut nic: ShmNic,
) -> Result<(ElasticThread<ShmQueue>, Arc<Shared>), Box<dyn std::error::Error>> {
    let config = StackConfig { tcp_ports: vec![7], max_conns: 64, ..StackConfig::new(Mac::local(mac), ip, 24) };
    let queue = nic.queues().pop().ok_or("the wire has no queue")?;
    let shared = Arc::new(Shared::new(config, 1, [7; 48], move |t| nic.flow_group(t), |_| {})?);
    Ok((ElasticThread::new(CoreId(0), shared.clone(), queue)?, shared))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut megabytes, mut offload) = (4000, true);
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "plain" => offload = false,
            number => megabytes = number.parse().map_err(|_| "usage: bulk [MEGABYTES] [plain]")?,
        }
    }
    let wire = |mac| shm::Config { mac: Mac::local(mac), trusted: offload, large: offload, ..shm::Config::default() };
    let (far, near) = shm::pair(&wire(1), &wire(2))?;
    let (mut server, shared) = end(1, SERVER, far)?;
    let (mut client, _) = end(2, CLIENT, near)?;
    let mut source = Runtime::new(Arc::new(Echo::new(Mode::Source)), shared).app(CoreId(0));
    let mut sink = Sink { bytes: megabytes * 1_000_000, digest: Digest::new() };
    let mut now = Nanos::from_secs(1);
    client.start(now, &mut sink);
    let mut spent = [0; 2];
    while sink.digest.count() < sink.bytes {
        now += Nanos::from_micros(10);
        let before = thread_cpu();
        server.turn(now, || now, &mut source);
        let between = thread_cpu();
        client.turn(now, || now, &mut sink);
        spent[0] += (between - before).0;
        spent[1] += (thread_cpu() - between).0;
    }
    for (name, ns) in ["sender", "receiver"].into_iter().zip(spent) {
        let gbps = sink.bytes as f64 * 8.0 / ns as f64;
        println!(
            "{name}: {:.0} ns per KB, {gbps:.1} Gbit/s if it does nothing else",
            ns as f64 * 1000.0 / sink.bytes as f64
        );
    }
    Ok(())
}
