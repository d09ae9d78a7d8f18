//! A server's dealings with whoever started it: it says when it is ready, tells its counters, and ends when it should.
//!
//! On its own it prints lines for people and ends by a signal. Supervised (by `demo`) it speaks JSON lines:
//!
//! ```text
//!   stdout  {"ready":"..."}                             once connections are accepted
//!   stdin   stats                                        any number of times
//!   stdout  {"cpu_ns":...,"idle_ns":...,...}
//!   stdin   end of file                                  the supervisor wants it to end, or is gone
//! ```

use std::io::{BufRead, Write};

use serde_json::{Map, Value, json};

/// What a server knows of itself at any time.
#[derive(Clone, Default, Debug)]
pub(crate) struct ServerStats {
    /// CPU time of its threads that was spent polling without finding anything, in nanoseconds since the start.
    pub(crate) idle_ns: u64,
    /// Whatever else it counts, by name.
    pub(crate) counters: Vec<(String, u64)>,
}

/// How to speak, and to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    supervised: bool,
    verbose: u8,
}

impl Control {
    /// From here on signals ask for the end instead of ending at once.
    pub(crate) fn new(supervised: bool, verbose: u8) -> Control {
        sys::stop::install();
        Control { supervised, verbose }
    }

    /// Whether the server is to end. To be asked every 50 ms or so.
    pub(crate) fn stopping(&self) -> bool {
        sys::stop::requested()
    }

    /// Something worth knowing at start-up: shown from verbosity `level` on.
    pub(crate) fn note(&self, level: u8, line: &str) {
        if self.verbose >= level {
            eprintln!("zygix: {line}");
        }
    }

    /// The server accepts connections. `stats` is called whenever someone asks for its counters, from another thread.
    pub(crate) fn ready(&self, line: &str, stats: impl Fn() -> ServerStats + Send + 'static) {
        if !self.supervised {
            say(&format!("{line}; Ctrl-C ends it"));
            return;
        }
        say(&json!({ "ready": line }).to_string());
        // Ends with the process: `stats` holds nothing that must be put away.
        std::thread::spawn(move || {
            for command in std::io::stdin().lock().lines() {
                match command.as_deref() {
                    Ok("stats") => say(&stats_json(&stats()).to_string()),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            sys::stop::request();
        });
    }

    /// The last line: what was done.
    pub(crate) fn finished(&self, line: &str) {
        if !self.supervised {
            say(line);
        }
    }

    /// Whether details are wanted at the end.
    pub(crate) fn wants_counters(&self) -> bool {
        self.verbose >= 2 && !self.supervised
    }
}

fn stats_json(stats: &ServerStats) -> Value {
    let mut all: Map<String, Value> = stats.counters.iter().map(|(name, n)| (name.clone(), json!(n))).collect();
    all.insert("idle_ns".into(), json!(stats.idle_ns));
    all.insert("cpu_ns".into(), json!(sys::clock::process_cpu().0));
    Value::Object(all)
}

/// A line on standard output; whoever closed it does not want to know.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_fields() {
        let stats = ServerStats { idle_ns: 7, counters: vec![("accepted".into(), 3)] };
        let json = stats_json(&stats);
        assert_eq!((&json["idle_ns"], &json["accepted"]), (&json!(7), &json!(3)));
        assert!(json["cpu_ns"].as_u64().unwrap() > 0);
    }
}
