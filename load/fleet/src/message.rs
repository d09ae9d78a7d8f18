use std::str::FromStr;

use load::{Outcome, Spec, Window};
use serde_json::Value;
use units::Nanos;

/// Who may talk to whom: equals. What a spec means may change with every release, and within one the number behind the
/// plus sign does.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+2");

/// The longest line from a coordinator: a spec may carry the values of a trace file.
pub(crate) const ORDER_MAX: usize = 16 << 20;
/// The longest line from an agent: histograms and a time series.
pub(crate) const ANSWER_MAX: usize = 64 << 20;

/// The longest window that an agent takes on.
const WINDOW_MAX: Nanos = Nanos::from_secs(7 * 24 * 3600);
/// Connections, and requests under way, that no machine has.
const CONNECTIONS_MAX: u32 = 1 << 20;
const UNDER_WAY_MAX: u64 = 1 << 24;
const THREADS_MAX: u32 = 1024;

/// What a coordinator says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Order {
    Hello(String),
    Spec(Box<Spec>),
    Preload,
    Run(Box<Window>),
    /// End the window early, with what there is.
    Stop,
    Bye,
}

/// What an agent says.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Greeting(String),
    Ok,
    Alive(Vitals),
    Done(Box<Outcome>),
    Error(String),
}

/// What an agent has done since its connections opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Vitals {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    pub(crate) stored: u64,
    pub(crate) connected: u64,
}

impl Order {
    pub(crate) fn line(&self) -> String {
        match self {
            Order::Hello(version) => format!("hello {version}"),
            // Structs of numbers and strings: nothing in them that JSON has no word for.
            Order::Spec(spec) => format!("spec {}", serde_json::to_string(spec).unwrap_or_default()),
            Order::Preload => "preload".into(),
            Order::Run(window) => format!("run {}", serde_json::to_string(window).unwrap_or_default()),
            Order::Stop => "stop".into(),
            Order::Bye => "bye".into(),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Order, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest) {
            ("hello", version) => Ok(Order::Hello(clean(version))),
            ("spec", text) => {
                let spec: Spec = serde_json::from_value(without_files(text)?).map_err(|e| clean(&e.to_string()))?;
                modest(&spec)?;
                Ok(Order::Spec(Box::new(spec)))
            }
            ("preload", "") => Ok(Order::Preload),
            ("run", text) => {
                let window: Window = serde_json::from_value(without_files(text)?).map_err(|e| clean(&e.to_string()))?;
                if [window.window, window.warmup, window.patience, window.slice].iter().any(|&w| w > WINDOW_MAX) {
                    return Err("a window of more than a week".into());
                }
                Ok(Order::Run(Box::new(window)))
            }
            ("stop", "") => Ok(Order::Stop),
            ("bye", "") => Ok(Order::Bye),
            _ => Err(format!("not understood: {}", clean(line))),
        }
    }
}

/// The JSON text, unless a string in it names a file: files are the coordinator's, and what is in them travels. An agent
/// opens none for somebody else.
fn without_files(text: &str) -> Result<Value, String> {
    fn names_file(v: &Value) -> bool {
        match v {
            Value::String(s) => s.contains("file:") || s.contains("trace:"),
            Value::Array(a) => a.iter().any(names_file),
            Value::Object(o) => o.values().any(names_file),
            _ => false,
        }
    }
    let value = serde_json::from_str(text).map_err(|e| clean(&e.to_string()))?;
    if names_file(&value) { Err("an agent opens no files for others".into()) } else { Ok(value) }
}

fn modest(spec: &Spec) -> Result<(), String> {
    spec.check().map_err(|e| e.to_string())?;
    spec.workload.check()?;
    let under_way = u64::from(spec.connections) * u64::from(spec.depth);
    if spec.connections > CONNECTIONS_MAX || spec.probe > CONNECTIONS_MAX || under_way > UNDER_WAY_MAX {
        return Err(format!("{} connections of depth {} are too many for an agent", spec.connections, spec.depth));
    }
    if spec.threads > THREADS_MAX {
        return Err(format!("{} threads are too many for an agent", spec.threads));
    }
    Ok(())
}

