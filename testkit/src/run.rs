//! The interpreter: walks a script's lines over a [`Subject`] and keeps a trace.

use std::fmt;

use units::Nanos;
use wire::tcp::Segment;

use crate::numbers::Numbers;
use crate::script::{Action, Call, Check, Delay, Pattern, Script, Step};
use crate::subject::{Heard, Pace, Refusal, Subject, stream, stream_byte};

/// What came of a script.
#[derive(Clone, Debug)]
pub struct Run {
    /// The script.
    pub script: String,
    /// What happened, in order.
    pub trace: Vec<Entry>,
    /// Why the stack cannot be asked, if it turned out so.
    pub unasked: Option<String>,
    /// The first thing that went wrong.
    pub failure: Option<Failure>,
}

/// One line of a trace.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The script's line; 0 for what no line asked for.
    pub line: usize,
    /// When it was done.
    pub at: Nanos,
    /// What.
    pub text: String,
}

/// Why a script failed, and where.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The script's line.
    pub line: usize,
    /// What the line asks for.
    pub expected: String,
    /// What there was instead.
    pub got: String,
    /// The fields that differ, if it was a segment.
    pub fields: Vec<String>,
}

impl Run {
    /// Whether all lines came true.
    pub fn passed(&self) -> bool {
        self.failure.is_none() && self.unasked.is_none()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>5} {:>12}", "line", "time")?;
        for Entry { line, at, text } in &self.trace {
            let line = if *line == 0 { String::new() } else { line.to_string() };
            writeln!(f, "{line:>5} {:>12}  {text}", format!("{:.3}ms", at.0 as f64 / 1e6))?;
        }
        if let Some(why) = &self.unasked {
            return writeln!(f, "{} was not asked to the end: {why}", self.script);
        }
        match &self.failure {
            None => writeln!(f, "{} passed", self.script),
            Some(Failure { line, expected, got, fields }) => {
                writeln!(f, "{} failed at line {line}", self.script)?;
                writeln!(f, "    expected  {expected}")?;
                writeln!(f, "    got       {got}")?;
                fields.iter().try_for_each(|field| writeln!(f, "              {field}"))
            }
        }
    }
}

/// Runs a script to its end or to the first line that does not come true.
pub fn run(script: &Script, subject: &mut dyn Subject) -> Run {
    let mut runner = Runner {
        numbers: Numbers::new(script.config.peer_isn),
        base: subject.now(),
        subject,
        trace: Vec::new(),
        line: 0,
        unasked: None,
    };
    let failure = runner.steps(&script.steps).err();
    let Runner { trace, unasked, .. } = runner;
    // What the stack does not offer is no failure, whatever came of it.
    let failure = failure.filter(|_| unasked.is_none());
    Run { script: script.name.clone(), trace, unasked, failure }
}

struct Runner<'a> {
    subject: &'a mut dyn Subject,
    numbers: Numbers,
    /// When the step before was done: delays count from here.
    base: Nanos,
    trace: Vec<Entry>,
    line: usize,
    unasked: Option<String>,
}

type Done = Result<(), Failure>;

