//! Counters, and what `stats` answers.

use std::sync::Arc;

use units::Counter;

use crate::clock::{Clock, Secs};
use crate::service::Kv;
use crate::store::Tally;

/// What is counted per thread, in the order of `NAMES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Stat {
    CmdGet,
    CmdSet,
    CmdFlush,
    CmdTouch,
    CmdMeta,
    GetHits,
    GetMisses,
    GetExpired,
    GetFlushed,
    DeleteMisses,
    DeleteHits,
    IncrMisses,
    IncrHits,
    DecrMisses,
    DecrHits,
    CasMisses,
    CasHits,
    CasBadval,
    TouchHits,
    TouchMisses,
    StoreTooLarge,
    StoreNoMemory,
    BytesRead,
    BytesWritten,
}

/// The name that `stats` gives to each [`Stat`].
const NAMES: [&str; 24] = [
    "cmd_get",
    "cmd_set",
    "cmd_flush",
    "cmd_touch",
    "cmd_meta",
    "get_hits",
    "get_misses",
    "get_expired",
    "get_flushed",
    "delete_misses",
    "delete_hits",
    "incr_misses",
    "incr_hits",
    "decr_misses",
    "decr_hits",
    "cas_misses",
    "cas_hits",
    "cas_badval",
    "touch_hits",
    "touch_misses",
    "store_too_large",
    "store_no_memory",
    "bytes_read",
    "bytes_written",
];

const _: () = assert!(Stat::BytesWritten as usize + 1 == NAMES.len(), "each counter has a name");

/// The counters of one thread: written by it alone, read by whoever asks for `stats`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters([Counter; NAMES.len()]);

impl Counters {
    #[inline]
    pub(crate) fn add(&self, stat: Stat, n: u64) {
        self.0[stat as usize].add(n);
    }
}

/// Sums over threads and shards.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Totals {
    counts: [u64; NAMES.len()],
    tally: Tally,
    connections: u64,
    rejected: u64,
}

/// What the store holds now.
#[derive(Default)]
struct Holdings {
    items: u64,
    used: usize,
    /// What shards have claimed and not used.
    reserve: usize,
}

/// A name and its value.
pub(crate) type Line = (String, String);

/// The lines of `stats <topic>`; `None` if there is no such topic.
pub(crate) fn collect(kv: &Kv, now: Secs, topic: &[u8]) -> Option<Vec<Line>> {
    Some(match topic {
        b"" => general(kv, now),
        b"settings" => settings(kv),
        b"items" => items(kv, now),
        b"slabs" => slabs(kv),
        // A histogram would have to visit every item under its shard's lock.
        b"sizes" | b"sizes_enable" | b"sizes_disable" => lines([("sizes_status", "disabled".into())]),
        b"conns" => {
            lines([("conns:open", kv.connections().to_string()), ("conns:max", kv.config().max_conns.to_string())])
        }
        _ => return None,
    })
}

/// Makes the counters begin at zero again (`stats reset`).
pub(crate) fn reset(kv: &Kv) {
    *kv.baseline() = totals(kv).0;
}

fn totals(kv: &Kv) -> (Totals, Holdings) {
    let (mut all, mut held) = (Totals::default(), Holdings::default());
    for core in kv.counters() {
        for (sum, counter) in all.counts.iter_mut().zip(&core.0) {
            *sum += counter.get();
        }
    }
    kv.store().each_shard(|shard| {
        let Tally { stored, evictions, evicted_unfetched, reclaimed, expired_unfetched } = shard.tally();
        all.tally.stored += stored;
        all.tally.evictions += evictions;
        all.tally.evicted_unfetched += evicted_unfetched;
        all.tally.reclaimed += reclaimed;
        all.tally.expired_unfetched += expired_unfetched;
        held.items += u64::from(shard.items());
        held.used += shard.used();
        held.reserve += shard.reserve();
    });
    (all.connections, all.rejected) = kv.opened();
    (all, held)
}

/// Totals since the last reset.
fn recent(kv: &Kv) -> (Totals, Holdings) {
    let (mut all, held) = totals(kv);
    let base = *kv.baseline();
    for (count, base) in all.counts.iter_mut().zip(base.counts) {
        *count = count.saturating_sub(base);
    }
    let Tally { stored, evictions, evicted_unfetched, reclaimed, expired_unfetched } = base.tally;
    all.tally.stored -= stored;
    all.tally.evictions -= evictions;
    all.tally.evicted_unfetched -= evicted_unfetched;
    all.tally.reclaimed -= reclaimed;
    all.tally.expired_unfetched -= expired_unfetched;
    all.connections -= base.connections;
    all.rejected -= base.rejected;
    (all, held)
}

fn lines<const N: usize>(pairs: [(&str, String); N]) -> Vec<Line> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

