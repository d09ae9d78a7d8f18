//! Relative and absolute numbers: how a [`Pattern`] becomes a segment, and how a segment is held against one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wire::Seq;
use wire::tcp::{Flags, Options, Segment, Timestamps};

use crate::script::{Pattern, Stamp, Win};

/// What relative numbers count from, and what the names of timestamps stand for.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    /// Our initial sequence number, once a SYN of ours was seen; before that, relative is absolute.
    ours: Option<Seq>,
    /// The peer's.
    peers: Seq,
    names: BTreeMap<String, u32>,
}

impl Numbers {
    pub(crate) fn new(peer_isn: u32) -> Numbers {
        Numbers { ours: None, peers: Seq(peer_isn), names: BTreeMap::new() }
    }

    /// A new connection: ours is unknown again.
    pub(crate) fn renew(&mut self, peer_isn: u32) {
        self.ours = None;
        self.peers = Seq(peer_isn);
    }

    fn our_base(&self) -> Seq {
        self.ours.unwrap_or(Seq(0))
    }

    /// The position in our stream of a payload that begins at `seq`.
    pub(crate) fn our_position(&self, seq: Seq) -> u64 {
        u64::from(seq.since(self.our_base() + 1))
    }

    /// The segment that the peer sends, for the part `first..end` of the pattern's range.
    ///
    /// # Errors
    /// A name that stands for nothing yet.
    pub(crate) fn build(&self, p: &Pattern, (first, end): (i64, i64)) -> Result<Segment, String> {
        let stamp = |s: &Stamp| -> Result<u32, String> {
            match s {
                Stamp::Any => Ok(0),
                Stamp::Is(n) => Ok(*n),
                Stamp::Named(name, offset) => {
                    let base =
                        self.names.get(name).ok_or_else(|| format!("the timestamp `{name}` has no value yet"))?;
                    Ok(base.wrapping_add(*offset as u32))
                }
            }
        };
        let timestamps = match &p.ts {
            Some((val, ecr)) => Some(Timestamps { val: stamp(val)?, ecr: stamp(ecr)? }),
            None => None,
        };
        let wnd = match p.win {
            Win::Is(n) => n,
            _ => u16::MAX,
        };
        let sacks = p.sacks.iter().map(|&(a, b)| (at(self.our_base(), a), at(self.our_base(), b))).collect();
        Ok(Segment {
            seq: at(self.peers, first),
            ack: p.ack.map_or(Seq(0), |n| at(self.our_base(), n)),
            flags: p.flags,
            wnd,
            len: (end - first) as u32,
            opts: Options { mss: p.mss, wscale: p.ws, sack_permitted: p.sackok, timestamps, sacks },
            ce: p.ce,
        })
    }

