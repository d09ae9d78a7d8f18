use std::fmt::Write;

use lab::account::{Accounting, Billing, Cost};
use lab::stats::median;
use load::Errors;
use serde_json::{Value, json};

use super::bench::{Plan, Round, Rounds, STACKS};

/// What the demo came to.
pub(crate) struct Outcome {
    pub(crate) rounds: Rounds,
    pub(crate) plan: Plan,
    pub(crate) accounting: Accounting,
    pub(crate) ready: [String; 2],
    pub(crate) unprivileged: bool,
    pub(crate) null: bool,
    pub(crate) connections: u16,
    pub(crate) depth: u16,
}

/// A figure of a round.
type Figure = fn(&Round) -> f64;

const RPS: Figure = |r| r.closed.achieved_rps();
const P50: Figure = |r| r.open.p50().0 as f64 / 1e3;
const P99: Figure = |r| r.open.p99().0 as f64 / 1e3;
const P999: Figure = |r| r.open.p999().0 as f64 / 1e3;
const SERVER: Figure = |r| r.open_cost.total();
const CLIENT: Figure = |r| r.open.cpu.0 as f64 / 1e3 / r.open.sent.max(1) as f64;

impl Outcome {
    /// Everything that went wrong, on both sides.
    pub(crate) fn errors(&self) -> u64 {
        (0..2).map(|s| self.errors_of(s).total()).sum()
    }

    fn errors_of(&self, stack: usize) -> Errors {
        let mut sum = self.rounds.before[stack];
        for r in &self.rounds.of[stack] {
            for e in [&r.closed.errors, &r.open.errors] {
                sum += *e;
            }
        }
        sum
    }

    fn median(&self, stack: usize, figure: Figure) -> f64 {
        median(self.rounds.of[stack].iter().map(figure))
    }

    /// The median over the rounds of the ratio of both stacks in the same round, Zygix over Linux.
    fn ratio(&self, figure: Figure) -> f64 {
        let [zygix, linux] = &self.rounds.of;
        median(zygix.iter().zip(linux).map(|(z, l)| figure(z) / figure(l).max(f64::MIN_POSITIVE)))
    }

    /// All open slices of a stack together: the cost's parts are steadier so.
    fn cost(&self, stack: usize, of: fn(&Round) -> &Cost) -> Cost {
        let mut sum = Cost::default();
        self.rounds.of[stack].iter().for_each(|r| sum.add(of(r)));
        sum
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut t = String::new();
        let costs = [self.cost(0, |r| &r.open_cost), self.cost(1, |r| &r.open_cost)];
        let mut line = |what: &str, zygix: String, linux: String, ratio: String| {
            let text = format!("{what:<44}{zygix:>12}{linux:>12}{ratio:>10}");
            let _ = writeln!(t, "{}", text.trim_end());
        };
        let names = if self.null { ["linux (A)", "linux (B)"] } else { STACKS };
        line("", names[0].into(), names[1].into(), "ratio".into());
        let mut row = |what: &str, figure: Figure, decimals: usize| {
            let of = |s| format!("{:.*}", decimals, self.median(s, figure));
            line(what, of(0), of(1), format!("{:.2}", self.ratio(figure)));
        };
        row("requests/s, as many as it takes", RPS, 0);
        row(&format!("p50 at {:.0} requests/s, us", self.rounds.rate), P50, 1);
        row("p99, us", P99, 1);
        row("server-core time per request, us", SERVER, 2);
        let mut part = |what: &str, f: fn(&Cost) -> f64| {
            line(what, format!("{:.2}", f(&costs[0])), format!("{:.2}", f(&costs[1])), String::new());
        };
        part("  its threads", |c| c.per_request(c.threads));
        part("  + the kernel's receive work elsewhere", |c| c.per_request(c.kernel));
        part("      (sampled: standard error)", Cost::kernel_error);
        part("  (idle polling, not counted)", |c| c.per_request(c.idle));
        line("errors", self.errors_of(0).total().to_string(), self.errors_of(1).total().to_string(), String::new());
        t.push('\n');
        for note in self.notes() {
            let _ = writeln!(t, "{note}");
        }
        t.truncate(t.trim_end().len());
        t
    }

