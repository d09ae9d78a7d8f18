//! Very many connections on one server core (thesis figure 2.6): what each costs in memory, and what they cost in throughput.

use std::time::{Duration, Instant};

use dataplane::{Dataplane, Idle, RunnerConfig};
use echo::{Echo, Mode};
use nic::Nic;
use serde::Serialize;
use std::sync::Arc;
use units::Nanos;
use zygix::Runtime;

use crate::crowd::Crowd;
use crate::idle::resident;
use crate::rig::{configs, wire};

/// Connections of the row that memory is counted from, so that what is there once for all is not counted.
const BASE: usize = 1_000;
/// Transmit buffers: for more than a million replies a second, each of which waits `ACK_DELAY` for its acknowledgement.
pub(crate) const REPLIES: u32 = 1 << 16;
/// So long without progress: something is broken.
const STUCK: Duration = Duration::from_secs(20);
/// So long without progress: a SYN was lost.
const INSIST: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Clone, Debug)]
pub struct ScaleConfig {
    /// Connections of each row, ascending.
    pub counts: Vec<usize>,
    /// Requests without a reply, all connections together.
    pub under_way: usize,
    /// Windows per row, and how long each is.
    pub windows: usize,
    /// The length of a window.
    pub window: Duration,
    /// The pages that connections lie in.
    pub pages: mem::Pages,
    /// The batch bound.
    pub batch: usize,
    /// The hardware threads of server and client.
    pub pin: [usize; 2],
}

/// What a number of connections came to.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleRow {
    /// Established connections.
    pub connections: usize,
    /// Requests answered per second: the median of the windows, the lowest and the highest.
    pub rps: f64,
    /// The lowest window.
    pub rps_low: f64,
    /// The highest.
    pub rps_high: f64,
    /// Resident bytes that each connection beyond the first thousand added to the process, everything included; none in the row of the first thousand.
    pub bytes_per_connection: Option<f64>,
    /// Nanoseconds of the server's core per request, in which it did not poll in vain.
    pub server_busy_ns: f64,
    /// Connections in the server's mean batch.
    pub mean_batch: f64,
    /// Segments that the server sent again, per request.
    pub retransmits: f64,
    /// Replies that were not what was asked for, and connections that ended.
    pub errors: u64,
}

/// Opens as many connections as each row says, and asks over them at random; `each` is told each row, and answers whether to go on.
///
/// # Errors
/// Memory, descriptors or threads cannot be had; connections do not open; nothing moves any more.
pub fn scale(
    config: &ScaleConfig,
    mut each: impl FnMut(&ScaleRow) -> bool,
) -> Result<Vec<ScaleRow>, Box<dyn std::error::Error>> {
    let most = config.counts.iter().copied().max().unwrap_or(BASE).max(BASE);
    let (mut server, _) = configs(config.batch, most + BASE);
    // Each reply keeps its buffer until it is acknowledged, which most are by themselves, after the client's delay.
    server.pools.tx = REPLIES;
    server.pages = config.pages;
    let (mut server_nic, mut client_nic) = wire()?;
    let queues = server_nic.queues();
    let mut crowd = Crowd::new(client_nic.queues(), most)?;
    let service = Arc::new(Echo::new(Mode::Echo));
    let runner = RunnerConfig { pin: vec![config.pin[0]], idle: Idle::Spin, ..RunnerConfig::default() };
    let server = Dataplane::start(
        server,
        queues,
        move |t| server_nic.flow_group(t),
        &runner,
        |core, shared| Runtime::new(service.clone(), shared.clone()).app(core),
    )?;
    sys::thread::pin(config.pin[1])?;
    let result = (|| {
        open(&mut crowd, BASE)?;
        drive(&mut crowd, config.under_way, config.window)?;
        let base = resident()?;
        let mut rows = Vec::new();
        for count in &config.counts {
            open(&mut crowd, *count)?;
            let row = measure(&mut crowd, &server, config, *count, base)?;
            let go_on = each(&row);
            rows.push(row);
            if !go_on {
                break;
            }
        }
        Ok(rows)
    })();
    server.stop();
    result
}

pub(crate) fn open(crowd: &mut Crowd, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (mut seen, mut moved, mut patience) = (crowd.open(), Instant::now(), INSIST);
    while crowd.open() < count {
        crowd.open_some(sys::clock::now(), count);
        if crowd.open() > seen {
            (seen, moved, patience) = (crowd.open(), Instant::now(), INSIST);
        } else if moved.elapsed() > patience {
            crowd.insist();
            patience *= 2;
        } else if moved.elapsed() > STUCK {
            return Err(format!("only {seen} of {count} connections were opened").into());
        }
    }
    Ok(())
}

/// Asks for so long; replies per second.
fn drive(crowd: &mut Crowd, under_way: usize, span: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    let (before, began) = (crowd.replies, sys::clock::now());
    let until = began + Nanos(span.as_nanos() as u64);
    let mut now = began;
    while now < until {
        for _ in 0..16 {
            crowd.ask_some(now, under_way);
        }
        now = sys::clock::now();
    }
    if crowd.replies == before {
        return Err("nothing moves any more".into());
    }
    Ok((crowd.replies - before) as f64 / (now - began).as_secs_f64())
}

fn measure(
    crowd: &mut Crowd,
    server: &Dataplane,
    config: &ScaleConfig,
    count: usize,
    base: usize,
) -> Result<ScaleRow, Box<dyn std::error::Error>> {
    drive(crowd, config.under_way, config.window)?;
    let read = || {
        let total = |m: fn(&netstack::Metrics) -> u64| server.shared().total(m);
        [
            total(|m| m.busy_ns.get()),
            total(|m| m.batches.get()),
            total(|m| m.batch_conns.get()),
            total(|m| m.tcp_retransmits.get()),
        ]
    };
    let (before, replies) = (read(), crowd.replies);
    let mut rates = Vec::new();
    for _ in 0..config.windows.max(1) {
        rates.push(drive(crowd, config.under_way, config.window)?);
    }
    let after = read();
    let per = |i: usize, of: u64| (after[i] - before[i]) as f64 / of.max(1) as f64;
    let asked = crowd.replies - replies;
    rates.sort_by(f64::total_cmp);
    let bytes = resident()?.saturating_sub(base) as f64 / (count.saturating_sub(BASE)) as f64;
    let row = ScaleRow {
        connections: crowd.open(),
        rps: rates[rates.len() / 2],
        rps_low: rates[0],
        rps_high: rates[rates.len() - 1],
        bytes_per_connection: (count > BASE).then_some(bytes),
        server_busy_ns: per(0, asked),
        mean_batch: per(2, after[1] - before[1]),
        retransmits: per(3, asked),
        errors: crowd.errors,
    };
    // What is under way comes home, so that the next row begins with nothing.
    let until = Instant::now() + STUCK;
    while !crowd.is_quiet() && Instant::now() < until {
        crowd.poll(sys::clock::now());
    }
    Ok(row)
}
