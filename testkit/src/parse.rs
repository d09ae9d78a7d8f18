//! From text to [`Script`]. The language is described in `scripts/README.md`.
//!
//! Every error carries the file's name and the line's number and text, and says what would have been accepted.

use std::fmt;

use tcp::{Congestion, Ecn};
use units::Nanos;
use wire::tcp::Flags;

use crate::script::{Action, Call, Check, Config, Dead, Delay, Kind, Linux, Pattern, Script, Stamp, State, Step, Win};

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The script's name.
    pub script: String,
    /// The line's number, from 1; 0 for the script as a whole.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError { script, line, text, why } = self;
        if *line == 0 {
            return write!(f, "{script}: {why}");
        }
        write!(f, "{script}:{line}: {why}\n    {}", text.trim_end())
    }
}

impl std::error::Error for ParseError {}

/// What is wrong with a part of a line.
type Part<T> = Result<T, String>;

/// Reads a script.
///
/// # Errors
/// The first line that does not read, or a script without head comment, `linux:` line or steps.
pub fn parse(name: &str, source: &str) -> Result<Script, ParseError> {
    let error = |line: usize, text: &str, why: String| ParseError { script: name.into(), line, text: text.into(), why };
    let mut script = Script {
        name: name.into(),
        about: String::new(),
        linux: Linux::Agrees,
        config: Config::default(),
        steps: Vec::new(),
    };
    let mut linux = None;
    let mut before_first_line = true;
    for (number, raw) in source.lines().enumerate() {
        let number = number + 1;
        let (line, comment) = match raw.split_once('#') {
            Some((line, comment)) => (line.trim(), Some(comment.trim())),
            None => (raw.trim(), None),
        };
        if line.is_empty() {
            if let (true, Some(comment)) = (before_first_line, comment) {
                if !script.about.is_empty() {
                    script.about.push(' ');
                }
                script.about.push_str(comment);
            }
            continue;
        }
        before_first_line = false;
        let read = if let Some(rest) = line.strip_prefix("linux:") {
            parse_linux(rest.trim()).map(|l| linux = Some(l))
        } else if let Some(rest) = line.strip_prefix("config:") {
            rest.split(',').try_for_each(|item| parse_setting(item.trim(), &mut script.config))
        } else {
            parse_line(number, line, &script.config).map(|steps| script.steps.extend(steps))
        };
        read.map_err(|why| error(number, raw, why))?;
    }
    script.linux = linux.ok_or_else(|| {
        error(0, "", "a line `linux: yes`, `linux: no (reason)` or `linux: differs (explanation)` is missing".into())
    })?;
    if script.about.is_empty() {
        return Err(error(0, "", "a head comment is missing: what the script shows, and the RFC section".into()));
    }
    if script.steps.is_empty() {
        return Err(error(0, "", "no steps".into()));
    }
    Ok(script)
}

fn parse_linux(rest: &str) -> Part<Linux> {
    let reason = |text: &str| {
        let inner = text.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')')).map(str::trim);
        inner
            .filter(|t| !t.is_empty())
            .map(String::from)
            .ok_or_else(|| "a reason in parentheses is missing".to_string())
    };
    match rest.split_once(' ').unwrap_or((rest, "")) {
        ("yes", "") => Ok(Linux::Agrees),
        ("no", why) => Ok(Linux::Unasked(reason(why)?)),
        ("differs", why) => Ok(Linux::Differs(reason(why)?)),
        _ => Err("expected `yes`, `no (reason)` or `differs (explanation)`".into()),
    }
}

