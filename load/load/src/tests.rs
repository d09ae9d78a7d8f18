//! The client against servers that answer rightly, wrongly, and not at all.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use units::Nanos;

use crate::workload::Workload;
use crate::{Client, Config, Errors, LoadError, Outcome, Pace, Slice, run};

/// How a test server answers its `n`-th request.
type Answer = fn(n: u64, line: &str) -> Option<Vec<u8>>;

/// Serves connections until the listener's process ends; one thread each.
fn server(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, answer));
        }
    });
    addr
}

fn serve(mut stream: TcpStream, answer: Answer) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    for n in 0.. {
        line.clear();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.starts_with("set") {
            let mut value = String::new();
            lines.read_line(&mut value).unwrap();
        }
        match answer(n, line.trim_end()) {
            Some(bytes) if stream.write_all(&bytes).is_ok() => {}
            _ => return,
        }
    }
}

fn right(_: u64, line: &str) -> Option<Vec<u8>> {
    let Some(key) = line.strip_prefix("get ") else { return Some(b"STORED\r\n".to_vec()) };
    let [a, b] = Workload::value(key[4..].parse().unwrap());
    Some([b"VALUE ", key.as_bytes(), b" 0 2\r\n", &[a, b], b"\r\nEND\r\n"].concat())
}

fn client(addr: SocketAddr, connections: usize, depth: usize) -> Client {
    let workload = Workload { keys: 500, gets: 0.9 };
    Client::connect(Config { addr, connections, depth, workload, seed: 7, core: None, spin: false }).unwrap()
}

fn slice(pace: Pace) -> Slice {
    Slice { pace, warmup: Nanos::from_millis(10), window: Nanos::from_millis(60), patience: Nanos::from_millis(100) }
}

fn load(answer: Answer, pace: Pace) -> Outcome {
    run(&mut [client(server(answer), 3, 2)], &slice(pace)).unwrap()
}

#[test]
fn a_closed_loop_counts_right_replies_only() {
    let addr = server(right);
    let mut clients = [client(addr, 3, 1), client(addr, 2, 4)];
    clients[0].preload(0, 500).unwrap();
    assert_eq!(clients[0].progress().answered.get(), 500);
    let first = run(&mut clients, &slice(Pace::Closed)).unwrap();
    let again = run(&mut clients, &slice(Pace::Closed)).unwrap();
    for o in [first, again] {
        assert_eq!(o.errors, Errors::default());
        assert!(o.requests > 0 && o.requests == o.latency.len());
        assert!(o.p50() <= o.p99() && o.p99() <= o.p999() && o.cpu > Nanos::ZERO);
        assert_eq!(o.lateness.len(), 0);
    }
}

#[test]
fn an_open_loop_measures_every_request_meant_for_the_window() {
    let o = load(right, Pace::Open { rate: 5000.0 });
    assert_eq!(o.errors, Errors::default());
    // 300 are meant for the window, standard deviation 17; and all that were made were sent.
    assert!((200..400).contains(&o.latency.len()), "{}", o.latency.len());
    assert!(o.lateness.len() >= o.latency.len());
}

#[test]
fn wrong_replies_are_errors_and_no_requests() {
    let o = load(|n, line| if n % 2 == 0 { Some(b"END\r\n".to_vec()) } else { right(n, line) }, Pace::Closed);
    assert!(o.errors.wrong > 0 && o.requests > 0);
    assert_eq!((o.errors.lost, o.errors.broken, o.errors.unanswered), (0, 0, 0));
}

#[test]
fn garbage_and_hang_ups_cost_the_connection_which_is_replaced() {
    for answer in [
        |n, l: &str| if n == 5 { Some(b"?\r\n".to_vec()) } else { right(n, l) },
        |n, l: &str| {
            if n == 5 { None } else { right(n, l) }
        },
    ] {
        let mut clients = [client(server(answer), 3, 2)];
        let mut sum = run(&mut clients, &slice(Pace::Closed)).unwrap();
        // More breaks than there are connections: those that took a broken one's place were used.
        for _ in 0..100 {
            if sum.errors.broken <= 3 {
                sum.merge(&run(&mut clients, &slice(Pace::Closed)).unwrap());
            }
        }
        assert!(sum.errors.broken > 3 && sum.errors.lost >= sum.errors.broken, "{}", sum.errors);
        assert_eq!((sum.errors.wrong, sum.errors.unanswered), (0, 0));
    }
}

#[test]
fn a_silent_server_leaves_every_request_unanswered() {
    let closed = load(|_, _| Some(Vec::new()), Pace::Closed);
    assert_eq!(closed.errors, Errors { unanswered: 6, ..Errors::default() });
    let open = load(|_, _| Some(Vec::new()), Pace::Open { rate: 2000.0 });
    // 140 were made, of which 6 were sent: those that waited count too.
    assert!(open.errors.unanswered > 80 && open.latency.is_empty(), "{}", open.errors);
}

#[test]
fn no_server_and_no_memory_are_told_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config =
        Config { addr: nobody, connections: 1, depth: 1, workload: Workload::USR, seed: 1, core: None, spin: false };
    assert!(matches!(Client::connect(config), Err(LoadError::Connect { .. })));
    let full = server(|n, l| if n == 40 { Some(b"SERVER_ERROR out of memory\r\n".to_vec()) } else { right(n, l) });
    let error = client(full, 1, 1).preload(0, 100).unwrap_err().to_string();
    assert!(error.contains("99 of 100 stored, 1 wrong"), "{error}");
}
