use std::fmt::Write;

use abi::{CoreInfo, Dump, GroupList, Hello, MoveInfo};
use attach::{Found, Presence, Snapshot};
use units::{FlowGroupId, GroupSet};

/// Characters of a list of flow groups in a table of other things.
const GROUPS_WIDTH: usize = 40;

/// Lines of aligned columns: words to the left, numbers to the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(|h| (*h).to_owned()).collect()] }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
        let number = |s: &str| s.starts_with(|c: char| c.is_ascii_digit()) && !s.contains([',', '/']) || s == "-";
        let right = |c: usize| self.rows.iter().skip(1).filter_map(|r| r.get(c)).all(|s| number(s));
        let layout: Vec<(usize, bool)> = (0..columns).map(|c| (width(c), right(c))).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, (width, right)) in row.iter().zip(&layout) {
                let pad = " ".repeat(width - cell.chars().count());
                line += &if *right { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

pub(crate) fn list(all: &[Found]) -> String {
    if all.is_empty() {
        return "no dataplane runs here (`zygix serve APP` starts one; root's are root's to see)\n".into();
    }
    let mut table = Table::new(&["NAME", "STATE", "PID", "CORES", "SCHED", "WHAT"]);
    for found in all {
        let name = found.name.clone();
        let path = found.socket.display();
        match &found.presence {
            Presence::Live(h) => {
                let Hello { pid, cores, sched, about, .. } = h;
                table.row([name, "live".into(), pid.to_string(), cores.to_string(), sched.clone(), about.clone()]);
            }
            Presence::Stale => {
                let left = format!("has ended, and left {path}");
                table.row([name, "stale".into(), "-".into(), "-".into(), "-".into(), left]);
            }
            Presence::Unwilling(e) => {
                table.row([name, "unwilling".into(), "-".into(), "-".into(), "-".into(), e.to_string()]);
            }
        }
    }
    table.text()
}

pub(crate) fn cores(hello: &Hello, before: &Snapshot, after: &Snapshot) -> String {
    let seconds = (after.at - before.at).as_secs_f64().max(1e-9);
    let mut table = Table::new(&[
        "CORE", "STATE", "CPU", "TID", "GROUPS", "CONNS", "REQ/S", "Q", "BATCH", "TURN us", "P50 us", "P99 us",
        "IDLE %", "STEALS", "LENDS", "RETRANS", "DROPS", "SLOW",
    ]);
    for (i, (was, is)) in before.cores.iter().zip(&after.cores).enumerate() {
        let latency = is.latency.since(&was.latency);
        let us = |q| latency.quantile(q).map_or("-".into(), |ns| format!("{:.1}", ns.0 as f64 / 1e3));
        let state = if is.parked {
            "parked"
        } else if is.in_app_long {
            "stuck"
        } else {
            "active"
        };
        let or_dash = |n: Option<u32>| n.map_or("-".into(), |n| n.to_string());
        table.row([
            i.to_string(),
            state.into(),
            or_dash(is.cpu),
            or_dash(is.tid),
            is.groups.0.len().to_string(),
            is.connections.to_string(),
            format!("{:.0}", is.ready.saturating_sub(was.ready) as f64 / seconds),
            format!("{:.1}", is.depth_ewma[1]),
            format!("{:.1}", is.batch_ewma),
            format!("{:.1}", is.iteration_ns_ewma / 1e3),
            us(0.5),
            us(0.99),
            format!("{:.0}", is.idle_ewma[1] * 100.0),
            is.steals.to_string(),
            is.lends.to_string(),
            is.retransmits.to_string(),
            is.drops.to_string(),
            is.non_responsive.to_string(),
        ]);
    }
    let mut out = format!("{} (pid {}): {}\n", hello.name, hello.pid, hello.about);
    if !after.is_fresh() {
        let _ = writeln!(out, "its page was written {:.1} s ago: is its process stopped?", after.age().as_secs_f64());
    }
    out + &table.text()
}

/// A line per core, then one for each group that something comes for.
pub(crate) fn groups(owners: &[u16], before: &Snapshot, after: &Snapshot) -> String {
    let seconds = (after.at - before.at).as_secs_f64().max(1e-9);
    let rate = |g: usize| {
        let of = |s: &Snapshot| s.group_load.get(g).copied().unwrap_or(0);
        of(after).saturating_sub(of(before)) as f64 / seconds
    };
    let mut table = Table::new(&["CORE", "FRAMES/S", "GROUPS"]);
    for core in 0..after.cores.len() {
        let own: GroupSet = (0..owners.len()).filter(|g| usize::from(owners[*g]) == core).map(id).collect();
        let sum: f64 = own.iter().map(|g| rate(g.index())).sum();
        table.row([core.to_string(), format!("{sum:.0}"), GroupList(own).to_string()]);
    }
    let mut busy: Vec<(usize, f64)> = (0..owners.len()).map(|g| (g, rate(g))).filter(|(_, r)| *r > 0.0).collect();
    busy.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut out = table.text();
    if !busy.is_empty() {
        let mut table = Table::new(&["GROUP", "CORE", "FRAMES/S"]);
        busy.iter().for_each(|(g, r)| table.row([g.to_string(), owners[*g].to_string(), format!("{r:.0}")]));
        out.push('\n');
        out += &table.text();
    }
    out
}

fn id(group: usize) -> FlowGroupId {
    FlowGroupId(group as u16)
}

pub(crate) fn moves(moves: &[MoveInfo]) -> String {
    if moves.is_empty() {
        return "no flow group was moved\n".into();
    }
    let mut table = Table::new(&["FROM", "TO", "TOTAL us", "PREPARE", "WAIT", "RPC", "DEFERRED", "FRAMES", "GROUPS"]);
    for m in moves {
        let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
        let mut groups = short(m.groups);
        if !m.forwarded.0.is_empty() {
            // Written out only where they are not all.
            let which = if m.forwarded == m.groups { String::new() } else { format!(" {}", short(m.forwarded)) };
            groups += &format!(" (forwarded{which}: the NIC does not steer)");
        }
        table.row([
            m.from.to_string(),
            m.to.to_string(),
            us(m.total_ns),
            us(m.prepare_ns),
            us(m.wait_ns),
            us(m.rpc_ns),
            us(m.deferred_ns),
            m.packets.to_string(),
            groups,
        ]);
    }
    table.text()
}

/// A long list by its begin and its number.
fn short(groups: GroupList) -> String {
    let text = groups.to_string();
    if text.len() <= GROUPS_WIDTH {
        return text;
    }
    let end = text[..GROUPS_WIDTH].rfind(',').unwrap_or(GROUPS_WIDTH);
    format!("{},... ({} groups)", &text[..end], groups.0.len())
}

pub(crate) fn dump(dump: &Dump) -> String {
    let h = &dump.hello;
    let mut out = format!("{} (pid {}): {}\n\n", h.name, h.pid, h.about);
    let mut table = Table::new(&["CORE", "STATE", "CPU", "TID", "GROUPS"]);
    for CoreInfo { core, parked, groups, tid, cpu } in &dump.cores {
        let or_dash = |n: Option<u32>| n.map_or("-".into(), |n| n.to_string());
        let state = if *parked { "parked" } else { "active" };
        table.row([core.to_string(), state.into(), or_dash(*cpu), or_dash(*tid), groups.to_string()]);
    }
    out += &table.text();
    let names = |of: fn(&abi::Counters) -> &std::collections::BTreeMap<String, u64>| {
        dump.counters.iter().flat_map(move |c| of(c).keys().cloned()).collect::<std::collections::BTreeSet<_>>()
    };
    let cores: Vec<String> = (0..dump.counters.len()).map(|i| format!("core {i}")).collect();
    let head: Vec<&str> = std::iter::once("COUNTER").chain(cores.iter().map(String::as_str)).collect();
    let mut table = Table::new(&head);
    for name in names(|c| &c.counted) {
        let of = |c: &abi::Counters| c.counted.get(&name).copied().unwrap_or(0);
        if dump.counters.iter().any(|c| of(c) > 0) {
            table.row(std::iter::once(name.clone()).chain(dump.counters.iter().map(|c| of(c).to_string())));
        }
    }
    for name in names(|c| &c.drops) {
        let of = |c: &abi::Counters| c.drops.get(&name).copied().unwrap_or(0);
        table.row(std::iter::once(format!("drop.{name}")).chain(dump.counters.iter().map(|c| of(c).to_string())));
    }
    out.push('\n');
    out += &table.text();
    out.push('\n');
    out += &moves(&dump.log);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_between_groups() {
        let all: GroupList = "0-127".parse().unwrap();
        assert_eq!(short(all), "0-127");
        let odd = GroupList((0..64).map(|g| FlowGroupId(2 * g + 1)).collect());
        assert_eq!(short(odd), "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,... (64 groups)");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a".into(), "1000".into()]);
        table.row(["longer".into(), "7".into()]);
        assert_eq!(table.text(), "NAME       N\na       1000\nlonger     7\n");
    }
}
