//! AF_XDP beside the kernel: who gets which frames, what is left behind, what is refused.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use sys::ethtool::{self, Queues};
use sys::link;
use tests::{
    App, KERNEL, Namespace, PORT, Ran, SERVER, Serve, Server, Stack, TAP, Text, V6, Veth, XDP, need, os, piped, run,
    wait_for, zygix_path,
};

/// Clients in one namespace, the interface that we share with the kernel in another.
struct Rig {
    near: Namespace,
    far: Namespace,
}

impl Rig {
    fn new(queues: u16) -> Result<Rig, String> {
        need::network()?;
        need::xdp()?;
        let (near, far) = (Namespace::new(), Namespace::new());
        Veth::between(&near, &far, queues)?;
        Ok(Rig { near, far })
    }

    fn command(&self, serve: &Serve) -> Command {
        let mut command = Command::new(zygix_path());
        command.args(serve.arguments()).args(["--supervised", "--netns", self.far.name()]);
        piped(&mut command);
        command
    }

    fn serve(&self, serve: &Serve) -> Server {
        Server::start(&self.far, &mut self.command(serve))
    }

    /// `zygix ...` in our namespace, to its end.
    fn zygix(&self, line: &str) -> Ran {
        run(&self.far, Command::new(zygix_path()).args(line.split_whitespace()), b"")
    }

    fn connect(&self, to: impl Into<SocketAddr>) -> TcpStream {
        let to = to.into();
        let stream = self.near.inside(|| TcpStream::connect_timeout(&to, tests::PATIENCE)).expect("it accepts");
        stream.set_read_timeout(Some(tests::PATIENCE)).expect("not zero");
        stream
    }

    fn ping(&self, host: &str) -> bool {
        // -w: it may take more than one, as an interface that has just been given back drops frames for a moment.
        run(&self.near, Command::new("ping").args(["-c", "1", "-i", "0.2", "-w", "20", host]), b"").status.success()
    }

    /// The kernel's end of a session on the shared interface: says back what it hears, until its peer ends.
    fn kernel_echo(&self, port: u16) -> thread::JoinHandle<u64> {
        let listener = self.far.inside(|| TcpListener::bind((KERNEL, port))).expect("the port is free");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut from = stream.try_clone().expect("a descriptor is free");
            std::io::copy(&mut from, &mut stream).expect("the client reads and writes")
        })
    }
}

fn kv(stack: Stack) -> Serve {
    Serve::new(App::Kv, stack)
}

fn use_kv(text: &mut Text, round: usize) {
    let value = format!("value of {round}");
    text.set(&format!("key-{round}"), value.as_bytes());
    assert_eq!(text.get(&format!("key-{round}")).as_deref(), Some(value.as_bytes()));
}

/// Both modes; pings of both families, a reassembled one; a store; and the kernel's own sessions on the same interface, on another
/// address and with the same port, before, while and after.
#[test]
fn the_interface_stays_the_kernels() {
    for (stack, mode) in [(Stack::Xdp, "(native)"), (Stack::Generic, "(generic)")] {
        let rig = need!(Rig::new(1));
        let kernel = rig.kernel_echo(PORT);
        let mut session = rig.connect((KERNEL, PORT));
        let mut said = 0;
        let mut converse = |what: &[u8]| {
            session.write_all(what).expect("the kernel reads");
            let mut back = vec![0; what.len()];
            session.read_exact(&mut back).expect("the kernel echoes");
            assert_eq!(back, what);
            said += what.len() as u64;
        };
        converse(b"before");
        let server = rig.serve(&kv(stack).with(V6));
        assert!(server.ready_line().contains(mode), "{}", server.ready_line());
        for host in [&SERVER.to_string(), &KERNEL.to_string(), "2001:2::2"] {
            assert!(rig.ping(host), "{host}");
        }
        let large = ["-c", "1", "-w", "20", "-s", "4000", "198.18.0.2"];
        run(&rig.near, Command::new("ping").args(large), b"").ok();
        let mut text = Text::new(rig.connect((SERVER, PORT)));
        for round in 0..200 {
            use_kv(&mut text, round);
            converse(&vec![round as u8; 1 + round * 10]);
        }
        // Linux leaves checksums to the interface; that is seen, not suffered from.
        let counters = server.counters();
        assert!(counters.0["nic.partial_checksums"] > 400, "{counters:?}");
        assert_eq!((counters.dropped("checksum"), counters.total("tcp_accepts")), (0, 1));
        drop(server);
        converse(b"after");
        drop(session);
        assert_eq!(kernel.join().expect("it only echoes"), said);
        assert_eq!(rig.far.inside(|| link::info(XDP)).unwrap().xdp_program, 0, "nothing is left");
    }
}

