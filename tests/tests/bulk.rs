//! A gigabyte up, a gigabyte down, every byte checked; and both directions of a connection at once.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use tests::{App, Rig, Serve, download, need, on_stacks, upload};

const GIGABYTE: u64 = 1 << 30;
on_stacks! {
    /// The server digests what it receives and tells the digest.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn a_gigabyte_up(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Discard, stack).threads(2)));
        let mut stream = rig.connect();
        let digest = upload(&stream, GIGABYTE);
        stream.shutdown(Shutdown::Write).expect("the connection is open");
        let mut told = String::new();
        stream.read_to_string(&mut told).expect("the server answers");
        assert_eq!(told, format!("{GIGABYTE} {:016x}\n", digest.finish()));
        rig.is_well();
    }

    /// The server sends a pattern of which every byte is known.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn a_gigabyte_down(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Source, stack).threads(2)));
        let mut stream = rig.connect();
        writeln!(stream, "{GIGABYTE}").expect("the server reads");
        assert_eq!(download(&stream), GIGABYTE);
        rig.is_well();
    }

    /// Eight connections send and receive at the same time, as fast as they can.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn both_directions_at_once(stack) {
        const EACH: u64 = 32 << 20;
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack).threads(2)));
        thread::scope(|scope| {
            for _ in 0..8 {
                let stream = rig.connect();
                let writer = stream.try_clone().expect("a descriptor is free");
                scope.spawn(move || {
                    upload(&writer, EACH);
                    writer.shutdown(Shutdown::Write).expect("the connection is open");
                });
                scope.spawn(move || assert_eq!(download(&stream), EACH));
            }
        });
        rig.still_echoes();
    }

    /// A client that reads in fits and starts makes windows close and open again; nothing is lost by it.
    [zygix = Zygix, xdp = Xdp, linux = Linux, floating = Floating]
    fn windows_that_close(stack) {
        const TOTAL: u64 = 24 << 20;
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack)));
        let stream = rig.connect();
        thread::scope(|scope| {
            let writer = stream.try_clone().expect("a descriptor is free");
            scope.spawn(move || {
                upload(&writer, TOTAL);
                writer.shutdown(Shutdown::Write).expect("the connection is open");
            });
            // While nothing is read, first our window closes, then the server's, then the writer stops.
            let fits = Fits { stream: &stream, read: 0 };
            assert_eq!(download(fits), TOTAL);
        });
        rig.still_echoes();
    }

    /// Many short connections, one after the other and side by side: each gets its answer and its end.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn short_connections(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Discard, stack).threads(2)));
        thread::scope(|scope| {
            for worker in 0..4_u64 {
                let rig = &rig;
                scope.spawn(move || rig.namespace.inside(|| {
                    for round in 0..500 {
                        let mut stream = std::net::TcpStream::connect(rig.addr()).expect("the server accepts");
                        let digest = upload(&stream, worker * 1000 + round);
                        stream.shutdown(Shutdown::Write).expect("the connection is open");
                        let mut told = String::new();
                        stream.read_to_string(&mut told).expect("the server answers");
                        assert_eq!(told, format!("{} {:016x}\n", digest.count(), digest.finish()));
                    }
                }));
            }
        });
        rig.is_well();
    }
}

/// Reads with a pause every few megabytes, long enough for everything to fill up.
struct Fits<'a> {
    stream: &'a std::net::TcpStream,
    read: usize,
}

impl Read for Fits<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let before = self.read >> 22;
        let n = self.stream.read(buffer)?;
        self.read += n;
        if self.read >> 22 != before {
            thread::sleep(std::time::Duration::from_millis(300));
        }
        Ok(n)
    }
}
