/// What the server of a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stack {
    /// Our stack over TAP, with the steering program where bpf(2) is allowed.
    Zygix,
    /// Our stack over TAP, `--steering software`: frames of foreign flow groups are forwarded between cores.
    Software,
    /// Our stack by AF_XDP on one end of a veth, in native mode.
    Xdp,
    /// Likewise in generic mode; Linux cuts its super-frames itself.
    Generic,
    /// The same applications on Linux sockets, `linux-partitioned`.
    Linux,
    /// Those on `linux-floating`, with two threads unless told otherwise.
    Floating,
}

impl Stack {
    /// Its name in `ZYGIX_STACKS` and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Stack::Zygix => "zygix",
            Stack::Software => "software",
            Stack::Xdp => "xdp",
            Stack::Generic => "xdp-generic",
            Stack::Linux => "linux",
            Stack::Floating => "floating",
        }
    }

    /// Whether the run was told to leave it out.
    pub fn excluded(self) -> bool {
        std::env::var("ZYGIX_STACKS").is_ok_and(|list| !list.split(',').any(|s| s.trim() == self.name()))
    }

    /// Whether this is ours, over a TAP or by AF_XDP.
    pub fn is_ours(self) -> bool {
        !matches!(self, Stack::Linux | Stack::Floating)
    }

    /// Whether this is ours by AF_XDP.
    pub fn is_xdp(self) -> bool {
        matches!(self, Stack::Xdp | Stack::Generic)
    }
}

/// Makes of each function of a [`Stack`] a test for each of the named stacks: `name::zygix`, `name::linux` ...
#[macro_export]
macro_rules! on_stacks {
    ($($(#[$doc:meta])* [$($label:ident = $stack:ident),+] fn $name:ident($arg:ident) $body:block)+) => {$(
        $(#[$doc])*
        mod $name {
            #[allow(unused_imports, reason = "not every test uses what its file imports")]
            use super::*;

            fn on($arg: $crate::Stack) $body

            $(#[test]
            fn $label() {
                let stack = $crate::Stack::$stack;
                // What was not asked for is no skip that anybody should hear of.
                if stack.excluded() {
                    println!("{} is not in ZYGIX_STACKS", stack.name());
                } else {
                    on(stack);
                }
            })+
        }
    )+};
}
