use std::fs::File;
use std::os::fd::AsFd;

use bridge::{End, Running, Seen};
use nic::Faults;
use sys::link::{self, Place};

use crate::{CLIENT, Namespace, Rig, SERVER, Serve, Server, TAP, XDP, need};

/// The link's interface, at both ends.
const LINK: &str = "zl0";
/// The bridge device behind it.
const SWITCH: &str = "sw0";
/// A Linux server's interface.
const HOST: &str = "zv0";

/// A server behind a link with faults: clients in one namespace, the server in another, and nothing between them but a bridge that
/// loses, doubles, delays and damages their frames.
///
/// ```text
///   clients --- zl0 TAP ==[faults]== zl0 TAP --- sw0 ---+--- zx0 TAP --- Zygix
///                                                       +--- veth  zx1 --- Zygix by AF_XDP, or
///                                                       +--- veth  zv0 --- a Linux server, in a namespace of its own
/// ```
///
/// Frames of a Linux server thus meet the same faults, one by one as segments, as Zygix's do.
pub struct Crossing {
    /// The server, and the clients' namespace.
    pub rig: Rig,
    link: Running,
    // They end last.
    _behind: Vec<Namespace>,
}

impl Crossing {
    /// Starts a server behind a link with these faults both ways, their dice thrown by `seed`.
    ///
    /// # Errors
    /// What is missing here: reason to skip the test.
    ///
    /// # Panics
    /// When the server does not become ready.
    pub fn start(serve: &Serve, faults: Faults, seed: u64) -> Result<Crossing, String> {
        need::network()?;
        let (near, far) = (Namespace::new(), Namespace::new());
        far.inside(|| link::add_bridge(SWITCH).and_then(|()| link::up(SWITCH))).map_err(|e| e.to_string())?;
        let open = |namespace: &Namespace| File::open(namespace.path()).expect("the namespace is there");
        let (at_near, at_far) = (open(&near), open(&far));
        let a = End { namespace: at_near.as_fd(), name: LINK, address: Some((CLIENT.into(), 24)) };
        let b = End { namespace: at_far.as_fd(), name: LINK, address: None };
        let bridge = bridge::between(&a, &b, [faults; 2], seed).expect("root can make TAPs");
        let link = bridge.start(None).expect("a thread can be started");
        let join = |port: &str| link::add_port(port, SWITCH).expect("the switch takes ports");
        far.inside(|| join(LINK));
        let mut behind = Vec::new();
        let server = if serve.stack.is_xdp() {
            need::xdp()?;
            far.inside(|| {
                link::add_veth("zv1", XDP, Place::Here).expect("root can make a pair");
                join("zv1");
                link::up("zv1").and_then(|()| link::up(XDP)).expect("they were just made");
            });
            Server::start(&far, &mut serve.command(&far))
        } else if serve.stack.is_ours() {
            let server = Server::start(&far, &mut serve.clone().with("--host-addr none").command(&far));
            far.inside(|| join(TAP));
            server
        } else {
            let host = Namespace::new();
            let at_host = open(&host);
            far.inside(|| {
                link::add_veth("zv1", HOST, Place::Namespace(at_host.as_fd())).expect("root can make a pair");
                join("zv1");
                link::up("zv1").expect("it was just made");
            });
            host.inside(|| link::add_address(HOST, SERVER, 24).and_then(|()| link::up(HOST))).expect("it is there");
            let server = Server::start(&host, &mut serve.command(&host));
            behind.push(host);
            server
        };
        behind.push(far);
        Ok(Crossing { rig: Rig::around(server, near, serve.stack), link, _behind: behind })
    }

    /// Other faults from now on.
    pub fn set(&self, faults: Faults, seed: u64) {
        self.link.set([faults; 2], seed);
    }

    /// What became of the frames.
    pub fn seen(&self) -> Seen {
        self.link.seen()
    }
}