/// One `name value` of a `config:` line.
fn parse_setting(item: &str, config: &mut Config) -> Part<()> {
    let mut words = Words::of(item);
    let name = words.next("a setting")?;
    match name {
        "mss" => config.mss = words.number("mss")?,
        "window" => config.window = words.number("window")?,
        "wscale" => config.wscale = words.number_or_off("wscale")?,
        "sack" => config.sack = words.on_or_off("sack")?,
        "timestamps" => config.timestamps = words.on_or_off("timestamps")?,
        "congestion" => config.congestion = words.one_of(&Congestion::ALL, |c| c.1)?.0,
        "ecn" => config.ecn = words.one_of(&Ecn::ALL, |e| e.1)?.0,
        "rack" => config.rack = words.on_or_off("rack")?,
        "tlp" => config.tlp = words.on_or_off("tlp")?,
        "frto" => config.frto = words.on_or_off("frto")?,
        "dsack" => config.dsack = words.on_or_off("dsack")?,
        "nagle" => config.nagle = words.on_or_off("nagle")?,
        "user_timeout" => config.user_timeout = Some(words.span("user_timeout")?),
        "initial_window" => config.initial_window = words.number("initial_window")?,
        "rto_min" => config.rto_min = words.span("rto_min")?,
        "rto_initial" => config.rto_initial = words.span("rto_initial")?,
        "delayed_ack" => config.delayed_ack = words.span("delayed_ack")?,
        "default_mss" => config.default_mss = Some(words.number("default_mss")?),
        "syn_retries" => config.syn_retries = words.number("syn_retries")?,
        "retries" => config.retries = words.number("retries")?,
        "msl" => config.msl = words.span("msl")?,
        "fin_wait2" => config.fin_wait2 = words.span("fin_wait2")?,
        "keepalive" => {
            let idle = words.span("idle time")?;
            config.keepalive = Some((idle, words.span("interval")?, words.number("number of probes")?));
        }
        "challenge_spacing" => config.challenge_spacing = words.span("challenge_spacing")?,
        "cookies" => config.cookies = words.on_or_off("cookies")?,
        "isn" => config.isn = words.number("isn")?,
        "peer_isn" => config.peer_isn = words.number("peer_isn")?,
        "sysctl" => {
            let key = words.next("a name below net.ipv4")?.to_string();
            config.sysctls.push((key, words.next("a value")?.to_string()));
        }
        other => return Err(format!("no setting is called `{other}`")),
    }
    words.end()
}

/// One step, or the several that `established` stands for.
fn parse_line(line: usize, text: &str, config: &Config) -> Part<Vec<Step>> {
    let mut words = Words::of(text);
    if !words.take("established") {
        return Ok(vec![parse_step(line, text)?]);
    }
    let win: u16 = if words.take("win") { words.number("win")? } else { u16::MAX };
    words.end()?;
    let ws = config.wscale.map_or(String::new(), |ws| format!(" ws {ws}"));
    let sackok = if config.sack { " sackok" } else { "" };
    let ts = |text| if config.timestamps { text } else { "" };
    let opening = [
        "listen".to_string(),
        format!("< SYN 0 win 65535 mss 1000{ws}{sackok}{}", ts(" ts 100/0")),
        format!("> SYN,ACK 0 ack 1 mss {}{ws}{sackok}{}", config.mss, ts(" ts a/100")),
        format!("+10ms < ACK 1 ack 1 win {win}{}", ts(" ts 110/a")),
        "accept".to_string(),
    ];
    opening.iter().map(|text| parse_step(line, text)).collect()
}

/// `[+TIME] [zygix|linux] ACTION`.
fn parse_step(line: usize, text: &str) -> Part<Step> {
    let mut words = Words::of(text);
    let mut delay = None;
    if let Some(time) = words.peek().and_then(|w| w.strip_prefix('+')) {
        delay = Some(parse_delay(time)?);
        words.skip();
    }
    let only = match words.peek() {
        Some("zygix") => Some(Kind::Zygix),
        Some("linux") => Some(Kind::Linux),
        _ => None,
    };
    if only.is_some() {
        words.skip();
    }
    let action = parse_action(&mut words)?;
    words.end()?;
    let delay = delay.unwrap_or_default();
    if delay.min != delay.max && !matches!(action, Action::Expect(_)) {
        return Err("a range of time makes sense for an expected segment (`>`) only".into());
    }
    Ok(Step { line, text: text.into(), delay, only, action })
}

fn parse_action(words: &mut Words<'_>) -> Part<Action> {
    let verb = words.next("a step")?;
    let call = match verb {
        "<" => return parse_injected(words).map(Action::Inject),
        ">" => return parse_pattern(words).map(Action::Expect),
        "state" => return Ok(Action::Check(Check::State(words.one_of(&State::ALL, State::name)?))),
        "dead" => return Ok(Action::Check(Check::Dead(words.one_of(&Dead::ALL, Dead::name)?))),
        "connected" => return Ok(Action::Check(Check::Connected)),
        "readable" => return Ok(Action::Check(Check::Readable(words.number("bytes")?))),
        "eof" => return Ok(Action::Check(Check::Eof)),
        "alive" => return Ok(Action::Check(Check::Alive)),
        "quiet" => {
            let span = if words.peek().is_some() { words.span("time")? } else { Nanos::ZERO };
            return Ok(Action::Quiet(span));
        }
        "new" => {
            words.literal("connection")?;
            words.literal("peer_isn")?;
            return Ok(Action::NewConnection(words.number("peer_isn")?));
        }
        "listen" => Call::Listen,
        "connect" => Call::Connect,
        "accept" => Call::Accept,
        "send" => {
            let bytes = words.number("bytes")?;
            let admits = if words.take("admits") { Some(words.number("bytes admitted")?) } else { None };
            Call::Send { bytes, admits }
        }
        "recv" => Call::Recv(words.number("bytes")?),
        "shutdown" => Call::Shutdown,
        "close" => Call::Close,
        "abort" => Call::Abort,
        other => {
            return Err(format!(
                "`{other}` is no step; expected `<` or `>` and a segment, a call (listen, connect, accept, send, recv, \
                 shutdown, close, abort) or a check (state, connected, readable, eof, dead, alive, quiet)"
            ));
        }
    };
    Ok(Action::Call(call))
}