fn general(kv: &Kv, now: Secs) -> Vec<Line> {
    let (all, held) = recent(kv);
    let mut out = lines([
        ("pid", std::process::id().to_string()),
        ("uptime", Clock::uptime(now).to_string()),
        ("time", kv.clock().wall(now).to_string()),
        ("version", crate::ascii::VERSION.to_owned()),
        ("pointer_size", usize::BITS.to_string()),
        ("max_connections", kv.config().max_conns.to_string()),
        ("curr_connections", kv.connections().to_string()),
        ("total_connections", all.connections.to_string()),
        ("rejected_connections", all.rejected.to_string()),
    ]);
    out.extend(NAMES.iter().zip(all.counts).map(|(name, n)| ((*name).to_owned(), n.to_string())));
    out.extend(lines([
        ("limit_maxbytes", kv.store().limit().to_string()),
        ("accepting_conns", "1".into()),
        ("threads", kv.counters().len().to_string()),
        ("bytes", kv.store().claimed().saturating_sub(held.reserve).to_string()),
        ("curr_items", held.items.to_string()),
        ("total_items", all.tally.stored.to_string()),
        ("expired_unfetched", all.tally.expired_unfetched.to_string()),
        ("evicted_unfetched", all.tally.evicted_unfetched.to_string()),
        ("evictions", all.tally.evictions.to_string()),
        ("reclaimed", all.tally.reclaimed.to_string()),
    ]));
    out
}

fn settings(kv: &Kv) -> Vec<Line> {
    let config = kv.config();
    lines([
        ("maxbytes", kv.store().limit().to_string()),
        ("maxconns", config.max_conns.to_string()),
        ("verbosity", kv.verbosity().to_string()),
        ("evictions", if kv.store().evicts() { "on".into() } else { "off".into() }),
        ("num_threads", kv.counters().len().to_string()),
        ("detail_enabled", "no".into()),
        ("cas_enabled", "yes".into()),
        ("auth_enabled_sasl", "no".into()),
        ("item_size_max", kv.store().item_max().to_string()),
        ("maxconns_fast", "yes".into()),
        ("flush_enabled", "yes".into()),
        ("hash_algorithm", "siphash13".into()),
    ])
}

/// One class holds all: memory is not divided by size.
fn items(kv: &Kv, now: Secs) -> Vec<Line> {
    let (all, held) = recent(kv);
    if held.items == 0 {
        return Vec::new();
    }
    let mut oldest = now;
    kv.store().each_shard(|shard| oldest = shard.iter().map(|entry| entry.seen).min().unwrap_or(now).min(oldest));
    lines([
        ("items:1:number", held.items.to_string()),
        ("items:1:age", (now - oldest.min(now)).to_string()),
        ("items:1:mem_requested", held.used.to_string()),
        ("items:1:evicted", all.tally.evictions.to_string()),
        ("items:1:evicted_unfetched", all.tally.evicted_unfetched.to_string()),
        ("items:1:outofmemory", all.counts[Stat::StoreNoMemory as usize].to_string()),
        ("items:1:reclaimed", all.tally.reclaimed.to_string()),
        ("items:1:expired_unfetched", all.tally.expired_unfetched.to_string()),
    ])
}

fn slabs(kv: &Kv) -> Vec<Line> {
    let (all, held) = recent(kv);
    let count = |stat: Stat| all.counts[stat as usize].to_string();
    let mut out = Vec::new();
    if held.items > 0 {
        out = lines([
            ("1:used_chunks", held.items.to_string()),
            ("1:get_hits", count(Stat::GetHits)),
            ("1:cmd_set", count(Stat::CmdSet)),
            ("1:delete_hits", count(Stat::DeleteHits)),
            ("1:incr_hits", count(Stat::IncrHits)),
            ("1:decr_hits", count(Stat::DecrHits)),
            ("1:cas_hits", count(Stat::CasHits)),
            ("1:cas_badval", count(Stat::CasBadval)),
            ("1:touch_hits", count(Stat::TouchHits)),
        ]);
    }
    out.extend(lines([
        ("active_slabs", u64::from(held.items > 0).to_string()),
        ("total_malloced", kv.store().claimed().to_string()),
    ]));
    out
}

/// Finds (or adds) the counters of a thread; those of a thread that ended serve its successor.
pub(crate) fn counters_of(cores: &mut Vec<(u16, Arc<Counters>)>, id: u16) -> Arc<Counters> {
    for (core, counters) in cores.iter() {
        // Counters have one writer: nobody else may hold them.
        if *core == id && Arc::strong_count(counters) == 1 {
            return Arc::clone(counters);
        }
    }
    let fresh = Arc::<Counters>::default();
    cores.push((id, Arc::clone(&fresh)));
    fresh
}
