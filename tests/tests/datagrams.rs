//! ICMP echo with `ping`, UDP echo with `nc -u` and with sockets.
#![forbid(unsafe_code)]

use tests::{App, Rig, Serve, Stack, need, on_stacks};

fn echo(stack: Stack) -> Result<Rig, String> {
    Rig::start(&Serve::new(App::Echo, stack).threads(2))
}

on_stacks! {
    /// Small, odd and largest unfragmented sizes, and many.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn pings_are_answered(stack) {
        let ping = need!(need::program(&["ping"], "iputils-ping"));
        let rig = need!(echo(stack));
        let host = rig.addr().ip().to_string();
        // With -w it goes on until so many are answered; on a busy machine it may send more before the last answer comes.
        // 1472 bytes, 8 of ICMP and 20 of IPv4 fill a frame; -p checks the contents that come back.
        for size in ["0", "1", "56", "57", "1000", "1472"] {
            let out = rig.run(&ping, &["-c", "3", "-i", "0.01", "-w", "60", "-s", size, "-p", "a5c3", &host]).ok();
            assert!(out.contains(" 3 received") && !out.contains("wrong data"), "{out}");
        }
        let out = rig.run(&ping, &["-c", "2000", "-f", "-q", "-w", "60", &host]).ok();
        assert!(out.contains(" 2000 received"), "{out}");
        // The kernel counts bad checksums of the answers: there are none.
        rig.still_echoes();
    }

    /// One line there and back.
    [zygix = Zygix, xdp = Xdp, linux = Linux, floating = Floating]
    fn nc_over_udp(stack) {
        let nc = need!(need::program(&["nc"], "netcat-openbsd"));
        let rig = need!(echo(stack));
        let (host, port) = (rig.addr().ip().to_string(), rig.addr().port().to_string());
        let out = rig.run_with(&nc, &["-u", "-W", "1", "-w", "60", &host, &port], b"hello over udp\n").ok();
        assert_eq!(out, "hello over udp\n");
        rig.still_echoes();
    }

    /// Datagrams of every size up to a frame come back whole, to whoever sent them.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn datagrams_come_back(stack) {
        let rig = need!(echo(stack));
        let sockets: Vec<_> = (0..8).map(|_| rig.datagrams()).collect();
        let mut back = [0; 2048];
        for size in (1..=64).chain([100, 511, 512, 513, 1000, 1400, 1471, 1472]) {
            for (i, socket) in sockets.iter().enumerate() {
                let sent: Vec<u8> = (0..size).map(|at| (at * 31 + i * 7 + size) as u8).collect();
                socket.send(&sent).expect("the link takes it");
                let n = socket.recv(&mut back).unwrap_or_else(|e| panic!("{size} bytes do not come back: {e}"));
                assert!(back[..n] == sent, "{size} bytes came back as {n} others");
            }
        }
        rig.still_echoes();
    }

    /// A closed UDP port is told so (ICMP port unreachable), which Linux shows as a refused connection.
    [zygix = Zygix, xdp = Xdp, linux = Linux, floating = Floating]
    fn closed_ports_are_told(stack) {
        let rig = need!(echo(stack));
        let refused = rig.namespace.inside(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("any port");
            socket.connect((rig.addr().ip(), 9)).expect("there is a route");
            socket.set_read_timeout(Some(tests::PATIENCE)).expect("not zero");
            socket.send(b"anybody?").expect("the link takes it");
            socket.recv(&mut [0; 8]).map_err(|e| e.kind())
        });
        assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
        let refused = rig.namespace.inside(|| std::net::TcpStream::connect((rig.addr().ip(), 9)).map_err(|e| e.kind()));
        assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
        rig.still_echoes();
    }
}
