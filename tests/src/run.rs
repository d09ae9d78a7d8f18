use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use crate::{Namespace, wait_for};

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub out: String,
    /// What it wrote to its standard error.
    pub err: String,
}

impl Ran {
    /// Its output, if it went well.
    ///
    /// # Panics
    /// With all that it said, otherwise.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "it ended with {}\n--- out\n{}--- err\n{}", self.status, self.out, self.err);
        self.out
    }
}

/// Runs a program in `namespace` with `input` on its standard input, to its end.
///
/// # Panics
/// When it cannot be started or does not end (it is killed then).
pub fn run(namespace: &Namespace, command: &mut Command, input: &[u8]) -> Ran {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = format!("{:?}", command.get_program());
    let mut child = namespace.spawn(command);
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            // A program that does not want all of it closes its end: that is its right.
            scope.spawn(move || stdin.write_all(input));
        }
        finish(&name, child)
    })
}

/// Gives a program pipes for all of its standard streams.
pub fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Waits for the end of a program and collects what it says.
///
/// # Panics
/// When it does not end; it is killed then.
pub fn finish(name: &str, mut child: Child) -> Ran {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let status = thread::scope(|scope| {
        let out = scope.spawn(|| text(out));
        let err = scope.spawn(|| text(err));
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(&format!("the end of {name}"), || child.try_wait().expect("it is our child"))
        }));
        if status.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let said = (out.join().expect("reads only"), err.join().expect("reads only"));
        status.map(|status| Ran { status, out: said.0.clone(), err: said.1.clone() }).map_err(|_| said)
    });
    status.unwrap_or_else(|(out, err)| panic!("{name} hangs; so far it said\n--- out\n{out}--- err\n{err}"))
}

fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
