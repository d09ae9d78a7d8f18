use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::{Namespace, PATIENCE, Ran, Serve, Server, Stack, Text, Veth, need, run};

/// The TAP's name.
pub const TAP: &str = "zx0";
/// Where the server is.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Where Linux, and with it the clients, is.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where the server is over IPv6, if it was started with [`V6`].
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 2);
/// Arguments that give a server of ours an IPv6 address as well.
pub const V6: &str = "--addr 2001:2::2/64";
/// Where it listens.
pub const PORT: u16 = 11211;

/// A server in a namespace of its own, and clients in there, too.
///
/// Fields end in this order: first the server, then the namespace with whatever still lives in it.
pub struct Rig {
    /// The server.
    pub server: Server,
    /// The namespace.
    pub namespace: Namespace,
    stack: Stack,
}

impl Rig {
    /// Starts a server.
    ///
    /// # Errors
    /// What is missing here: reason to skip the test.
    ///
    /// # Panics
    /// When the server does not become ready.
    pub fn start(serve: &Serve) -> Result<Rig, String> {
        need::network()?;
        let namespace = Namespace::new();
        if !serve.stack.is_ours() {
            // All stacks are reached at the same address.
            namespace.inside(|| sys::link::add_address("lo", SERVER, 32)).map_err(|e| e.to_string())?;
        }
        if serve.stack.is_xdp() {
            need::xdp()?;
            Veth::within(&namespace, serve.threads.unwrap_or(1))?;
        }
        if serve.stack == Stack::Generic {
            namespace.inside(|| sys::ethtool::set_tso(TAP, false)).map_err(|e| e.to_string())?;
        }
        let server = Server::start(&namespace, &mut serve.command(&namespace));
        Ok(Rig { server, namespace, stack: serve.stack })
    }

    /// A server that runs already, with clients in its network namespace.
    pub fn around(server: Server, namespace: Namespace, stack: Stack) -> Rig {
        Rig { server, namespace, stack }
    }

    /// What it runs on.
    pub fn stack(&self) -> Stack {
        self.stack
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((SERVER, PORT))
    }

    /// A connection to the server, whose reads and writes give up after [`PATIENCE`].
    ///
    /// # Panics
    /// When the server does not accept it.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        self.try_connect().unwrap_or_else(|e| panic!("cannot connect to {}: {e}", self.addr()))
    }

    /// As [`Rig::connect`], for servers that may refuse.
    ///
    /// # Errors
    /// As connect(2).
    pub fn try_connect(&self) -> io::Result<TcpStream> {
        self.namespace.inside(|| dial(self.addr()))
    }

    /// A client of the text protocol.
    #[track_caller]
    pub fn text(&self) -> Text {
        Text::new(self.connect())
    }

    /// As [`Rig::connect`], to the server's address of this family.
    ///
    /// # Panics
    /// When the server does not accept it.
    #[track_caller]
    pub fn connect_to(&self, host: IpAddr) -> TcpStream {
        let addr = SocketAddr::new(host, PORT);
        self.namespace.inside(|| dial(addr)).unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"))
    }

    /// A UDP socket that sends to and receives from the server.
    pub fn datagrams(&self) -> UdpSocket {
        self.datagrams_to(self.addr().ip())
    }

    /// As [`Rig::datagrams`], to this address of the server.
    pub fn datagrams_to(&self, host: IpAddr) -> UdpSocket {
        let any = if host.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        self.namespace.inside(|| {
            let socket = UdpSocket::bind((any, 0)).expect("any port");
            socket.connect((host, PORT)).expect("there is a route");
            socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
            socket
        })
    }

    /// Runs a program in the namespace to its end.
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Ran {
        self.run_with(program, arguments, b"")
    }

    /// Runs a program in the namespace to its end, with `input` on its standard input.
    pub fn run_with(&self, program: impl AsRef<Path>, arguments: &[&str], input: &[u8]) -> Ran {
        run(&self.namespace, Command::new(program.as_ref()).args(arguments), input)
    }

    /// Checks that the server serves a new client, and has not complained.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn still_serves_kv(&self) {
        let mut text = self.text();
        assert_eq!(text.ask("set alive 0 0 3\r\nyes"), "STORED");
        assert_eq!(text.get("alive").as_deref(), Some(&b"yes"[..]));
        self.is_well();
    }

    /// As [`Rig::still_serves_kv`], for the echo.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn still_echoes(&self) {
        let mut stream = self.connect();
        stream.write_all(b"still there?").expect("the server reads");
        let mut back = [0; 12];
        stream.read_exact(&mut back).expect("the server echoes");
        assert_eq!(&back, b"still there?");
        self.is_well();
    }

    /// Checks that the server runs and that no handler of it panicked.
    ///
    /// # Panics
    /// When that is not so.
    #[track_caller]
    pub fn is_well(&self) {
        assert!(self.server.is_alive(), "the server ended:\n{}", self.server.log());
        let log = self.server.log();
        assert!(!log.contains("panicked"), "something panicked:\n{log}");
        assert_eq!(self.server.counters().0.get("panics").copied().unwrap_or(0), 0, "panics are counted:\n{log}");
    }
}

pub(crate) fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