impl Answer {
    pub(crate) fn line(&self) -> String {
        match self {
            Answer::Greeting(version) => format!("zygix-agent {version}"),
            Answer::Ok => "ok".into(),
            Answer::Alive(Vitals { sent, answered, errors, stored, connected }) => {
                format!("alive {sent} {answered} {errors} {stored} {connected}")
            }
            Answer::Done(outcome) => format!("done {}", outcome.to_wire()),
            Answer::Error(what) => format!("error {}", clean(what)),
        }
    }
}

impl FromStr for Answer {
    type Err = String;

    fn from_str(line: &str) -> Result<Answer, String> {
        let unknown = || format!("it says `{}`, which no agent of this version does", clean(line));
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest) {
            ("zygix-agent", version) => Ok(Answer::Greeting(clean(version))),
            ("ok", "") => Ok(Answer::Ok),
            ("alive", numbers) => {
                let n: Option<Vec<u64>> = numbers.split(' ').map(|n| n.parse().ok()).collect();
                match n.as_deref() {
                    Some(&[sent, answered, errors, stored, connected]) => {
                        Ok(Answer::Alive(Vitals { sent, answered, errors, stored, connected }))
                    }
                    _ => Err(unknown()),
                }
            }
            ("done", text) => {
                let value = serde_json::from_str(text).map_err(|_| unknown())?;
                Outcome::from_wire(&value).map(|o| Answer::Done(Box::new(o))).ok_or_else(unknown)
            }
            ("error", what) => Ok(Answer::Error(clean(what))),
            _ => Err(unknown()),
        }
    }
}

/// Text from the other side, fit to be shown: one line, no control characters, not long.
pub(crate) fn clean(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use load::Pace;
    use load::requests::{Echo, Workload};

    use super::*;

    fn spec() -> Spec {
        let echo = Workload::Echo(Echo { size: "64".parse().unwrap() });
        Spec::new(echo, "198.18.0.2:7007".parse().unwrap())
    }

    #[test]
    fn orders_read_back_as_they_are_written() {
        let window = Window::new(Pace::poisson(12_500.0), Nanos::from_secs(3));
        for order in [
            Order::Hello(VERSION.into()),
            Order::Spec(Box::new(spec())),
            Order::Preload,
            Order::Run(Box::new(window)),
            Order::Stop,
            Order::Bye,
        ] {
            assert_eq!(order.line().parse(), Ok(order));
        }
    }

    #[test]
    fn answers_read_back_as_they_are_written() {
        let vitals = Vitals { sent: 5, answered: 4, errors: 3, stored: 2, connected: 1 };
        assert!(matches!(Answer::Alive(vitals).line().parse(), Ok(Answer::Alive(v)) if v == vitals));
        assert!(matches!(Answer::Greeting("9".into()).line().parse(), Ok(Answer::Greeting(v)) if v == "9"));
        assert!(matches!(Answer::Ok.line().parse(), Ok(Answer::Ok)));
        let said = Answer::Error("no\nroom\x1b[31m".into()).line();
        assert_eq!(said, "error no room [31m");
        assert!(matches!(said.parse(), Ok(Answer::Error(_))));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut many = spec();
        many.connections = u32::MAX;
        let mut deep = spec();
        (deep.connections, deep.depth) = (1 << 19, 1 << 19);
        let mut none = spec();
        none.threads = 0;
        let mut long = Window::new(Pace::Closed, Nanos::from_secs(1));
        long.window = Nanos::MAX;
        let with_file = Order::Spec(Box::new(spec())).line().replace("\"64\"", "\"file:/etc/hostname\"");
        assert!(with_file.contains("/etc/hostname"));
        for line in [
            "".into(),
            "HELP".into(),
            "spec".into(),
            "spec {}".into(),
            "spec [[[[".into(),
            format!("spec {}", "[".repeat(100_000)),
            "run null".into(),
            "preload now".into(),
            Order::Spec(Box::new(many)).line(),
            Order::Spec(Box::new(deep)).line(),
            Order::Spec(Box::new(none)).line(),
            Order::Run(Box::new(long)).line(),
            with_file,
        ] {
            let refused = line.parse::<Order>().unwrap_err();
            assert!(refused.len() < 400 && !refused.contains('\n'), "{refused}");
        }
        for line in
            ["", "done", "done {}", "done 5", "alive", "alive 1 2", "alive a b c d e", "HTTP/1.1 400 Bad Request"]
        {
            assert!(line.parse::<Answer>().is_err(), "{line}");
        }
    }
}
