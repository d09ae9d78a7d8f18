//! A wire between two processes, and between us and those who should not be there.

mod common;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use common::{Place, flow, pools, receive, send, udp};
use nic::{Nic, Queue, RxFrame};
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use shm::{Config, FRAME_MAX, LARGE_RING, Listener, SUPER_MAX, ShmNic};
use sys::unix::{recv_fds, send_fds};
use units::Nanos;
use wire::Mac;

fn config(queues: u16) -> Config {
    Config { queues, ring: 8, ..Config::default() }
}

/// The other process of the test below: sends every frame back until one says stop.
#[test]
#[ignore = "not a test of its own: the other process of two_processes_exchange_frames"]
fn other_process() {
    let Some(path) = std::env::var_os("WIRE") else {
        return;
    };
    let mut nic = ShmNic::connect(path.as_ref(), &config(2)).unwrap();
    let (mut queues, mut pools) = (nic.queues(), pools(32, 2048));
    loop {
        for queue in &mut queues {
            for frame in receive(queue, &mut pools, 8) {
                while send(queue, &frame.head).is_err() {
                    queue.flush();
                    thread::yield_now();
                }
                if frame.head.ends_with(b"stop") {
                    return queue.flush();
                }
            }
            queue.flush();
        }
        thread::yield_now();
    }
}

