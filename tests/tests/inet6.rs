//! IPv6 against Linux: `ping -6`, TCP, datagrams; fragments both ways and path MTUs in both families; RFC 863 and 864.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};

use sys::link;
use tests::{App, Namespace, PATIENCE, PORT, Rig, SERVER, SERVER_V6, Serve, Stack, V6, need, on_stacks};

/// A server of both families, with two threads, so that fragments and their flows are different cores' business.
fn both(app: App, stack: Stack) -> Result<Rig, String> {
    if !fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        return Err("Linux has no IPv6 here".into());
    }
    Rig::start(&Serve::new(app, stack).threads(2).with(V6))
}

const HOSTS: [IpAddr; 2] = [IpAddr::V4(SERVER), IpAddr::V6(SERVER_V6)];

/// Bytes that do not repeat soon.
fn bytes(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| ((i * 31 + seed) ^ (i >> 8)) as u8).collect()
}

on_stacks! {
    /// Sizes up to a frame, and those that Linux cuts and we cut back: 1452 bytes, 8 of ICMP and 40 of IPv6 fill a frame.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn pings_over_ipv6_are_answered(stack) {
        let ping = need!(need::program(&["ping"], "iputils-ping"));
        let rig = need!(both(App::Echo, stack));
        for size in ["0", "1", "57", "1452", "1453", "4000", "20000", "65000"] {
            let host = SERVER_V6.to_string();
            let out = rig.run(&ping, &["-6", "-c", "3", "-i", "0.01", "-w", "60", "-s", size, "-p", "a5c3", &host]).ok();
            assert!(out.contains(" 3 received") && !out.contains("wrong data"), "{out}");
        }
        rig.still_echoes();
    }

    /// The link-local address, made of the hardware address, is ours as well; Linux finds it by its group.
    [zygix = Zygix]
    fn the_link_local_address_answers(stack) {
        let ping = need!(need::program(&["ping"], "iputils-ping"));
        let rig = need!(both(App::Echo, stack));
        let ip = need!(need::program(&["ip"], "iproute2"));
        let out = rig.run(&ping, &["-6", "-c", "1", "-w", "60", &SERVER_V6.to_string()]).ok();
        assert!(out.contains(" 1 received"), "{out}");
        let neighbours = rig.run(&ip, &["-6", "neigh", "show", "2001:2::2"]).ok();
        let mac = neighbours.split_whitespace().skip_while(|w| *w != "lladdr").nth(1).expect("Linux knows the address");
        let m: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).expect("two digits")).collect();
        let group = |a: u8, b: u8| u16::from_be_bytes([a, b]);
        let id = [group(m[0] ^ 2, m[1]), group(m[2], 0xff), group(0xfe, m[3]), group(m[4], m[5])];
        let host = Ipv6Addr::new(0xfe80, 0, 0, 0, id[0], id[1], id[2], id[3]);
        let out = rig.run(&ping, &["-6", "-c", "1", "-w", "60", &format!("{host}%{}", tests::TAP)]).ok();
        assert!(out.contains(" 1 received"), "{out}");
    }

    /// A few megabytes there and back at once, over each family.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn streams_come_back_whole(stack) {
        let rig = need!(both(App::Echo, stack));
        for host in HOSTS {
            let (mut stream, sent) = (rig.connect_to(host), bytes(4_000_000, 7));
            let mut writer = stream.try_clone().expect("a second handle");
            let copy = sent.clone();
            let writes = std::thread::spawn(move || writer.write_all(&copy).and_then(|()| writer.shutdown(Shutdown::Write)));
            let mut back = Vec::new();
            stream.read_to_end(&mut back).expect("the server echoes and closes");
            writes.join().expect("it only writes").expect("the server reads");
            assert!(back == sent, "{host}: {} bytes came back", back.len());
        }
        rig.is_well();
    }

    /// Datagrams of any size come back, in pieces where they must: cut by Linux on their way in, by us on their way out.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn datagrams_of_any_size_come_back(stack) {
        let rig = need!(both(App::Echo, stack));
        let mut back = vec![0; 70_000];
        for (host, largest) in HOSTS.into_iter().zip([65_507, 65_527]) {
            let socket = rig.datagrams_to(host);
            for size in [1, 1452, 1453, 1472, 1473, 2048, 3000, 10_000, 40_000, 65_000, largest] {
                let sent = bytes(size, size);
                socket.send(&sent).expect("the link takes it");
                let n = socket.recv(&mut back).unwrap_or_else(|e| panic!("{host}: {size} bytes do not come back: {e}"));
                assert!(back[..n] == sent, "{host}: {size} bytes came back as {n} others");
            }
        }
        let counters = rig.server.counters();
        assert_eq!((counters.total("reassembled"), counters.dropped("fragment")), (16, 0));
        rig.still_echoes();
    }

    /// Nobody is at a port: Linux is told in either family.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn closed_ports_are_told_over_ipv6(stack) {
        let rig = need!(both(App::Echo, stack));
        let refused = rig.namespace.inside(|| {
            let socket = std::net::UdpSocket::bind("[::]:0").expect("any port");
            socket.connect((SERVER_V6, 9)).expect("there is a route");
            socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
            socket.send(b"anybody?").expect("the link takes it");
            socket.recv(&mut [0; 8]).map_err(|e| e.kind())
        });
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        let refused = rig.namespace.inside(|| TcpStream::connect((SERVER_V6, 9)).map_err(|e| e.kind()).map(drop));
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        rig.still_echoes();
    }

    /// Beyond a router whose next link is narrower than ours, and than what the client says: what does not fit is reported, sent again
    /// smaller, and nothing is lost. Datagrams are cut to what the path carries.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn segments_and_datagrams_fit_a_narrow_path(stack) {
        const NARROW: u32 = 1300;
        let gateways = "--gateway 198.18.0.1 --gateway 2001:2::1";
        if !fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            return need::skip("Linux has no IPv6 here");
        }
        let serve = |app| Serve::new(app, stack).threads(2).with(V6).with(gateways);
        let rig = need!(Rig::start(&serve(App::Source)));
        let beyond = Beyond::new(&rig, NARROW);
        for host in HOSTS {
            let mut stream = beyond.far.inside(|| TcpStream::connect_timeout(&SocketAddr::new(host, PORT), PATIENCE)).expect("there is a way");
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            stream.write_all(b"3000000\n").expect("the server reads");
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap_or_else(|e| panic!("{host}: {} bytes, then {e}", back.len()));
            let mut pattern = vec![0; 3_000_000];
            echo::pattern(0, &mut pattern);
            assert!(back == pattern, "{host}: {} bytes came", back.len());
        }
        let counters = rig.server.counters();
        assert!(counters.total("path_mtu_lowered") >= 2, "{:?}", counters.0);
        rig.is_well();
    }

    /// RFC 863 and RFC 864, over TCP and UDP, in both families.
    [zygix = Zygix, xdp = Xdp]
    fn discard_and_chargen(stack) {
        let rig = need!(both(App::Chargen, stack));
        let mut wanted = vec![0; 300_000];
        echo::chargen(0, &mut wanted);
        for host in HOSTS {
            let mut stream = rig.connect_to(host);
            let mut got = vec![0; wanted.len()];
            stream.read_exact(&mut got).expect("characters without end");
            assert!(got == wanted, "{host}");
            let socket = rig.datagrams_to(host);
            for _ in 0..20 {
                socket.send(b"whatever this says").expect("the link takes it");
                let n = socket.recv(&mut got).expect("an answer");
                assert!((1..=512).contains(&n) && got[..n] == wanted[..n], "{host}: {n}");
            }
        }
        rig.is_well();
        drop(rig);
        let rig = need!(both(App::Sink, stack));
        for host in HOSTS {
            let mut stream = rig.connect_to(host);
            stream.write_all(&bytes(1_000_000, 1)).expect("the server reads");
            stream.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(stream.read(&mut [0; 1]).expect("the server closes"), 0, "{host}");
            let socket = rig.datagrams_to(host);
            socket.send(b"nothing").expect("the link takes it");
        }
        tests::wait_for("both datagrams", || (rig.server.counters().total("udp_in") == 2).then_some(()));
        assert_eq!(rig.server.counters().total("udp_out"), 0);
        rig.is_well();
    }
}

