//! `cargo xtask bench`: the programs that measure, one after the other, and their results side by side.
//!
//! Each is a program of the release build that prints what it finds for people, and writes one JSON object to the file
//! that follows `--json`. This command starts it, collects the objects, and files them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::workspace::Workspace;
use crate::{counts, shell};

/// Where a bench's program comes from.
enum Program {
    /// The product itself: `zygix ...`.
    Zygix,
    /// An example of a crate.
    Example { package: &'static str, example: &'static str },
}

/// A bench.
struct Bench {
    name: &'static str,
    about: &'static str,
    program: Program,
    args: &'static [&'static str],
    /// Instead of `args` with `--tiny`: small enough to show that it works.
    tiny: &'static [&'static str],
}

const BENCHES: [Bench; 2] = [
    Bench {
        name: "echo",
        about: "64 B echo over the shm wire (emulated), 100 connections, one server core",
        program: Program::Example { package: "bench", example: "echo" },
        args: &["5"],
        tiny: &["0.2"],
    },
    Bench {
        name: "usr",
        about: "USR-like GETs from a Linux client: zygix over TAP against Linux sockets over veth, in alternation",
        program: Program::Zygix,
        args: &["demo", "--seconds", "30"],
        tiny: &["demo", "--seconds", "2"],
    },
];
/// The one bench that is no program: instructions per request.
const COUNTS: &str = "counts";

/// What the command was told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Options {
    names: Vec<String>,
    tiny: bool,
    update: bool,
    out: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--tiny" => options.tiny = true,
                "--update" => options.update = true,
                "--out" => options.out = Some(args.next().context("--out: name a folder")?.into()),
                name if known().any(|n| n == name) => options.names.push(name.to_owned()),
                other => bail!("no bench is called `{other}`; there are: {}", known().collect::<Vec<_>>().join(", ")),
            }
        }
        if options.update && options.names != [COUNTS] {
            bail!("--update goes with `bench {COUNTS}` alone");
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    BENCHES.iter().map(|b| b.name).chain([COUNTS])
}

/// A bench that ran: name, what it measures, the command, the result.
struct Measured {
    name: &'static str,
    about: &'static str,
    command: String,
    result: Value,
}

/// Runs the benches that are wanted.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::load()?;
    let mut measured = Vec::new();
    for bench in BENCHES.iter().filter(|b| options.wants(b.name)) {
        println!("== {}: {}", bench.name, bench.about);
        measured.push(bench.run(&workspace, options.tiny)?);
        println!();
    }
    if options.wants(COUNTS) {
        let about = "instructions per request (callgrind)";
        println!("== {COUNTS}: {about}");
        let result = counts::bench(&workspace, options.update)?;
        measured.push(Measured { name: COUNTS, about, command: "cargo xtask bench counts".into(), result });
    }
    match &options.out {
        Some(folder) => file(&workspace, folder, &measured),
        None => Ok(()),
    }
}

impl Bench {
    fn run(&self, workspace: &Workspace, tiny: bool) -> Result<Measured> {
        let program = self.build(workspace)?;
        let json = workspace.scratch()?.join(format!("bench-{}.json", self.name));
        let _ = std::fs::remove_file(&json);
        let args = if tiny { self.tiny } else { self.args };
        let mut command = Command::new(program);
        command.current_dir(&workspace.root).args(args).arg("--json").arg(&json);
        shell::run_in_sight(&mut command)?;
        let text = std::fs::read_to_string(&json).with_context(|| format!("{} wrote no JSON", self.name))?;
        let result = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", json.display()))?;
        Ok(Measured { name: self.name, about: self.about, command: self.command(args), result })
    }

    fn build(&self, workspace: &Workspace) -> Result<PathBuf> {
        let log = workspace.scratch()?.join(format!("build-{}.log", self.name));
        match self.program {
            Program::Zygix => {
                shell::run(&mut workspace.cargo(&["build", "--release"]), &log)?;
                Ok(workspace.release("zygix"))
            }
            Program::Example { package, example } => {
                let args = ["build", "--release", "--package", package, "--example", example];
                shell::run(&mut workspace.cargo(&args), &log)?;
                Ok(workspace.target.join("release/examples").join(example))
            }
        }
    }

    /// The command that repeats it without this one.
    fn command(&self, args: &[&str]) -> String {
        match self.program {
            Program::Zygix => format!("cargo run --release -- {}", args.join(" ")),
            Program::Example { package, example } => {
                format!("cargo run --release -p {package} --example {example} -- {}", args.join(" "))
            }
        }
    }
}