    /// Holds a segment of the stack against the part `range` of a pattern (`None`: any), and learns the initial
    /// sequence number and the values of names from it.
    ///
    /// # Errors
    /// One line per field that differs.
    pub(crate) fn compare(&mut self, p: &Pattern, range: Option<(i64, i64)>, seg: &Segment) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        let mut differ = |field: &str, expected: String, got: String| {
            if expected != got {
                wrong.push(format!("{field}: expected {expected}, got {got}"));
            }
        };
        let ignored = if p.flags.contains(Flags::PSH) { Flags::NONE } else { Flags::PSH };
        differ("flags", flags_text(p.flags), flags_text(seg.flags.without(ignored)));
        if let Some((first, end)) = range {
            if seg.flags.contains(Flags::SYN) && self.ours.is_none() {
                self.ours = Some(at(seg.seq, -first));
            }
            let got = relative(seg.seq, self.our_base());
            differ("sequence", range_text(first, end), range_text(got, got + i64::from(seg.len)));
        }
        if let (Some(ack), true) = (p.ack, seg.flags.contains(Flags::ACK)) {
            differ("ack", ack.to_string(), relative(seg.ack, self.peers).to_string());
        }
        match p.win {
            Win::Any => {}
            Win::Is(n) => differ("win", n.to_string(), seg.wnd.to_string()),
            Win::AtMost(n) if seg.wnd <= n => {}
            Win::AtMost(n) => differ("win", format!("<={n}"), seg.wnd.to_string()),
            Win::AtLeast(n) if seg.wnd >= n => {}
            Win::AtLeast(n) => differ("win", format!(">={n}"), seg.wnd.to_string()),
        }
        let text = |o: Option<u32>| o.map_or("none".to_string(), |n| n.to_string());
        let must = |written: bool| written || !p.and_more;
        if must(p.mss.is_some()) {
            differ("mss", text(p.mss.map(u32::from)), text(seg.opts.mss.map(u32::from)));
        }
        if must(p.ws.is_some()) {
            differ("ws", text(p.ws.map(u32::from)), text(seg.opts.wscale.map(u32::from)));
        }
        if must(p.sackok) {
            differ("sackok", p.sackok.to_string(), seg.opts.sack_permitted.to_string());
        }
        if must(!p.sacks.is_empty()) {
            differ("sack", blocks_text(p.sacks.iter().copied()), blocks_text(self.sacks_of(seg)));
        }
        match (&p.ts, seg.opts.timestamps) {
            (None, None) => {}
            (None, Some(_)) if p.and_more => {}
            (None, Some(_)) => differ("ts", "none".into(), "some".into()),
            (Some(_), None) => differ("ts", "some".into(), "none".into()),
            (Some((val, ecr)), Some(ts)) => {
                differ("ts value", self.stamp_text(val, ts.val), ts.val.to_string());
                differ("ts echo", self.stamp_text(ecr, ts.ecr), ts.ecr.to_string());
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// What a stamp expects; a name without value takes `got`.
    fn stamp_text(&mut self, stamp: &Stamp, got: u32) -> String {
        match stamp {
            Stamp::Any => got.to_string(),
            Stamp::Is(n) => n.to_string(),
            Stamp::Named(name, offset) => {
                let base = *self.names.entry(name.clone()).or_insert(got.wrapping_sub(*offset as u32));
                base.wrapping_add(*offset as u32).to_string()
            }
        }
    }

    /// A segment of the stack in the language of scripts.
    pub(crate) fn text_of_heard(&self, seg: &Segment) -> String {
        let (ours, peers) = (self.our_base(), self.peers);
        let mut text = text_of(seg, ours, peers);
        if !seg.opts.sacks.is_empty() {
            let _ = write!(text, " sack {}", blocks_text(self.sacks_of(seg)));
        }
        text
    }

    /// The blocks that the stack reports, in the peer's numbers.
    fn sacks_of<'a>(&'a self, seg: &'a Segment) -> impl Iterator<Item = (i64, i64)> + 'a {
        seg.opts.sacks.iter().map(|(a, b)| (relative(a, self.peers), relative(b, self.peers)))
    }
}

fn text_of(seg: &Segment, seq_base: Seq, ack_base: Seq) -> String {
    let first = relative(seg.seq, seq_base);
    let mut text = format!("{} {}", flags_text(seg.flags), range_text(first, first + i64::from(seg.len)));
    if seg.flags.contains(Flags::ACK) {
        let _ = write!(text, " ack {}", relative(seg.ack, ack_base));
    }
    let _ = write!(text, " win {}", seg.wnd);
    if let Some(mss) = seg.opts.mss {
        let _ = write!(text, " mss {mss}");
    }
    if let Some(ws) = seg.opts.wscale {
        let _ = write!(text, " ws {ws}");
    }
    if seg.opts.sack_permitted {
        text.push_str(" sackok");
    }
    if let Some(ts) = seg.opts.timestamps {
        let _ = write!(text, " ts {}/{}", ts.val, ts.ecr);
    }
    text
}

/// `base + n` on the circle.
fn at(base: Seq, n: i64) -> Seq {
    base + n as u32
}

/// How far `seq` lies from `base`, ahead or behind.
fn relative(seq: Seq, base: Seq) -> i64 {
    i64::from(seq.since(base) as i32)
}

fn range_text(first: i64, end: i64) -> String {
    if first == end { first.to_string() } else { format!("{first}:{end}") }
}

fn blocks_text(blocks: impl Iterator<Item = (i64, i64)>) -> String {
    let text: Vec<String> = blocks.map(|(a, b)| range_text(a, b)).collect();
    if text.is_empty() { "none".into() } else { text.join(" ") }
}

/// As scripts write it: `SYN,ACK`.
pub(crate) fn flags_text(flags: Flags) -> String {
    const ORDER: [(Flags, &str); 8] = [
        (Flags::FIN, "FIN"),
        (Flags::SYN, "SYN"),
        (Flags::RST, "RST"),
        (Flags::PSH, "PSH"),
        (Flags::URG, "URG"),
        (Flags::ECE, "ECE"),
        (Flags::CWR, "CWR"),
        (Flags::ACK, "ACK"),
    ];
    if flags.is_empty() {
        return "NONE".into();
    }
    let names: Vec<&str> = ORDER.iter().filter(|(f, _)| flags.contains(*f)).map(|&(_, n)| n).collect();
    names.join(",")
}