impl Runner<'_> {
    fn steps(&mut self, steps: &[Step]) -> Done {
        let kind = self.subject.kind();
        for step in steps.iter().filter(|s| s.only.is_none_or(|only| only == kind)) {
            self.line = step.line;
            self.step(step)?;
            if let Some(breach) = self.subject.breach() {
                return self.fail("the stack keeps its contract", breach);
            }
        }
        self.silence_until(self.subject.now(), "the script is over")
    }

    fn step(&mut self, step: &Step) -> Done {
        if let Action::Expect(pattern) = &step.action {
            return self.expect(pattern, step.delay);
        }
        let due = self.base + step.delay.min;
        self.silence_until(due, &step.text)?;
        self.base = self.base.max(self.subject.now());
        match &step.action {
            Action::Inject(pattern) => self.inject(pattern, &step.text),
            Action::Call(call) => self.call(*call, &step.text),
            Action::Check(check) => self.check(*check, &step.text),
            Action::Quiet(span) => {
                self.silence_until(due + *span, &step.text)?;
                self.base = self.subject.now();
                self.note(step.text.clone());
                Ok(())
            }
            Action::NewConnection(peer_isn) => {
                self.numbers.renew(*peer_isn);
                self.subject.new_connection();
                self.note(step.text.clone());
                Ok(())
            }
            Action::Expect(_) => unreachable!("handled above"),
        }
    }

    /// Lets time pass; anything sent meanwhile was not asked for.
    fn silence_until(&mut self, until: Nanos, next: &str) -> Done {
        let Some(heard) = self.subject.heard(until) else { return Ok(()) };
        let text = self.numbers.text_of_heard(&heard.seg);
        self.trace.push(Entry { line: 0, at: heard.at, text: format!(">  {text}") });
        self.fail(&format!("nothing sent before: {next}"), text)
    }

    fn inject(&mut self, pattern: &Pattern, text: &str) -> Done {
        let range = pattern.range.expect("the parser lets no injected segment pass without");
        self.note(text.to_string());
        for part in pieces(range, pattern.by) {
            let seg = match self.numbers.build(pattern, part) {
                Ok(seg) => seg,
                Err(why) => return self.fail(text, why),
            };
            // The first payload byte has relative number 1.
            let payload = stream(part.0.saturating_sub(1).max(0) as u64, seg.len as usize);
            self.subject.inject(&seg, &payload);
        }
        Ok(())
    }

    fn expect(&mut self, pattern: &Pattern, delay: Delay) -> Done {
        let pace = self.subject.pace();
        let earliest = self.base + pace.earliest(delay.min);
        let latest = self.base + pace.latest(delay.max);
        let parts: Vec<Option<(i64, i64)>> = match pattern.range {
            Some(range) => pieces(range, pattern.by).map(Some).collect(),
            None => vec![None],
        };
        let count = parts.len();
        for (i, part) in parts.into_iter().enumerate() {
            // FIN and PSH end a range: its earlier pieces do not carry them.
            let mut piece = pattern.clone();
            if i + 1 < count {
                piece.flags = piece.flags.without(wire::tcp::Flags::FIN);
            }
            self.expect_one(&piece, part, earliest, latest)?;
        }
        Ok(())
    }

    fn expect_one(&mut self, pattern: &Pattern, part: Option<(i64, i64)>, earliest: Nanos, latest: Nanos) -> Done {
        let expected = pattern_text(pattern, part);
        let Some(Heard { at, seg, payload, ect }) = self.subject.heard(latest) else {
            let waited = latest - self.base;
            return self.fail(&expected, format!("nothing within {waited:?}"));
        };
        let mut fields = self.numbers.compare(pattern, part, &seg).err().unwrap_or_default();
        if let Some(wanted) = pattern.ect.filter(|wanted| *wanted != ect) {
            fields.push(format!("ECT: expected {wanted}, got {ect}"));
        }
        let text = self.numbers.text_of_heard(&seg);
        self.trace.push(Entry { line: self.line, at, text: format!(">  {text}") });
        let base = std::mem::replace(&mut self.base, at);
        if !fields.is_empty() {
            return Err(Failure { line: self.line, expected, got: text, fields });
        }
        if at < earliest {
            let got = format!("{text}, already after {:?}", at - base);
            return self.fail(&format!("{expected}, not before {:?}", earliest - base), got);
        }
        self.payload_is_right(&seg, payload.as_deref(), &expected)
    }

    fn payload_is_right(&self, seg: &Segment, payload: Option<&[u8]>, expected: &str) -> Done {
        let Some(bytes) = payload else { return Ok(()) };
        let position = self.numbers.our_position(seg.seq);
        match bytes.iter().zip(position..).find(|&(&byte, at)| byte != stream_byte(at)) {
            None => Ok(()),
            Some((byte, at)) => {
                let got = format!("byte {byte} at position {at} of the stream, where {} belongs", stream_byte(at));
                self.fail(&format!("{expected}, with its bytes"), got)
            }
        }
    }

    fn call(&mut self, call: Call, text: &str) -> Done {
        self.note(text.to_string());
        match self.subject.call(call) {
            Ok(()) => Ok(()),
            Err(Refusal::Failed(why)) => self.fail(text, why),
            Err(Refusal::NotOffered(why)) => {
                self.unasked = Some(why.clone());
                self.fail(text, why)
            }
        }
    }

    /// In real time a check may have to wait for the other processor.
    fn check(&mut self, check: Check, text: &str) -> Done {
        let patience = match self.subject.pace() {
            Pace::Virtual => Nanos::ZERO,
            Pace::Real => Nanos::from_secs(2),
        };
        let give_up = self.subject.now() + patience;
        loop {
            match self.subject.check(check) {
                Ok(()) => {
                    self.note(text.to_string());
                    return Ok(());
                }
                Err(got) if self.subject.now() >= give_up => return self.fail(text, got),
                Err(_) => self.subject.wait(self.subject.now() + Nanos::from_millis(2)),
            }
        }
    }

    fn note(&mut self, text: String) {
        let at = self.subject.now();
        self.trace.push(Entry { line: self.line, at, text });
    }

    fn fail(&self, expected: &str, got: String) -> Done {
        Err(Failure { line: self.line, expected: expected.to_string(), got, fields: Vec::new() })
    }
}

/// A range cut into pieces of `by` bytes; the last may be shorter. Without `by`, the range itself.
fn pieces((first, end): (i64, i64), by: Option<u32>) -> impl Iterator<Item = (i64, i64)> {
    let by = by.map_or(i64::MAX, i64::from);
    let mut at = Some(first);
    std::iter::from_fn(move || {
        let from = at?;
        let to = from.saturating_add(by).min(end);
        at = (to < end).then_some(to);
        Some((from, to))
    })
}

fn pattern_text(p: &Pattern, part: Option<(i64, i64)>) -> String {
    let range = match part {
        None => "*".to_string(),
        Some((first, end)) if first == end => first.to_string(),
        Some((first, end)) => format!("{first}:{end}"),
    };
    let mut text = format!("{} {range}", crate::numbers::flags_text(p.flags));
    if let Some(ack) = p.ack {
        text.push_str(&format!(" ack {ack}"));
    }
    match p.win {
        crate::script::Win::Is(n) => text.push_str(&format!(" win {n}")),
        crate::script::Win::AtMost(n) => text.push_str(&format!(" win <={n}")),
        crate::script::Win::AtLeast(n) => text.push_str(&format!(" win >={n}")),
        crate::script::Win::Any => {}
    }
    text
}