/// Writes `bench.json` and `bench.md` into `folder`.
fn file(workspace: &Workspace, folder: &Path, measured: &[Measured]) -> Result<()> {
    let folder = workspace.root.join(folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let machine = machine();
    let results: Map<String, Value> =
        measured.iter().map(|m| (m.name.to_owned(), json!({"command": m.command, "result": m.result}))).collect();
    let all = json!({"machine": machine, "commit": commit(workspace), "benches": results});
    for (name, text) in [("bench.json", format!("{all:#}\n")), ("bench.md", markdown(&all, measured))] {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(())
}

/// What a number must be read with.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':')).map_or("", |(_, name)| name.trim());
    let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    json!({"cpu": model, "cpus": cpus, "kernel": read("/proc/sys/kernel/osrelease").trim()})
}

fn commit(workspace: &Workspace) -> Value {
    let mut git = Command::new("git");
    let out = git.current_dir(&workspace.root).args(["describe", "--always", "--dirty"]).output();
    out.map_or(Value::Null, |o| String::from_utf8_lossy(&o.stdout).trim().into())
}

fn markdown(all: &Value, measured: &[Measured]) -> String {
    let machine = &all["machine"];
    let mut page = format!(
        "# Bench results\n\nCommit {}, {} x {}, Linux {}.\n",
        text(&all["commit"]),
        text(&machine["cpus"]),
        text(&machine["cpu"]),
        text(&machine["kernel"])
    );
    for m in measured {
        page += &format!("\n## {}\n\n{}.\n\n    {}\n\n{}", m.name, m.about, m.command, table(&m.result));
    }
    page
}

/// A result that is a list of rows as a table of them, any other as a table of its values.
fn table(result: &Value) -> String {
    let rows: Option<Vec<_>> = result["rows"].as_array().and_then(|rows| rows.iter().map(Value::as_object).collect());
    if let Some([first, ..]) = rows.as_deref() {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = line(first.keys().cloned().collect()) + &line(first.keys().map(|_| "---".to_owned()).collect());
        let body = rows.iter().flatten().map(|row| line(first.keys().map(|k| text(&row[k.as_str()])).collect()));
        return head + &body.collect::<String>();
    }
    let lines = leaves(result).into_iter().map(|(what, value)| format!("| {what} | {} |\n", text(&value)));
    "| what | value |\n|---|---|\n".to_owned() + &lines.collect::<String>()
}

/// A value as a reader wants it: floats to a hundredth.
fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Number(n) if n.is_f64() => format!("{:.2}", n.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// The values of an object, by their paths.
fn leaves(value: &Value) -> Vec<(String, Value)> {
    let below = |name: String, v: &Value| {
        leaves(v).into_iter().map(move |(rest, v)| {
            let dot = if rest.is_empty() { "" } else { "." };
            (format!("{name}{dot}{rest}"), v)
        })
    };
    match value {
        Value::Object(fields) => fields.iter().flat_map(|(name, v)| below(name.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().flat_map(|(i, v)| below(i.to_string(), v)).collect(),
        plain => vec![(String::new(), plain.clone())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_are_understood() {
        let o = parse("echo --tiny --out docs/results").unwrap();
        assert!(o.wants("echo") && !o.wants("usr") && o.tiny);
        assert_eq!(o.out, Some("docs/results".into()));
        assert!(parse("").unwrap().wants("usr"));
        assert!(parse("counts --update").unwrap().update);
        for bad in ["tea", "--out", "--update", "echo --update"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_become_a_table() {
        let result = json!({"rows": [{"depth": 1, "wire": "shm"}, {"depth": 4, "wire": "shm"}]});
        assert_eq!(table(&result), "| depth | wire |\n| --- | --- |\n| 1 | shm |\n| 4 | shm |\n");
    }

    #[test]
    fn results_become_a_page() {
        let result = json!({"zygix": {"rps": 5, "note": "fast"}, "rounds": [1, 2.125]});
        let m = Measured { name: "usr", about: "a bench", command: "run it".into(), result };
        let all = json!({"machine": {"cpu": "c", "cpus": 2, "kernel": "k"}, "commit": "abc"});
        let page = markdown(&all, &[m]);
        assert!(
            page.contains("| zygix.rps | 5 |")
                && page.contains("| rounds.1 | 2.12 |")
                && page.contains("| zygix.note | fast |")
        );
        assert!(page.contains("Commit abc, 2 x c, Linux k.") && page.contains("    run it\n"));
    }
}
