use std::collections::HashMap;

use proptest::prelude::*;

use super::binary::{extras, request};
use super::harness::{Bench, config};
use crate::Config;

/// A request of a client, well-formed or not.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let key = || prop_oneof![8 => "[a-d]", 1 => "[a-d]{1,3}", 1 => "k{249,252}"];
    let value = || {
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..40),
            1 => prop::collection::vec(any::<u8>(), 1000..4000),
            1 => (3_900..4_200usize).prop_map(|n| vec![b'v'; n]),
        1 => (16_000..70_000usize).prop_map(|n| vec![b'v'; n]),
        ]
    };
    let stored = (
        prop_oneof![Just("set"), Just("add"), Just("replace"), Just("append"), Just("prepend"), Just("cas")],
        key(),
        value(),
        prop_oneof![Just(""), Just(" noreply")],
        prop_oneof![9 => Just("\r\n"), 1 => Just("xx")],
    )
        .prop_map(|(verb, key, value, noreply, end)| {
            let unique = if verb == "cas" { " 130" } else { "" };
            [format!("{verb} {key} 3 0 {}{unique}{noreply}\r\n", value.len()).as_bytes(), &value, end.as_bytes()]
                .concat()
        });
    let meta_set = (
        key(),
        value(),
        prop_oneof![Just(" MA N0"), Just(" ME"), Just(" T30 k q"), Just(" c s k Oab"), Just(" b"), Just(" Z")],
    )
        .prop_map(|(key, value, flags)| {
            [format!("ms {key} {}{flags}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat()
        });
    let line = prop_oneof![
        (prop_oneof![Just("get"), Just("gets"), Just("gat 50"), Just("gats 50")], prop::collection::vec(key(), 0..6))
            .prop_map(|(verb, keys)| format!("{verb} {}", keys.join(" "))),
        (prop_oneof![Just("get"), Just("gats 50")], 700..1200usize)
            .prop_map(|(verb, n)| format!("{verb} {}", "a bb ".repeat(n))),
        (prop_oneof![Just("incr"), Just("decr"), Just("touch")], key(), 0..300u32)
            .prop_map(|(verb, key, n)| format!("{verb} {key} {n}")),
        key().prop_map(|key| format!("delete {key}")),
        (key(), "( [cfhklstvuqO]){0,4}").prop_map(|(key, flags)| format!("mg {key}{flags}")),
        (key(), "( [cktvqIO]| N30| J7| D3| MD){0,4}").prop_map(|(key, flags)| format!("ma {key}{flags}")),
        (key(), "( [kqIx]| T5){0,3}").prop_map(|(key, flags)| format!("md {key}{flags}")),
        Just("stats settings".to_owned()),
        Just("version".to_owned()),
        Just("mn".to_owned()),
        Just(String::new()),
        Just("flush_all".to_owned()),
        "[ -~]{0,60}",
    ]
    .prop_map(|line| format!("{line}\r\n").into_bytes());
    prop_oneof![4 => stored, 2 => meta_set, 8 => line, 1 => prop::collection::vec(any::<u8>(), 0..30)]
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![8 => prop::collection::vec(any::<u8>(), 0..40), 1 => prop::collection::vec(any::<u8>(), 1000..3000), 1 => Just(vec![b'v'; 70_000])];
    (prop_oneof![0..0x1fu8, 0x20..0x26u8], "[a-d]", value, prop_oneof![4 => Just(true), 1 => Just(false)]).prop_map(
        |(opcode, key, value, fit)| {
            let key = key.as_bytes();
            match (fit, opcode) {
                (true, 1..=3 | 0x11..=0x13) => request(opcode, 0, &extras(1, 0), key, &value),
                (true, 0x0e | 0x0f | 0x19 | 0x1a) => request(opcode, 0, &[], key, &value),
                (true, 5 | 6 | 0x15 | 0x16) => request(opcode, 0, &[0; 20], key, b""),
                (true, 0x1b..=0x1e | 0x23 | 0x24) => {
                    request(opcode, 0, &[0; 4], if opcode == 0x1b { b"" } else { key }, b"")
                }
                (true, 0x0a | 0x0b | 0x08 | 0x18) => request(opcode, 0, &[], b"", b""),
                (true, 7 | 0x17) => request(0x0a, 0, &[], b"", b""),
                (true, 0x10) => request(opcode, 0, &[], b"settings", b""),
                (true, _) => request(opcode, 0, &[], key, b""),
                (false, _) => request(opcode, 0, &[], key, &value),
            }
        },
    )
}

/// The answer to everything at once, in full buffers, then FIN.
fn whole(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut bench = Bench::new();
    let mut client = bench.open();
    bench.arrive(&mut client, bytes, 2048);
    let mut answer = bench.run(&mut client, false);
    answer.extend(bench.run(&mut client, true));
    (answer, client.closed)
}

/// The answer when the bytes come in pieces of these lengths, again and again, `burst` buffers at a time.
fn in_pieces(bytes: &[u8], lengths: &[usize], burst: usize) -> (Vec<u8>, bool) {
    let mut bench = Bench::new();
    // A backend whose buffers are scarce.
    bench.room = 5000;
    let mut client = bench.open();
    let (mut left, mut answer) = (bytes, Vec::new());
    for (i, &len) in lengths.iter().cycle().enumerate() {
        if left.is_empty() || client.closed {
            break;
        }
        let (now, later) = left.split_at(len.min(left.len()));
        bench.arrive(&mut client, now, 2048);
        left = later;
        if i % burst == 0 {
            answer.extend(bench.run(&mut client, false));
        }
    }
    answer.extend(bench.run(&mut client, true));
    (answer, client.closed)
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..4usize, 1..40usize, 500..3000usize], 1..12)
}