/// One address for both: the named port is ours, of both families; everything else at it is the kernel's, which answers for the address. Our own
/// questions (who is the client?) are answered to the kernel, and seen by us.
#[test]
fn named_ports_of_the_kernels_own_address() {
    let both = [IpAddr::from(KERNEL), "2001:2::9".parse().expect("an address")];
    for mode in ["native", "generic"] {
        let rig = need!(Rig::new(1));
        rig.far.inside(|| link::add_address(XDP, both[1], 64)).unwrap();
        let kernel = rig.kernel_echo(22);
        let mut session = rig.connect((KERNEL, 22));
        let mut converse = |what: &[u8]| {
            session.write_all(what).expect("the kernel reads");
            let mut back = vec![0; what.len()];
            session.read_exact(&mut back).expect("the kernel echoes");
            assert_eq!(back, what);
        };
        converse(b"before");
        let line = format!("serve kv --nic xdp:zx1,{mode},ports -p {PORT} --addr {}/24 --addr {}/64", both[0], both[1]);
        let mut command = Command::new(zygix_path());
        command.args(line.split_whitespace()).args(["--supervised", "--netns", rig.far.name()]);
        let server = Server::start(&rig.far, piped(&mut command));
        assert!(server.ready_line().contains("named ports"), "{}", server.ready_line());
        for (i, address) in both.into_iter().enumerate() {
            let mut text = Text::new(rig.connect((address, PORT)));
            for round in 0..100 {
                use_kv(&mut text, 100 * i + round);
                converse(&vec![round as u8; 1 + round * 10]);
            }
            assert!(rig.ping(&address.to_string()), "{address}");
        }
        // A port that nobody has is refused, by the kernel; and a new session of its own is let in.
        let refused = rig.near.inside(|| TcpStream::connect_timeout(&(KERNEL, 80).into(), tests::PATIENCE));
        assert_eq!(refused.map(drop).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        let another = rig.kernel_echo(2222);
        drop(rig.connect((KERNEL, 2222)));
        assert_eq!(another.join().expect("it only echoes"), 0);
        let counters = server.counters();
        assert_eq!((counters.total("tcp_accepts"), counters.total("arp_replies")), (2, 0), "{counters:?}");
        drop(server);
        converse(b"after");
        drop(session);
        kernel.join().expect("it only echoes");
        // The port is the kernel's again.
        let again = rig.kernel_echo(PORT);
        drop(rig.connect((KERNEL, PORT)));
        again.join().expect("it only echoes");
    }
}

/// A server that is killed while it works leaves an interface that the kernel can use, and the next one starts. `ZYGIX_STRESS=long`: 100 times.
#[test]
fn killed_at_any_time_nothing_is_left() {
    let rounds = if std::env::var("ZYGIX_STRESS").is_ok_and(|v| v == "long") { 100 } else { 20 };
    let rig = need!(Rig::new(1));
    for round in 0..rounds {
        let stack = if round % 2 == 0 { Stack::Xdp } else { Stack::Generic };
        let server = rig.serve(&kv(stack));
        let mut text = Text::new(rig.connect((SERVER, PORT)));
        use_kv(&mut text, round);
        // In the midst of requests, however far these have come.
        let busy = thread::spawn(move || {
            for _ in 0..round * 20 {
                text.send("get nothing\r\n");
            }
        });
        os::signal(server.pid(), libc::SIGKILL);
        let _ = busy.join(); // its connection may break
        wait_for("the end of the server", || (!server.is_alive()).then_some(()));
        assert!(rig.ping(&KERNEL.to_string()), "round {round}: the kernel's stack has its interface");
    }
    let server = rig.serve(&kv(Stack::Xdp));
    use_kv(&mut Text::new(rig.connect((SERVER, PORT))), 0);
    drop(server);
}

/// Each mistake and each lack has its own sentence, and says what to do.
#[test]
fn refusals_say_what_to_do() {
    let rig = need!(Rig::new(1));
    let complains = |line: &str, words: &[&str]| {
        let ran = rig.zygix(line);
        assert_eq!(ran.status.code(), Some(1), "{line}: {}", ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{line}: no `{word}` in: {}", ran.err);
        }
        assert_eq!(ran.err.trim().lines().count(), 1, "{line}: one line: {}", ran.err);
    };
    let ours = "--addr 198.18.0.2/24";
    complains(&format!("serve kv --nic xdp:nowhere0 {ours}"), &["no interface nowhere0", "ip link"]);
    complains("serve kv --nic xdp:zx1 --addr 198.18.0.9/24", &["198.18.0.9", "kernel", "ip addr del"]);
    rig.far.inside(|| ethtool::set_queues(XDP, Queues { rx: 2, tx: 2 })).unwrap();
    complains(&format!("serve kv --nic xdp:zx1 -t 3 {ours}"), &["2 receive queue", "ethtool -L zx1 rx 3 tx 3"]);
    rig.far.inside(|| ethtool::set_queues(XDP, Queues { rx: 1, tx: 1 })).unwrap();
    complains(&format!("serve kv --nic xdp:zx1,zero-copy {ours}"), &["zero-copy", "zx1"]);
    rig.far.inside(|| link::set_mtu(XDP, 9000)).unwrap();
    complains(&format!("serve kv --nic xdp:zx1 {ours}"), &["MTU of 9000", "ip link set zx1 mtu 2034"]);
    rig.far.inside(|| link::set_mtu(XDP, 1500).and_then(|()| link::down(XDP))).unwrap();
    complains(&format!("serve kv --nic xdp:zx1 {ours}"), &["is down", "ip link set zx1 up"]);
    rig.far.inside(|| link::up(XDP)).unwrap();

    // The other end's MTU is too large for native mode: generic mode is taken, and the reason said.
    rig.near.inside(|| link::set_mtu(TAP, 4000)).unwrap();
    complains(&format!("serve kv --nic xdp:zx1,native {ours}"), &["native", "3500"]);
    let server = rig.serve(&Serve::new(App::Kv, Stack::Xdp));
    assert!(server.ready_line().contains("(generic)") && server.log().contains("3500"), "{}", server.log());
    drop(server);
    rig.near.inside(|| link::set_mtu(TAP, 1500)).unwrap();

    // Two of us; and somebody else's program.
    let server = rig.serve(&kv(Stack::Xdp));
    complains(&format!("serve kv --nic xdp:zx1 {ours}"), &["another XDP program", "zygix_xdp"]);
    use_kv(&mut Text::new(rig.connect((SERVER, PORT))), 1);
    drop(server);
    let mut pass = sys::bpf::Assembler::new();
    pass.mov_imm(sys::bpf::Reg::R0, 2);
    pass.exit();
    let foreign = sys::bpf::Program::xdp(&pass, "somebody_else").unwrap();
    let there = rig
        .far
        .inside(|| sys::bpf::Attachment::xdp(&foreign, link::index(XDP).unwrap(), sys::bpf::XdpMode::Generic).unwrap());
    complains(&format!("serve kv --nic xdp:zx1 {ours}"), &["another XDP program", "somebody_else", "xdp off"]);
    drop(there);
    drop(rig.serve(&kv(Stack::Xdp)));
}

/// Without privilege: one line, too.
#[test]
fn without_privilege_the_remedy_is_named() {
    let rig = need!(Rig::new(1));
    let setpriv = need!(need::program(&["setpriv"], "util-linux"));
    // A copy that anybody may run, wherever the binary is.
    let copy = std::env::temp_dir().join(format!("zxt-xdp-{}", std::process::id()));
    std::fs::copy(zygix_path(), &copy).expect("there is room");
    let line = "--reuid 65534 --regid 65534 --clear-groups --inh-caps -all";
    let mut command = Command::new(setpriv);
    command.args(line.split(' ')).arg(&copy).args(["serve", "kv", "--nic", "xdp:zx1", "--addr", "198.18.0.2/24"]);
    let ran = run(&rig.far, &mut command, b"");
    std::fs::remove_file(&copy).expect("we made it");
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    assert!(ran.err.contains("run as root") && ran.err.trim().lines().count() == 1, "{}", ran.err);
}

/// Two threads: on two queues, steered by a program at the other end of the veth, in another namespace; on one queue, or where all frames come by one
/// (generic mode), by our own program. No frame passes from core to core. With --steering software they do, and that is said.
#[test]
fn two_threads_get_their_own_flows() {
    for (queues, stack, more, steered) in [
        (2, Stack::Xdp, "", true),
        (2, Stack::Xdp, "--steering software", false),
        (2, Stack::Generic, "", true),
        (1, Stack::Xdp, "", true),
        (1, Stack::Xdp, "--steering software", false),
        (1, Stack::Generic, "", true),
    ] {
        let rig = need!(Rig::new(queues));
        let server = rig.serve(&kv(stack).threads(2).with(more));
        assert_eq!(server.log().contains("software RSS"), !steered, "{}", server.log());
        let mut clients: Vec<Text> = (0..64).map(|_| Text::new(rig.connect((SERVER, PORT)))).collect();
        for round in 0..5 {
            for (i, text) in clients.iter_mut().enumerate() {
                use_kv(text, round * 64 + i);
            }
        }
        let counters = server.counters();
        // 64 flows by a fair coin.
        let accepts = counters.per_core("tcp_accepts");
        assert!(accepts.len() == 2 && accepts.iter().all(|n| *n >= 8), "{accepts:?}");
        let forwarded = counters.total("rx_forwarded_in");
        assert_eq!(forwarded == 0, steered, "{queues} {stack:?} {more}: {counters:?}");
        assert!(rig.ping(&KERNEL.to_string()));
    }
}

/// Busy polling is asked for and said; where the kernel refuses it, that is said, and frames come all the same.
#[test]
fn busy_polling_is_said() {
    for mode in ["native", "generic"] {
        let rig = need!(Rig::new(1));
        let line = format!("serve kv --nic xdp:zx1,{mode},busy-poll=50 -p {PORT} --addr {SERVER}/24");
        let mut command = Command::new(zygix_path());
        command.args(line.split_whitespace()).args(["--supervised", "--netns", rig.far.name()]);
        let server = Server::start(&rig.far, piped(&mut command));
        let (polls, refused) =
            (server.ready_line().contains(", busy polling"), server.log().contains("no busy polling"));
        assert!(polls != refused, "{} {}", server.ready_line(), server.log());
        let mut text = Text::new(rig.connect((SERVER, PORT)));
        (0..100).for_each(|round| use_kv(&mut text, round));
    }
}

/// The load generator's own stack over one veth against both: a store on Linux beside it, a store of ours.
#[test]
fn one_client_drives_linux_and_ours() {
    let rig = need!(Rig::new(1));
    let load = |target: &str, mode: &str| {
        let line = format!(
            "load kv {target}:{PORT} --via xdp:{TAP}{mode} --addr 198.18.0.3/24 --seconds 0.5 --conns 8 --no-spin"
        );
        run(&rig.near, Command::new(zygix_path()).args(line.split_whitespace()), b"").ok()
    };
    let mut linux = Command::new(zygix_path());
    let listen = KERNEL.to_string();
    linux.args(["serve", "kv", "--stack", "linux-partitioned", "-l", &listen, "-p", &PORT.to_string(), "--supervised"]);
    let linux = Server::start(&rig.far, piped(&mut linux));
    let ours = rig.serve(&kv(Stack::Xdp));
    // Linux's super-frames are larger than a frame of ours where the driver does not keep them small.
    rig.far.inside(|| ethtool::set_tso(XDP, false)).unwrap();
    for mode in ["", ",generic"] {
        for target in [KERNEL, SERVER] {
            let said = load(&target.to_string(), mode);
            assert!(said.contains("AF_XDP on zx0") && said.contains("errors        none"), "{mode} {target}: {said}");
        }
    }
    // The clients' kernel has its end as before.
    assert!(rig.ping(&KERNEL.to_string()));
    let counters = linux.counters();
    assert!(counters.0["accepted"] >= 16, "{counters:?}");
    drop(ours);
}

/// The interface is removed while the service runs: it is said, counted, and nobody panics. By one socket, by two on one queue, and where
/// the kernel has the address as well.
#[test]
fn an_interface_that_vanishes_is_said() {
    for (threads, nic, address) in [(1, "zx1", SERVER), (2, "zx1", SERVER), (1, "zx1,ports", KERNEL)] {
        let rig = need!(Rig::new(1));
        let line = format!("serve kv --nic xdp:{nic} -t {threads} -p {PORT} --addr {address}/24");
        let mut command = Command::new(zygix_path());
        command.args(line.split_whitespace()).args(["--supervised", "--netns", rig.far.name()]);
        let server = Server::start(&rig.far, piped(&mut command));
        let mut text = Text::new(rig.connect((address, PORT)));
        use_kv(&mut text, 0);
        // Down, and up again: the session goes on.
        rig.far.inside(|| link::down(XDP).and_then(|()| link::up(XDP))).unwrap();
        use_kv(&mut text, 1);
        rig.far.inside(|| link::delete(XDP)).unwrap();
        wait_for("the server's complaint", || server.log().contains("has gone").then_some(()));
        assert_eq!(server.counters().0["nic.gone"], 1);
        let ended = server.end(libc::SIGTERM);
        assert!(ended.status.success() && !ended.log.contains("panicked"), "{}", ended.log);
    }
}

/// A peer whose super-frames are larger than our frames: the loss is seen, and one line says what to run. Without them, all is well.
#[test]
fn super_frames_are_diagnosed() {
    let rig = need!(Rig::new(1));
    let server = rig.serve(&Serve::new(App::Discard, Stack::Generic));
    let mut stream = rig.connect((SERVER, PORT));
    let sender = {
        let mut stream = stream.try_clone().expect("a descriptor is free");
        thread::spawn(move || tests::upload(&mut stream, 4 << 20).finish())
    };
    wait_for("the diagnosis", || server.log().contains("ethtool -K PEER tso off").then_some(()));
    rig.near.inside(|| ethtool::set_tso(TAP, false)).unwrap();
    let digest = sender.join().expect("all is sent in the end");
    stream.shutdown(std::net::Shutdown::Write).expect("the connection is open");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("the server answers");
    assert_eq!(told, format!("{} {digest:016x}\n", 4 << 20));
}