/// A segment that can be built: nothing left open.
fn parse_injected(words: &mut Words<'_>) -> Part<Pattern> {
    let pattern = parse_pattern(words)?;
    let open = |what: &str| Err(format!("an injected segment must give its {what}"));
    if pattern.range.is_none() {
        return open("sequence number");
    }
    if pattern.flags.contains(Flags::ACK) && pattern.ack.is_none() {
        return open("acknowledgment");
    }
    if matches!(pattern.win, Win::AtMost(_) | Win::AtLeast(_)) {
        return open("window");
    }
    if pattern.ts.as_ref().is_some_and(|(val, ecr)| *val == Stamp::Any || *ecr == Stamp::Any) || pattern.and_more {
        return open("options");
    }
    Ok(pattern)
}

/// `FLAGS seq[:end] [by N] [ack N] [win W] [mss N] [ws N] [sackok] [ts V/E] [sack A:B ...] [...]`.
fn parse_pattern(words: &mut Words<'_>) -> Part<Pattern> {
    let flags = parse_flags(words.next("flags")?)?;
    let range = match words.next("a sequence number, a range `first:end` or `*`")? {
        "*" => None,
        range => Some(parse_range(range)?),
    };
    let mut p = Pattern {
        flags,
        range,
        by: None,
        ack: None,
        win: Win::Any,
        mss: None,
        ws: None,
        sackok: false,
        ts: None,
        sacks: Vec::new(),
        ce: false,
        ect: None,
        and_more: false,
    };
    let mut acked = false;
    while let Some(word) = words.take_any() {
        match word {
            "by" => p.by = Some(words.number("bytes per piece")?),
            "ack" => {
                acked = true;
                p.ack = match words.next("an acknowledgment")? {
                    "*" => None,
                    n => Some(parse_number(n, "acknowledgment")?),
                };
            }
            "win" => p.win = parse_win(words.next("a window")?)?,
            "mss" => p.mss = Some(words.number("mss")?),
            "ws" => p.ws = Some(words.number("window scale")?),
            "sackok" => p.sackok = true,
            "ts" => {
                let both = words.next("timestamps as `value/echo`")?;
                let (val, ecr) = both.split_once('/').ok_or("timestamps are written `value/echo`")?;
                p.ts = Some((parse_stamp(val)?, parse_stamp(ecr)?));
            }
            "sack" => {
                while let Some(block) = words.peek().filter(|w| w.contains(':')) {
                    p.sacks.push(parse_range(block)?);
                    words.skip();
                }
                if p.sacks.is_empty() || p.sacks.len() > 4 {
                    return Err("`sack` takes one to four ranges `first:end`".into());
                }
            }
            "ce" => p.ce = true,
            "ect" => p.ect = Some(true),
            "noect" => p.ect = Some(false),
            "..." => p.and_more = true,
            other => return Err(format!("`{other}` is no part of a segment")),
        }
    }
    if acked != flags.contains(Flags::ACK) {
        return Err("an acknowledgment goes with the flag ACK, and only with it (`ack *` for any)".into());
    }
    if p.by == Some(0) || (p.by.is_some() && range.is_none_or(|(first, end)| first == end)) {
        return Err("`by` cuts a range into pieces of at least one byte".into());
    }
    Ok(p)
}

fn parse_flags(word: &str) -> Part<Flags> {
    let mut flags = Flags::NONE;
    if word == "NONE" {
        return Ok(flags);
    }
    for name in word.split(',') {
        flags |= match name {
            "FIN" => Flags::FIN,
            "SYN" => Flags::SYN,
            "RST" => Flags::RST,
            "PSH" => Flags::PSH,
            "ACK" => Flags::ACK,
            "URG" => Flags::URG,
            "ECE" => Flags::ECE,
            "CWR" => Flags::CWR,
            _ => return Err(format!("`{name}` is no flag; flags are written `SYN,ACK`, none as `NONE`")),
        };
    }
    Ok(flags)
}

