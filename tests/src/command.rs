use std::process::Command;

use crate::{Namespace, PORT, SERVER, Stack, TAP, XDP, piped, zygix_path};

/// What is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum App {
    /// `kv`: memcached's protocols.
    Kv,
    /// `echo`, TCP and UDP.
    Echo,
    /// `echo --mode discard`: reads all, answers with the digest.
    Discard,
    /// `spin`: spends the time that each request carries.
    Spin,
    /// `discard`: RFC 863.
    Sink,
    /// `chargen`: RFC 864.
    Chargen,
    /// `echo --mode source`: sends as much of the pattern as it is asked for.
    Source,
}

/// A command line of `zygix serve`.
#[derive(Clone, Debug)]
pub struct Serve {
    pub(crate) app: App,
    pub(crate) stack: Stack,
    pub(crate) threads: Option<u16>,
    more: Vec<String>,
}

impl Serve {
    /// One thread of `app` on `stack`.
    pub fn new(app: App, stack: Stack) -> Serve {
        Serve { app, stack, threads: None, more: Vec::new() }
    }

    /// With this number of threads.
    pub fn threads(self, threads: u16) -> Serve {
        Serve { threads: Some(threads), ..self }
    }

    /// With further arguments, separated by blanks.
    pub fn with(mut self, arguments: &str) -> Serve {
        self.more.extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// The command, to be started inside of `namespace`.
    ///
    /// Supervised, as `zygix demo` runs its servers: readiness and counters come as JSON lines on standard output, and
    /// the end of its standard input is the server's end, so none outlives the test.
    pub(crate) fn command(&self, namespace: &Namespace) -> Command {
        let mut command = Command::new(zygix_path());
        command.args(self.arguments()).arg("--supervised");
        if self.stack.is_ours() {
            command.args(["--netns", namespace.name()]);
        }
        piped(&mut command);
        command
    }

    /// What comes after `zygix`, as a user would write it: neither supervised nor in a named namespace.
    pub fn arguments(&self) -> Vec<String> {
        let (app, mode) = match self.app {
            App::Kv => ("kv", ""),
            App::Spin => ("spin", ""),
            App::Echo => ("echo", "--mode echo"),
            App::Discard => ("echo", "--mode discard"),
            App::Sink => ("discard", ""),
            App::Chargen => ("chargen", ""),
            App::Source => ("echo", "--mode source"),
        };
        let stack = match self.stack {
            Stack::Zygix => format!("--nic tap:{TAP} --addr {SERVER}/24"),
            Stack::Software => format!("--nic tap:{TAP} --addr {SERVER}/24 --steering software"),
            Stack::Xdp => format!("--nic xdp:{XDP} --addr {SERVER}/24"),
            Stack::Generic => format!("--nic xdp:{XDP},generic --addr {SERVER}/24"),
            Stack::Linux => format!("--stack linux-partitioned -l {SERVER}"),
            Stack::Floating => format!("--stack linux-floating -l {SERVER}"),
        };
        // One thread has nobody to share connections with.
        let threads = self.threads.or((self.stack == Stack::Floating).then_some(2));
        let threads = threads.map_or(String::new(), |n| format!("-t {n}"));
        let line = format!("serve {app} {mode} {stack} -p {PORT} {threads}");
        line.split_whitespace().map(str::to_owned).chain(self.more.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_of_a_user() {
        let arguments = Serve::new(App::Kv, Stack::Software).threads(2).with("-m 8").arguments().join(" ");
        assert_eq!(arguments, "serve kv --nic tap:zx0 --addr 198.18.0.2/24 --steering software -p 11211 -t 2 -m 8");
    }
}