fn first_difference(a: &[u8], b: &[u8]) -> String {
    let at = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let show = |s: &[u8]| String::from_utf8_lossy(&s[at.saturating_sub(40)..s.len().min(at + 40)]).into_owned();
    format!("lengths {} {}, at {at}: {:?} against {:?}", a.len(), b.len(), show(a), show(b))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn text_is_answered_the_same_however_it_is_cut(requests in prop::collection::vec(any_request(), 1..12), lengths in lengths(), burst in 1..6usize) {
        let bytes = requests.concat();
        let (a, b) = (whole(&bytes), in_pieces(&bytes, &lengths, burst));
        prop_assert!(a == b, "{}", first_difference(&a.0, &b.0));
        prop_assert!(a.1, "it ends when the peer has finished");
    }

    #[test]
    fn packets_are_answered_the_same_however_they_are_cut(packets in prop::collection::vec(any_packet(), 1..12), lengths in lengths(), burst in 1..6usize) {
        let bytes = packets.concat();
        let (a, b) = (whole(&bytes), in_pieces(&bytes, &lengths, burst));
        prop_assert!(a == b, "{}", first_difference(&a.0, &b.0));
    }

    #[test]
    fn garbage_is_survived(mut bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\n'), Just(b'\r'), b'0'..=b'9'], 0..3000), binary: bool, lengths in lengths()) {
        if binary {
            bytes.insert(0, 0x80);
        }
        let (a, b) = (whole(&bytes), in_pieces(&bytes, &lengths, 1));
        prop_assert!(a == b, "{}", first_difference(&a.0, &b.0));
    }

    #[test]
    fn damaged_requests_are_survived(requests in prop::collection::vec(prop_oneof![any_request(), any_packet()], 1..6), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = requests.concat();
        for (at, byte) in hits {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let mut bench = Bench::new();
        let mut client = bench.open();
        bench.send(&mut client, &bytes);
        bench.run(&mut client, true);
        bench.close(client);
        // Whatever happened, the next client is served.
        let mut next = bench.open();
        prop_assert_eq!(bench.say(&mut next, "version\r\n"), "VERSION 1.6.21-zygix\r\n");
    }
}

/// An operation on the model.
#[derive(Clone, Debug)]
enum Op {
    Set(u8, Vec<u8>),
    Add(u8, Vec<u8>),
    Replace(u8, Vec<u8>),
    Append(u8, Vec<u8>),
    Prepend(u8, Vec<u8>),
    Delete(u8),
    Get(u8),
    Incr(u8, u64),
    Sleep,
    Expire(u8, Vec<u8>),
    Touch(u8),
    Flush,
}

fn any_op() -> impl Strategy<Value = Op> {
    let key = || 0..40u8;
    let value = || prop_oneof![6 => prop::collection::vec(any::<u8>(), 0..60), 2 => (0..1000u64).prop_map(|n| n.to_string().into_bytes()), 1 => (2_000..20_000usize).prop_map(|n| vec![b'w'; n])];
    prop_oneof![
        6 => (key(), value()).prop_map(|(k, v)| Op::Set(k, v)),
        2 => (key(), value()).prop_map(|(k, v)| Op::Add(k, v)),
        2 => (key(), value()).prop_map(|(k, v)| Op::Replace(k, v)),
        2 => (key(), value()).prop_map(|(k, v)| Op::Append(k, v)),
        2 => (key(), value()).prop_map(|(k, v)| Op::Prepend(k, v)),
        2 => key().prop_map(Op::Delete),
        6 => key().prop_map(Op::Get),
        2 => (key(), 0..50u64).prop_map(|(k, n)| Op::Incr(k, n)),
        1 => Just(Op::Sleep),
        2 => (key(), value()).prop_map(|(k, v)| Op::Expire(k, v)),
        1 => key().prop_map(Op::Touch),
        1 => Just(Op::Flush),
    ]
}

/// The value, and the sleeps after which it is gone.
type Model = HashMap<u8, (Vec<u8>, Option<u32>)>;

/// What memcached does, on a map; returns the request and the answer that must come.
fn model(map: &mut Model, op: &Op) -> (Vec<u8>, Vec<u8>) {
    let store = |verb: &str, k: &u8, v: &[u8], time: u32, ok: bool| {
        let request = [format!("{verb} {k} 0 {time} {}\r\n", v.len()).as_bytes(), v, b"\r\n"].concat();
        (request, if ok { b"STORED\r\n".to_vec() } else { b"NOT_STORED\r\n".to_vec() })
    };
    let found = |ok: bool, yes: &str| if ok { yes.as_bytes().to_vec() } else { b"NOT_FOUND\r\n".to_vec() };
    match op {
        Op::Set(k, v) => {
            map.insert(*k, (v.clone(), None));
            store("set", k, v, 0, true)
        }
        Op::Expire(k, v) => {
            map.insert(*k, (v.clone(), Some(2)));
            store("set", k, v, 2, true)
        }
        Op::Add(k, v) => {
            let ok = !map.contains_key(k);
            map.entry(*k).or_insert_with(|| (v.clone(), None));
            store("add", k, v, 0, ok)
        }
        Op::Replace(k, v) => {
            let ok = map.contains_key(k);
            map.entry(*k).and_modify(|old| *old = (v.clone(), None));
            store("replace", k, v, 0, ok)
        }
        Op::Append(k, v) => {
            let ok = map.get_mut(k).map(|(old, _)| old.extend(v)).is_some();
            store("append", k, v, 0, ok)
        }
        Op::Prepend(k, v) => {
            let ok = map.get_mut(k).map(|(old, _)| drop(old.splice(0..0, v.iter().copied()))).is_some();
            store("prepend", k, v, 0, ok)
        }
        Op::Delete(k) => (format!("delete {k}\r\n").into_bytes(), found(map.remove(k).is_some(), "DELETED\r\n")),
        Op::Touch(k) => {
            let ok = map.get_mut(k).map(|(_, left)| *left = Some(2)).is_some();
            (format!("touch {k} 2\r\n").into_bytes(), found(ok, "TOUCHED\r\n"))
        }
        Op::Get(k) => {
            let hit = map
                .get(k)
                .map_or(Vec::new(), |(v, _)| [format!("VALUE {k} 0 {}\r\n", v.len()).as_bytes(), v, b"\r\n"].concat());
            (format!("get {k}\r\n").into_bytes(), [&hit[..], b"END\r\n"].concat())
        }
        Op::Incr(k, n) => {
            let answer = match map.get_mut(k) {
                None => "NOT_FOUND\r\n".to_owned(),
                Some((v, _)) => {
                    let text = String::from_utf8_lossy(v).trim_end_matches(' ').to_owned();
                    match text.parse::<u64>().ok().filter(|_| v.len() <= 20 && !text.starts_with('+')) {
                        None => "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n".to_owned(),
                        Some(old) => {
                            let number = old.wrapping_add(*n);
                            *v = format!("{number:<width$}", width = v.len()).into_bytes();
                            format!("{number}\r\n")
                        }
                    }
                }
            };
            (format!("incr {k} {n}\r\n").into_bytes(), answer.into_bytes())
        }
        Op::Flush => {
            map.clear();
            (b"flush_all\r\n".to_vec(), b"OK\r\n".to_vec())
        }
        Op::Sleep => {
            map.retain(|_, (_, left)| {
                *left = left.map(|n| n - 1);
                *left != Some(0)
            });
            (Vec::new(), Vec::new())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_agrees_with_a_map(ops in prop::collection::vec(any_op(), 1..200)) {
        let mut bench = Bench::with(Config { shards: 2, ..config() });
        let mut client = bench.open();
        let mut map = Model::new();
        for op in ops {
            let (request, wanted) = model(&mut map, &op);
            if matches!(op, Op::Sleep) {
                bench.sleep(1);
            }
            let answer = bench.send(&mut client, &request);
            prop_assert!(answer == wanted, "{op:?}: {}", first_difference(&answer, &wanted));
        }
    }
}