    fn notes(&self) -> Vec<String> {
        let a = &self.accounting;
        let mut notes = vec![format!(
            "{} round(s) in alternation, medians; ratios are zygix/linux within a round. {} connections, depth {}, USR-like\n\
             (19 B keys, 2 B values, 99.8 % GET), every reply checked. Latency at equal load, from the intended send time.",
            self.plan.rounds, self.connections, self.depth
        )];
        if a.shared() {
            notes.push(
                "One core for everything: the kernel's receive work cannot be told apart and is left out.".into(),
            );
        }
        if self.rounds.stolen > 0.005 {
            let percent = self.rounds.stolen * 100.0;
            notes.push(format!(
                "The hypervisor took {percent:.1} % of the machine's time meanwhile: the tails show that on both sides."
            ));
        }
        if self.unprivileged {
            notes.push("Without root: in a user namespace, where the kernel refuses to steer frames (bpf).".into());
        }
        for (stack, name) in STACKS.iter().enumerate() {
            let errors = self.errors_of(stack);
            if errors.total() > 0 {
                notes.push(format!("{name}: {errors}"));
            }
        }
        notes
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let a = &self.accounting;
        json!({
            "ok": self.errors() == 0,
            "errors": self.errors(),
            STACKS[0]: self.stack_json(0),
            STACKS[1]: self.stack_json(1),
            "median_ratio": {
                "rps": self.ratio(RPS),
                "p50": self.ratio(P50),
                "p99": self.ratio(P99),
                "server_us_per_request": self.ratio(SERVER),
            },
            "open_loop_rate": self.rounds.rate,
            "connections": self.connections,
            "depth": self.depth,
            "load_core": a.load_core,
            "server_core": a.server_core,
            "softirqs_billed_to_threads": a.billing == Billing::Thread,
            "stolen_by_hypervisor": self.rounds.stolen,
            "unprivileged": self.unprivileged,
            "null_comparison": self.null,
        })
    }

    fn stack_json(&self, stack: usize) -> Value {
        let cost = self.cost(stack, |r| &r.open_cost);
        let closed = self.cost(stack, |r| &r.closed_cost);
        let rounds: Vec<Value> = self.rounds.of[stack].iter().map(round_json).collect();
        let errors = self.errors_of(stack);
        json!({
            "rps": self.median(stack, RPS),
            "p50_us": self.median(stack, P50),
            "p99_us": self.median(stack, P99),
            "p999_us": self.median(stack, P999),
            "server_us_per_request": self.median(stack, SERVER),
            "server_thread_us_per_request": cost.per_request(cost.threads),
            "server_kernel_us_per_request": cost.per_request(cost.kernel),
            "server_kernel_us_standard_error": cost.kernel_error(),
            "idle_polling_us_per_request": cost.per_request(cost.idle),
            "server_us_per_request_closed_loop": closed.total(),
            "client_us_per_request": self.median(stack, CLIENT),
            "errors": errors.total(),
            "wrong": errors.wrong,
            "unanswered": errors.unanswered,
            "lost": errors.lost,
            "broken_connections": errors.broken,
            "started": self.ready[stack],
            "rounds": rounds,
        })
    }
}

fn round_json(r: &Round) -> Value {
    json!({
        "rps": RPS(r),
        "p50_us": P50(r),
        "p99_us": P99(r),
        "server_us_per_request": SERVER(r),
        "open_loop_requests": r.open.completed,
        "client_lateness_p99_us": r.open.lateness.value_at_quantile(0.99) as f64 / 1e3,
        "closed_loop_p50_us": r.closed.p50().0 as f64 / 1e3,
        "closed_loop_p99_us": r.closed.p99().0 as f64 / 1e3,
    })
}