/// `7` is the empty range at 7; `1:1001` holds 1000 bytes.
fn parse_range(word: &str) -> Part<(i64, i64)> {
    let (first, end) = word.split_once(':').unwrap_or((word, word));
    let (first, end) = (parse_number(first, "sequence number")?, parse_number(end, "sequence number")?);
    if end < first || end - first > 65_535 * 16 {
        return Err(format!("`{word}` is no range of bytes"));
    }
    Ok((first, end))
}

fn parse_win(word: &str) -> Part<Win> {
    if word == "*" {
        return Ok(Win::Any);
    }
    if let Some(n) = word.strip_prefix("<=") {
        return Ok(Win::AtMost(parse_number(n, "window")?));
    }
    if let Some(n) = word.strip_prefix(">=") {
        return Ok(Win::AtLeast(parse_number(n, "window")?));
    }
    Ok(Win::Is(parse_number(word, "window")?))
}

fn parse_stamp(word: &str) -> Part<Stamp> {
    if word == "*" {
        return Ok(Stamp::Any);
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(Stamp::Is(parse_number(word, "timestamp")?));
    }
    let at = word.find(['+', '-']).unwrap_or(word.len());
    let (name, offset) = word.split_at(at);
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase()) {
        return Err(format!("`{word}` is no timestamp: a number, `*`, or a lower-case name with `+N` or `-N`"));
    }
    let offset = if offset.is_empty() { 0 } else { parse_number(offset.trim_start_matches('+'), "offset")? };
    Ok(Stamp::Named(name.into(), offset))
}

fn parse_delay(word: &str) -> Part<Delay> {
    let (min, max) = word.split_once("..").unwrap_or((word, word));
    let (min, max) = (parse_span(min, "time")?, parse_span(max, "time")?);
    if max < min { Err(format!("`+{word}` ends before it begins")) } else { Ok(Delay { min, max }) }
}

/// `40ms`, `1.5s`, `16us`, `2h`.
fn parse_span(word: &str, what: &str) -> Part<Nanos> {
    let unit_at = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
    let (number, unit) = word.split_at(unit_at);
    let scale = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "min" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        _ => return Err(format!("{what}: `{word}` lacks a unit (us, ms, s, min, h, d)")),
    };
    match number.parse::<f64>() {
        Ok(n) if n >= 0.0 => Ok(Nanos((n * scale).round() as u64)),
        _ => Err(format!("{what}: `{word}` is no span of time")),
    }
}

fn parse_number<T: std::str::FromStr>(word: &str, what: &str) -> Part<T> {
    word.parse().map_err(|_| format!("{what}: `{word}` is no number, or too large a one"))
}

/// The words of a line, taken one by one.
struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Words<'a> {
        Words { words: text.split_whitespace().peekable() }
    }

    fn peek(&mut self) -> Option<&'a str> {
        self.words.peek().copied()
    }

    fn skip(&mut self) {
        self.words.next();
    }

    fn take_any(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, word: &str) -> bool {
        self.words.next_if(|w| *w == word).is_some()
    }

    fn next(&mut self, what: &str) -> Part<&'a str> {
        self.words.next().ok_or_else(|| format!("the line ends where {what} is expected"))
    }

    fn literal(&mut self, word: &str) -> Part<()> {
        if self.take(word) { Ok(()) } else { Err(format!("expected `{word}`")) }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Part<T> {
        parse_number(self.next(what)?, what)
    }

    fn span(&mut self, what: &str) -> Part<Nanos> {
        parse_span(self.next(what)?, what)
    }

    fn on_or_off(&mut self, what: &str) -> Part<bool> {
        match self.next("`on` or `off`")? {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(format!("{what}: `{other}` is neither `on` nor `off`")),
        }
    }

    fn number_or_off<T: std::str::FromStr>(&mut self, what: &str) -> Part<Option<T>> {
        if self.take("off") { Ok(None) } else { self.number(what).map(Some) }
    }

    fn one_of<T: Copy>(&mut self, all: &[T], name: fn(T) -> &'static str) -> Part<T> {
        let names = || all.iter().map(|&t| name(t)).collect::<Vec<_>>().join(", ");
        let word = self.next(&format!("one of {}", names()))?;
        all.iter().copied().find(|&t| name(t) == word).ok_or_else(|| format!("`{word}` is none of {}", names()))
    }

    fn end(&mut self) -> Part<()> {
        match self.take_any() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is one word too many")),
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