#[test]
fn two_processes_exchange_frames() {
    let place = Place::new();
    let listener = Listener::bind(&place.0, &config(3)).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--ignored"])
        .env("WIRE", &place.0)
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    let mut nic = listener.accept().unwrap();
    assert!(!place.0.exists(), "a wire has two ends: the place is gone");
    let (mut queues, mut pools) = (nic.queues(), pools(32, 2048));
    let mut back = |queues: &mut Vec<shm::ShmQueue>| {
        loop {
            for queue in queues.iter_mut() {
                // Asleep until the other process rings, if it is this queue that it answers to.
                if queue.before_sleep() {
                    sys::wait::readable(&[queue.wait_fd().unwrap()], Nanos::from_millis(1)).unwrap();
                    queue.after_sleep();
                }
                if let Some(frame) = receive(queue, &mut pools, 1).pop() {
                    return frame;
                }
            }
        }
    };
    for port in 0..100 {
        let frame = udp(port, if port == 99 { b"stop" } else { b"back" });
        let queue = &mut queues[usize::from(port) % 3];
        send(queue, &frame).unwrap();
        queue.flush();
        let answer = back(&mut queues);
        assert_eq!((&answer.head[..], answer.group), (&frame[..], Some(nic.flow_group(&flow(port)))));
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_listener_of_the_process_configures_the_ring_and_both_must_trust() {
    let place = Place::new();
    let listener = Listener::bind(&place.0, &Config { trusted: true, mac: Mac::local(5), ..config(1) }).unwrap();
    let (here, there) = thread::scope(|scope| {
        let there = scope.spawn(|| ShmNic::connect(&place.0, &Config { ring: 4096, ..config(2) }));
        (listener.accept().unwrap(), there.join().unwrap().unwrap())
    });
    assert!(!here.caps().tx_csum && !there.caps().tx_csum);
    assert_eq!(here.caps().mac, Mac::local(5).0);
    assert!(here.caps().name.starts_with("shm:/") && here.caps().name.ends_with("(emulated wire)"));
}

#[test]
fn nobody_listens() {
    let place = Place::new();
    let text = |place: &Place| ShmNic::connect(&place.0, &config(1)).unwrap_err().to_string();
    assert!(text(&place).contains("nobody listens; start the other end first"));
    drop(UnixListener::bind(&place.0).unwrap());
    assert!(text(&place).contains("nobody listens"), "a socket without a process");
}

#[test]
fn a_stale_socket_is_removed_and_a_live_one_is_not() {
    let place = Place::new();
    drop(UnixListener::bind(&place.0).unwrap());
    let listener = Listener::bind(&place.0, &config(1)).expect("the old socket is nobody's");
    let refused = Listener::bind(&place.0, &config(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    assert!(refused.to_string().contains("another process listens there"), "{refused}");
    drop(listener);
    assert!(!place.0.exists());
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let place = Place::new();
    fs::write(&place.0, "precious").unwrap();
    let refused = Listener::bind(&place.0, &config(1)).unwrap_err().to_string();
    assert!(refused.contains("not a socket"), "{refused}");
    assert_eq!(fs::read(&place.0).unwrap(), b"precious");
    let nowhere = Listener::bind("/nowhere/at/all".as_ref(), &config(1)).unwrap_err().to_string();
    assert!(nowhere.contains("is the directory there"), "{nowhere}");
}

fn greeting(version: u32, queues: u16) -> Vec<u8> {
    let mut bytes = b"zygixshm".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(queues.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(8u32.to_le_bytes());
    bytes.resize(24, 0);
    bytes
}

/// What the tests below do at a listener's door; answers with what it sent back.
fn visit(place: &Place, bytes: &[u8]) -> (usize, Vec<OwnedFd>) {
    let mut stream = UnixStream::connect(&place.0).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    recv_fds(&stream, &mut [0; 24]).unwrap()
}

#[test]
fn strangers_are_turned_away_and_the_wait_goes_on() {
    let place = Place::new();
    let listener = Listener::bind(&place.0, &config(1)).unwrap();
    thread::scope(|scope| {
        let here = scope.spawn(|| listener.accept().unwrap());
        drop(UnixStream::connect(&place.0).unwrap());
        for bad in [&b"GET / HTTP/1.0\r\n\r\n......"[..24], &greeting(99, 1), &greeting(2, 0), &greeting(2, 999)] {
            let (n, fds) = visit(&place, bad);
            assert_eq!((n, fds.len()), (24, 0), "a greeting without memory");
        }
        assert_eq!(visit(&place, b"short").0, 0);
        ShmNic::connect(&place.0, &config(1)).unwrap();
        here.join().unwrap();
    });
}

/// A listener that answers with `bytes` and `fds` instead of what it should; the connector's complaint.
fn complaint(bytes: &[u8], fds: &[OwnedFd]) -> String {
    let place = Place::new();
    let listener = UnixListener::bind(&place.0).unwrap();
    thread::scope(|scope| {
        let there = scope.spawn(|| ShmNic::connect(&place.0, &config(1)).unwrap_err().to_string());
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        if !bytes.is_empty() {
            send_fds(&stream, bytes, &fds.iter().map(|fd| fd.as_fd()).collect::<Vec<_>>()).unwrap();
        }
        drop(stream);
        there.join().unwrap()
    })
}

#[test]
fn a_connector_takes_nothing_on_trust() {
    let sealed = |len| sys::memfd::create_sealed(c"test", len).unwrap();
    let unsealed = || OwnedFd::from(File::open("/proc/self/status").unwrap());
    let good = greeting(2, 1);
    for (bytes, fds, expected) in [
        (&[][..], vec![], "closed the connection"),
        (b"HTTP/1.0 400 Bad Request", vec![], "is this the right path"),
        (&greeting(3, 1), vec![], "version 3 of the wire, this is 2"),
        (&greeting(2, 77), vec![], "77 queues"),
        (&good, vec![], "sent no memory"),
        (&good, vec![sealed(4096)], "smaller than agreed"),
        (&good, vec![unsealed()], "memfd"),
        (&good, vec![sealed(1 << 20)], "number of doorbells"),
    ] {
        let text = complaint(bytes, &fds);
        assert!(text.contains(expected), "{text:?} should say {expected:?}");
    }
}

#[derive(Clone, Debug)]
enum Attack {
    /// Writes a word anywhere in the memory.
    Word { at: usize, word: u64 },
    /// Writes a small number near the beginning of a ring, where its indices are, or anywhere.
    Index { at: usize, index: u32 },
    /// Lets the victim work.
    Work,
}

/// A peer that joins properly and then writes what it likes into the shared file, while the victim goes on receiving
/// and transmitting: nothing out of bounds (the victim would crash or assert), no frame beyond a slot, bounded work,
/// and nonsense is counted.
#[test]
fn a_hostile_peer_wastes_its_own_frames_only() {
    hostile(&config(2), &greeting(2, 2));
}

#[test]
fn a_hostile_peer_of_super_frames_does_so_too() {
    let mut flags = greeting(2, 2);
    flags[14] = 2;
    hostile(&Config { ring: LARGE_RING, large: true, ..config(2) }, &flags);
}

fn hostile(config: &Config, greeting: &[u8]) {
    let longest = if config.large { SUPER_MAX } else { FRAME_MAX };
    let place = Place::new();
    let listener = Listener::bind(&place.0, config).unwrap();
    let here = thread::spawn(|| listener.accept().unwrap());
    let mut stream = UnixStream::connect(&place.0).unwrap();
    stream.write_all(greeting).unwrap();
    let (_, fds) = recv_fds(&stream, &mut [0; 24]).unwrap();
    let file = File::from(fds.into_iter().next().unwrap());
    let victim = RefCell::new((here.join().unwrap().queues(), pools(64, 2048), 0));
    let len = file.metadata().unwrap().len() as usize;

    let index = prop_oneof![0..40u32, any::<u32>()];
    let attack = prop_oneof![
        (0..len / 8, any::<u64>()).prop_map(|(at, word)| Attack::Word { at: 8 * at, word }),
        (0..len / 128, index).prop_map(|(at, index)| Attack::Index { at: 128 * at, index }),
        Just(Attack::Work),
    ];
    // Every line of the memory at once, again and again: so that indices and descriptors are surely hit.
    let long = (0..70_000u64).prop_map(|len| len | 0xffff << 32);
    let flood = prop_oneof![0..40u64, 0..4096u64, any::<u64>(), Just(42 | 0xffff << 32), long];
    let script = (flood, prop::collection::vec(attack, 1..60));
    // Chance decides what is hit: it gets more of them until both kinds were.
    let hit = |victim: &RefCell<(Vec<shm::ShmQueue>, nic::RxPools, usize)>| {
        let (queues, _, received) = &*victim.borrow();
        let nonsense: u64 = queues.iter().map(|queue| queue.counters().rx_invalid).sum();
        (nonsense > 0, *received > 0)
    };
    for _ in 0..50 {
        if hit(&victim) == (true, true) {
            break;
        }
        TestRunner::new(Runs::with_cases(64))
            .run(&script, |(flood, attacks)| {
                file.write_all_at(&flood.to_le_bytes().repeat(len / 8), 0).unwrap();
                for attack in attacks {
                    match attack {
                        Attack::Word { at, word } => file.write_all_at(&word.to_le_bytes(), at as u64).unwrap(),
                        Attack::Index { at, index } => file.write_all_at(&index.to_le_bytes(), at as u64).unwrap(),
                        Attack::Work => {}
                    }
                    let (queues, pools, received) = &mut *victim.borrow_mut();
                    for queue in queues {
                        let frames = receive(queue, pools, 32);
                        let len = |frame: &RxFrame| frame.head.len() + frame.rest.bytes() as usize;
                        prop_assert!(frames.iter().all(|frame| len(frame) <= longest));
                        prop_assert!(frames.iter().all(|frame| frame.group.is_none_or(|group| group.index() < 128)));
                        *received += frames.len();
                        for port in 0..10 {
                            _ = send(queue, &udp(port, b"still here"));
                        }
                        queue.flush();
                        queue.before_sleep();
                        queue.after_sleep();
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(hit(&victim), (true, true), "nonsense counted, frames received");
}