/// A network beyond the rig's, with Linux as the router between them.
struct Beyond {
    far: Namespace,
}

impl Beyond {
    /// One whose link carries packets of `mtu` bytes towards it, though its host believes otherwise.
    fn new(rig: &Rig, mtu: u32) -> Beyond {
        let far = Namespace::new();
        let (near_v4, far_v4) = (Ipv4Addr::new(198, 19, 0, 1), Ipv4Addr::new(198, 19, 0, 2));
        let six = |host| Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, 0, host);
        let place = far.inside(|| sys::netns::current().expect("a namespace of ours"));
        rig.namespace.inside(|| {
            use std::os::fd::AsFd;
            link::add_veth("near", "far", link::Place::Namespace(place.as_fd())).expect("root may");
            link::add_address("near", near_v4, 24).expect("a free address");
            link::add_address("near", six(1), 64).expect("a free address");
            link::set_mtu("near", mtu).expect("a veth takes any");
            link::up("near").expect("it is there");
            for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{file}"), "1").expect("root may");
            }
        });
        far.inside(|| {
            link::add_address("far", far_v4, 24).expect("a free address");
            link::add_address("far", six(2), 64).expect("a free address");
            link::up("far").expect("it is there");
            link::add_route(Ipv4Addr::new(198, 18, 0, 0), 24, near_v4).expect("a neighbour");
            link::add_route(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 64, six(1)).expect("a neighbour");
        });
        Beyond { far }
    }
}
