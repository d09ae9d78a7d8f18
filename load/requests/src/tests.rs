//! What is asked, laid beside the definitions; and what is judged, by a reader who knows the protocols only.

use std::collections::HashMap;

use draw::{Purpose, Sizes, stream};
use proptest::prelude::*;

use crate::ascii::LINE_MAX;
use crate::binary::HEADER;
use crate::{Ask, Asker, Echo, KEY_MAX, Kv, Protocol, Spin, VALUE_MAX, Verdict, Workload};

fn asker(workload: Workload) -> Asker {
    workload.check().unwrap();
    Asker::new(&workload, stream(7, 0, Purpose::Requests))
}

fn kv(protocol: Protocol, kv: Kv) -> Asker {
    asker(Workload::Kv(Kv { protocol, ..kv }))
}

fn echo(size: &str) -> Asker {
    asker(Workload::Echo(Echo { size: size.parse().unwrap() }))
}

fn spin(time: &str, size: u32) -> Asker {
    asker(Workload::Spin(Spin { time: time.parse().unwrap(), size }))
}

fn written(asker: &Asker, ask: Ask) -> Vec<u8> {
    let mut out = Vec::new();
    asker.write(ask, &mut out);
    out
}

/// A memcached of the simplest kind: one whole request in, the reply out.
#[derive(Default)]
struct Store(HashMap<Vec<u8>, Vec<u8>>);

impl Store {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        if request[0] == 0x80 { self.binary(request) } else { self.ascii(request) }
    }

    fn ascii(&mut self, request: &[u8]) -> Vec<u8> {
        let end = request.windows(2).position(|two| two == b"\r\n").expect("a line");
        let line = std::str::from_utf8(&request[..end]).expect("text");
        let rest = &request[end + 2..];
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["get", key] => {
                assert!(rest.is_empty());
                let Some(value) = self.0.get(key.as_bytes()) else { return b"END\r\n".to_vec() };
                [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), value, b"\r\nEND\r\n"].concat()
            }
            ["set", key, "0", "0", len] => {
                let value = rest.strip_suffix(b"\r\n").expect("the value's end");
                assert_eq!(len, value.len().to_string());
                self.0.insert(key.as_bytes().to_vec(), value.to_vec());
                b"STORED\r\n".to_vec()
            }
            _ => panic!("{line}"),
        }
    }

    fn binary(&mut self, request: &[u8]) -> Vec<u8> {
        let (opcode, extras) = (request[1], usize::from(request[4]));
        let key_len = usize::from(u16::from_be_bytes([request[2], request[3]]));
        let body = u32::from_be_bytes(request[8..12].try_into().unwrap()) as usize;
        let opaque = u32::from_be_bytes(request[12..16].try_into().unwrap());
        assert_eq!((request.len(), &request[5..8], &request[16..24]), (HEADER + body, &[0; 3][..], &[0; 8][..]));
        let (key, value) = request[HEADER + extras..].split_at(key_len);
        match (opcode, extras) {
            (0, 0) => {
                assert!(value.is_empty());
                match self.0.get(key) {
                    Some(value) => packet(0, 4, 0, opaque, &[&[0; 4], &value[..]].concat()),
                    None => packet(0, 0, 1, opaque, b"Not found"),
                }
            }
            (1, 8) => {
                self.0.insert(key.to_vec(), value.to_vec());
                packet(1, 0, 0, opaque, b"")
            }
            _ => panic!("opcode {opcode}, {extras} bytes of extras"),
        }
    }
}

/// A binary reply; its cas is 77.
fn packet(opcode: u8, extras: u8, status: u8, opaque: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81, opcode, 0, 0, extras, 0, 0, status];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(opaque.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 77]);
    bytes.extend(body);
    bytes
}

/// The right reply to `ask`.
fn right(asker: &Asker, ask: Ask) -> Vec<u8> {
    let request = written(asker, ask);
    if asker.records() == 0 {
        return request;
    }
    let mut store = Store::default();
    store.answer(&written(asker, Ask { set: true, ..ask }));
    store.answer(&request)
}

fn spent(ask: Ask, nanos: u32) -> Vec<u8> {
    spin_reply(ask.id, u64::from(nanos))
}

fn spin_reply(id: u32, nanos: u64) -> Vec<u8> {
    [&16u32.to_le_bytes()[..], &id.to_le_bytes(), &nanos.to_le_bytes()].concat()
}

/// Feeds a reply byte by byte to a judge that is asked only when he wants to be; returns the verdict, and how often he
/// was asked. Fails if he wants more than there is.
fn patiently(asker: &Asker, ask: Ask, reply: &[u8]) -> (Verdict, usize) {
    let (mut want, mut asked) = (0, 0);
    loop {
        assert!(want <= reply.len(), "wants {want} of {}", reply.len());
        asked += 1;
        match asker.judge(ask, &reply[..want]) {
            Verdict::Incomplete(more) => {
                assert!(more > want, "wants {more} and has {want}");
                want = more;
            }
            verdict => return (verdict, asked),
        }
    }
}

/// Every cut of `reply` is incomplete and asks for nothing beyond its end; the whole of it, and more, is `verdict`.
fn cuts(asker: &Asker, ask: Ask, reply: &[u8], verdict: Verdict) {
    for cut in 0..reply.len() {
        match asker.judge(ask, &reply[..cut]) {
            Verdict::Incomplete(want) => assert!(want > cut && want <= reply.len(), "{cut} bytes: wants {want}"),
            other => panic!("{cut} of {} bytes: {other:?}", reply.len()),
        }
    }
    assert_eq!(asker.judge(ask, reply), verdict);
    assert_eq!(asker.judge(ask, &[reply, b"VALUE "].concat()), verdict);
    assert_eq!(asker.judge(ask, &[reply, &[0x81]].concat()), verdict);
    assert_eq!(patiently(asker, ask, reply).0, verdict);
}

/// The lengths of keys and values of `n` records, sorted, as they are stored.
fn stored_lengths(of: Kv, n: u32) -> [Vec<usize>; 2] {
    let asker = kv(Protocol::Ascii, of);
    let mut store = Store::default();
    for index in 0..n {
        assert_eq!(store.answer(&written(&asker, asker.preload(index))), b"STORED\r\n");
    }
    assert_eq!(store.0.len(), n as usize, "two records have the same key");
    let mut lengths = [store.0.keys().map(Vec::len).collect(), store.0.values().map(Vec::len).collect::<Vec<_>>()];
    lengths.iter_mut().for_each(|lengths| lengths.sort_unstable());
    lengths
}

/// The quantiles of `sorted` are those of `sizes`, give or take half a percent of probability.
fn quantiles(sorted: &[usize], sizes: &Sizes) {
    for percent in 1..100 {
        let q = f64::from(percent) / 100.0;
        let got = sorted[(q * sorted.len() as f64) as usize] as u32;
        let (low, high) = (sizes.at(q - 0.005), sizes.at(q + 0.005));
        assert!((low..=high).contains(&got), "quantile {q}: {got}, not {low} to {high}");
    }
}

/// The share of lengths of at most `len` is `want`, give or take half a percent.
fn share(sorted: &[usize], len: usize, want: f64) {
    let got = sorted.partition_point(|l| *l <= len) as f64 / sorted.len() as f64;
    assert!((got - want).abs() < 0.005, "{got} are of {len} B at most, not {want}");
}

#[test]
fn etc_has_the_sizes_of_its_definition() {
    let [keys, values] = stored_lengths(Kv::etc(), 100_000);
    quantiles(&keys, &Sizes::etc_key());
    quantiles(&values, &Sizes::etc_value());
    assert!(keys[0] == 20 && keys[99_999] == 70 && values[0] == 1 && values[99_999] == 1024);
    // The distribution functions themselves. A length of at most n was below n + 1 before it was rounded down.
    let gev = |x: f64| (-(1.0 + 0.078688 * (x - 30.7984) / 8.20449).powf(-1.0 / 0.078688)).exp();
    let pareto = |x: f64| 1.0 - (1.0 + 0.348238 * (x - 15.0) / 214.476).powf(-1.0 / 0.348238);
    for len in [22, 25, 30, 35, 40, 50, 60, 69] {
        share(&keys, len, gev(len as f64 + 1.0));
    }
    // Table 5 of the paper: 0.17820 of all values have 2 B, 0.09239 have 3, 0.08989 have 11; 0.44155 are below 15.
    let small = values.partition_point(|len| *len < 15) as f64 / 1e5;
    assert!((small - 0.44155).abs() < 0.005, "{small}");
    for (len, want) in [(2, 0.17820), (3, 0.09239), (5, 0.02740), (11, 0.08989)] {
        let got = values.iter().filter(|l| **l == len).count() as f64 / 1e5;
        assert!((got - want).abs() < 0.004, "{got} of {len} B");
    }
    for len in [20, 50, 100, 200, 400, 800, 1000] {
        share(&values, len, 0.44155 + 0.55845 * pareto(len as f64 + 1.0));
    }
}

#[test]
fn usr_has_the_sizes_of_its_definition() {
    let [keys, values] = stored_lengths(Kv::usr(), 100_000);
    assert!(keys.iter().all(|len| *len == 19) && values.iter().all(|len| *len == 2));
}

#[test]
fn sizes_of_any_kind_are_kept() {
    let of = |key: &str, value: &str| Kv { key: key.parse().unwrap(), value: value.parse().unwrap(), ..Kv::usr() };
    let [keys, values] = stored_lengths(of("uniform:10-250", "0"), 20_000);
    quantiles(&keys, &"uniform:10-250".parse().unwrap());
    assert!(values.iter().all(|len| *len == 0));
    let [_, values] = stored_lengths(of("30", "values:1,1,500,3"), 20_000);
    let short = values.iter().filter(|len| **len == 1).count() as f64;
    assert!((short / 2e4 - 0.25).abs() < 0.01 && values[19_999] == 500);
}

#[test]
fn the_shares_of_gets_are_those_of_the_definitions() {
    let n = 300_000;
    for (of, share) in [(Kv::usr(), 0.998), (Kv::etc(), 0.75), (Kv::etc_scripts(), 0.967)] {
        for protocol in [Protocol::Ascii, Protocol::Binary] {
            let mut asker = kv(protocol, of.clone());
            let mut out = Vec::new();
            let mut gets = 0;
            for _ in 0..n {
                out.clear();
                let ask = asker.next();
                asker.write(ask, &mut out);
                gets += u32::from(out.starts_with(b"get ") || out.starts_with(&[0x80, 0]));
            }
            // Four standard deviations of a binomial share.
            let error = 4.0 * (share * (1.0 - share) / f64::from(n)).sqrt();
            let got = f64::from(gets) / f64::from(n);
            assert!((got - share).abs() < error, "{got} of {share}");
        }
    }
    for gets in [0.0, 1.0] {
        let mut asker = kv(Protocol::Ascii, Kv { gets, ..Kv::usr() });
        assert!((0..10_000).all(|_| asker.next().set == (gets == 0.0)));
    }
}

#[test]
fn records_are_chosen_as_described() {
    let count = |keys: &str| {
        let of = Kv { records: 1000, keys: keys.parse().unwrap(), ..Kv::usr() };
        let mut asker = kv(Protocol::Ascii, of);
        assert_eq!(asker.records(), 1000);
        let mut hits = vec![0u32; 1000];
        (0..100_000).for_each(|_| hits[asker.next().subject as usize] += 1);
        hits.sort_unstable();
        hits
    };
    let uniform = count("uniform");
    assert!(uniform[0] > 50 && uniform[999] < 150, "{} to {}", uniform[0], uniform[999]);
    // Of 1000 ranks by Zipf with exponent 1, the first has 1/7.485 of all.
    let zipf = count("zipf:1");
    assert!((zipf[999] as f64 / 1e5 - 0.1336).abs() < 0.005, "{}", zipf[999]);
}

#[test]
fn equal_seeds_ask_the_same() {
    let (mut a, mut b) = (kv(Protocol::Binary, Kv::etc()), kv(Protocol::Binary, Kv::etc()));
    for _ in 0..1000 {
        let (one, other) = (a.next(), b.next());
        assert_eq!(written(&a, one), written(&b, other));
    }
    let mut c = Asker::new(&Workload::Kv(Kv::etc()), stream(8, 0, Purpose::Requests));
    assert!((0..100).any(|_| a.next() != c.next()));
}

#[test]
fn a_text_request_is_what_a_person_would_type() {
    let asker = kv(Protocol::Ascii, Kv::usr());
    let get = written(&asker, Ask { set: false, ..asker.preload(7) });
    assert!(get.starts_with(b"get ") && get.ends_with(b"0000000007\r\n") && get.len() == 4 + 19 + 2);
    let set = written(&asker, asker.preload(7));
    assert_eq!(set[4..23], get[4..23]);
    assert!(set[23..].starts_with(b" 0 0 2\r\n") && set.len() == 23 + 8 + 2 + 2);
}

#[test]
fn a_right_reply_is_right_however_it_comes() {
    for protocol in [Protocol::Ascii, Protocol::Binary] {
        for of in [Kv::usr(), Kv::etc()] {
            let mut asker = kv(protocol, Kv { gets: 0.5, ..of });
            for _ in 0..100 {
                let ask = asker.next();
                let reply = right(&asker, ask);
                cuts(&asker, ask, &reply, Verdict::Right(reply.len()));
            }
        }
    }
    for size in ["64", "1", "7", "8", "9", "uniform:1-100", "9000"] {
        let mut asker = echo(size);
        for _ in 0..10 {
            let ask = asker.next();
            let reply = right(&asker, ask);
            cuts(&asker, ask, &reply, Verdict::Right(reply.len()));
        }
    }
    let mut asker = spin("exp:10us", 16);
    for more in 0..20 {
        let ask = asker.next();
        cuts(&asker, ask, &spent(ask, ask.subject + more), Verdict::Right(16));
    }
}

#[test]
fn a_wrong_reply_is_not_waited_for_beyond_its_end() {
    // Also those that begin as the right one does: a judge who waits for the right one's length would wait for ever.
    let asker = kv(Protocol::Ascii, Kv { value: Sizes::fixed(100), ..Kv::usr() });
    let get = Ask { set: false, ..asker.preload(7) };
    let value = right(&asker, get);
    let key = String::from_utf8(value[6..25].to_vec()).unwrap();
    for reply in [
        "END\r\n".to_string(),
        "ERROR\r\n".to_string(),
        "ERROR Too many open connections\r\n".to_string(),
        "STORED\r\n".to_string(),
        "SERVER_ERROR out of memory\r\n".to_string(),
        format!("VALUE {key} 0 0\r\n\r\nEND\r\n"),
        format!("VALUE {key} 0 1\r\nx\r\nEND\r\n"),
        format!("VALUE {key} 0 10\r\n0123456789\r\nEND\r\n"),
        format!("VALUE {key} 1 2\r\nxy\r\nEND\r\n"),
        format!("VALUE {} 0 2\r\nxy\r\nEND\r\n", &key[..3]),
        format!("VALUE {key}x 0 2\r\nxy\r\nEND\r\n"),
        "VALUE k 0 0\r\n\r\nEND\r\n".to_string(),
    ] {
        cuts(&asker, get, reply.as_bytes(), Verdict::Wrong(reply.len()));
    }
    let set = asker.preload(7);
    for reply in ["SERVER_ERROR object too large for cache\r\n", "NOT_STORED\r\n", "END\r\n", "ERROR\r\n"] {
        cuts(&asker, set, reply.as_bytes(), Verdict::Wrong(reply.len()));
    }

    let asker = kv(Protocol::Binary, Kv::usr());
    let get = Ask { set: false, ..asker.preload(7) };
    for reply in [
        packet(0, 0, 1, 7, b"Not found"),
        packet(0, 4, 0, 8, &right(&asker, get)[HEADER..]),
        packet(1, 4, 0, 7, &right(&asker, get)[HEADER..]),
        packet(0, 4, 0, 7, b"\0\0\0\0xx"),
        packet(0, 4, 0, 7, b"\0\0\0\x01xx"),
        packet(0, 4, 0, 7, b"\0\0\0\0"),
        packet(0, 0, 0, 7, b""),
        packet(0, 0, 0x82, 7, b"Out of memory"),
    ] {
        cuts(&asker, get, &reply, Verdict::Wrong(reply.len()));
    }
    for reply in [packet(1, 0, 3, 7, b"Too large."), packet(1, 0, 0, 6, b""), packet(0, 0, 0, 7, b"")] {
        cuts(&asker, asker.preload(7), &reply, Verdict::Wrong(reply.len()));
    }
}

#[test]
fn another_records_value_is_wrong() {
    for protocol in [Protocol::Ascii, Protocol::Binary] {
        let asker = kv(protocol, Kv { key: Sizes::fixed(30), value: Sizes::fixed(400), ..Kv::usr() });
        let ask = |index| Ask { set: false, id: 1, ..asker.preload(index) };
        for other in 1..200 {
            let reply = right(&asker, ask(other));
            assert_eq!(asker.judge(ask(0), &reply), Verdict::Wrong(reply.len()));
        }
        let mut reply = right(&asker, ask(0));
        let last = reply.len() - 8;
        reply[last] ^= 1;
        assert_eq!(asker.judge(ask(0), &reply), Verdict::Wrong(reply.len()), "a bit of the value");
    }
}

#[test]
fn what_no_server_says_is_garbage() {
    let asker = kv(Protocol::Ascii, Kv::usr());
    let get = Ask { set: false, ..asker.preload(7) };
    let long = [b"SERVER_ERROR ".as_slice(), &[b'x'; LINE_MAX]].concat();
    for bytes in [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        b"H",
        b"ENDS",
        b"STORED ",
        b"VALUE k 0 9999999999\r\n",
        b"VALUE k 0 1048577\r\n",
        b"VALUE k 0 1\r\nxy\r\nEND\r\n",
        b"VALUE k 0 -1\r\n",
        b"VALUE k x 1\r\n",
        b"VALUE k 0\r\n",
        b"VALUE k 0 1 2 3\r\n",
        b"VALUE  0 1\r\n",
        b"VALUE \xff 0 1\r\n",
        b"\x81\x00",
        &long,
    ] {
        assert_eq!(asker.judge(get, bytes), Verdict::Garbage, "{}", bytes.escape_ascii());
        assert_eq!(asker.judge(asker.preload(7), bytes), Verdict::Garbage, "{}", bytes.escape_ascii());
    }

    let asker = kv(Protocol::Binary, Kv::usr());
    let get = Ask { set: false, ..asker.preload(7) };
    let good = right(&asker, get);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    // The magic, the data type, a body of 16 MB, extras and a key that do not fit the body.
    for bytes in [b"END\r\n".to_vec(), with(0, 0x80), with(5, 1), with(8, 1), with(4, 7), with(3, 3)] {
        assert_eq!(asker.judge(get, &bytes), Verdict::Garbage, "{}", bytes.escape_ascii());
    }

    let mut asker = spin("det:1us", 16);
    let ask = asker.next();
    for bytes in [b"END\r\n".as_slice(), b"\x11", &[&[17, 0, 0, 0][..], &[0; 12]].concat()] {
        assert_eq!(asker.judge(ask, bytes), Verdict::Garbage);
    }
}

#[test]
fn a_long_reply_is_looked_at_a_few_times_only() {
    let value = Sizes::fixed(VALUE_MAX as u32);
    for protocol in [Protocol::Ascii, Protocol::Binary] {
        let asker = kv(protocol, Kv { value: value.clone(), ..Kv::usr() });
        let get = Ask { set: false, ..asker.preload(7) };
        let mut reply = right(&asker, get);
        let (verdict, asked) = patiently(&asker, get, &reply);
        assert_eq!(verdict, Verdict::Right(reply.len()));
        assert!(asked < 40, "asked {asked} times");
        let middle = reply.len() / 2;
        reply[middle] ^= 1;
        let (verdict, asked) = patiently(&asker, get, &reply);
        assert_eq!(verdict, Verdict::Wrong(reply.len()));
        assert!(asked < 40, "asked {asked} times");
    }
    let mut asker = echo("1000000");
    let ask = asker.next();
    assert!(patiently(&asker, ask, &right(&asker, ask)).1 < 40);
}

#[test]
fn a_message_in_anothers_place_is_wrong_and_foreign_bytes_are_garbage() {
    let mut asker = echo("uniform:8-100");
    let (first, second) = (asker.next(), asker.next());
    let reply = right(&asker, second);
    for (due, other) in [(first, second), (second, first)] {
        let reply = right(&asker, other);
        assert_eq!(patiently(&asker, due, &reply).0, Verdict::Wrong(reply.len()));
        for cut in 0..reply.len() {
            assert!(matches!(asker.judge(due, &reply[..cut]), Verdict::Incomplete(want) if want <= reply.len()));
        }
    }
    let mut damaged = right(&asker, first);
    *damaged.last_mut().unwrap() ^= 1;
    let verdict = asker.judge(first, &damaged);
    assert!(matches!(verdict, Verdict::Wrong(n) if n == damaged.len()), "{verdict:?}");
    assert_eq!(asker.judge(first, b"HTTP/1.1 400 Bad Request\r\n"), Verdict::Garbage);
    let mut forged = reply.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(asker.judge(first, &forged), Verdict::Garbage, "neither this message nor another");
    let mut small = echo("4");
    let ask = small.next();
    assert_eq!(small.judge(ask, b"nope"), Verdict::Garbage);
}

#[test]
fn messages_of_a_sweep_have_the_size_asked_for() {
    let asker = echo("64");
    for size in [1, 7, 8, 64, 100_000] {
        let ask = asker.ask_of_size(size);
        let bytes = written(&asker, ask);
        assert_eq!(bytes.len(), size as usize);
        cuts(&asker, ask, &bytes[..], Verdict::Right(bytes.len()));
    }
    assert_eq!(written(&asker, asker.ask_of_size(0)).len(), 1);
}

#[test]
fn a_spin_request_carries_its_time() {
    let mut asker = spin("det:25us", 300);
    assert_eq!(asker.records(), 0);
    let ask = asker.next();
    let bytes = written(&asker, ask);
    assert_eq!(bytes.len(), 300);
    let header = ::spin::wire::Request::decode(bytes.first_chunk().unwrap()).unwrap();
    assert_eq!((header.length, header.time.0), (300, 25_000));
    assert_eq!(asker.judge(ask, &spin_reply(header.id, 25_000)), Verdict::Right(16));
    assert_eq!(asker.judge(ask, &spin_reply(header.id, 24_999)), Verdict::Wrong(16), "served too fast");
    assert_eq!(asker.judge(ask, &spin_reply(header.id + 1, 25_000)), Verdict::Wrong(16), "another's reply");
}

#[test]
fn service_times_are_those_of_the_distribution_and_cut_at_a_second() {
    for time in ["det:10us", "exp:10us", "bimodal1:10us", "bimodal2:10us"] {
        let mut asker = spin(time, 16);
        let n = 400_000;
        let mean = (0..n).map(|_| f64::from(asker.next().subject)).sum::<f64>() / f64::from(n);
        // The widest of them has a standard deviation of 16 means.
        assert!((mean / 10_000.0 - 1.0).abs() < 0.1, "{time}: {mean}");
    }
    let mut asker = spin("bimodal2:10ms", 16);
    let longest = (0..100_000).map(|_| asker.next().subject).max();
    assert_eq!(longest, Some(1_000_000_000), "500.5 times 10 ms is more than the server takes");
}

#[test]
fn what_cannot_be_asked_is_refused_in_a_sentence() {
    let of = |change: &dyn Fn(&mut Kv)| {
        let mut kv = Kv::usr();
        change(&mut kv);
        Workload::Kv(kv)
    };
    let spin = |time: &str, size| Workload::Spin(Spin { time: time.parse().unwrap(), size });
    for (workload, word) in [
        (of(&|kv| kv.records = 0), "record"),
        (of(&|kv| kv.gets = 1.5), "1.5"),
        (of(&|kv| kv.gets = f64::NAN), "NaN"),
        (of(&|kv| kv.key = Sizes::fixed(251)), "251"),
        (of(&|kv| kv.key = Sizes::fixed(0)), "0 to 0"),
        (of(&|kv| kv.value = Sizes::fixed(VALUE_MAX as u32 + 1)), "1048577"),
        (Workload::Echo(Echo { size: Sizes::fixed(0) }), "0 to 0"),
        (Workload::Echo(Echo { size: Sizes::fixed(1 << 25) }), "33554432"),
        (spin("det:1us", 15), "15"),
        (spin("det:1us", 65_537), "65537"),
        (spin("det:2s", 16), "second"),
    ] {
        let said = workload.check().unwrap_err();
        assert!(said.contains(word) && !said.contains('\n'), "{said}");
        // Whoever asks nevertheless gets something that can be asked.
        let mut asker = Asker::new(&workload, stream(1, 0, Purpose::Requests));
        let ask = asker.next();
        assert!(!written(&asker, ask).is_empty());
    }
    for kv in [Kv::usr(), Kv::etc(), Kv::etc_scripts()] {
        assert_eq!(Workload::Kv(kv).check(), Ok(()));
    }
    assert_eq!(Workload::Echo(Echo::default()).check(), Ok(()));
}

#[test]
fn descriptions_travel_as_json() {
    for workload in [
        Workload::Kv(Kv { protocol: Protocol::Binary, keys: "zipf:0.99".parse().unwrap(), ..Kv::etc() }),
        Workload::Echo(Echo::default()),
        Workload::Spin(Spin::new("bimodal1:10us".parse().unwrap())),
    ] {
        let text = serde_json::to_string(&workload).unwrap();
        assert!(text.starts_with(&format!("{{\"{}\":", workload.name())), "{text}");
        assert_eq!(serde_json::from_str::<Workload>(&text).unwrap(), workload);
    }
    for protocol in [Protocol::Ascii, Protocol::Binary] {
        assert_eq!(protocol.to_string().parse(), Ok(protocol));
    }
    assert!("udp".parse::<Protocol>().unwrap_err().contains("ascii or binary"));
}

/// One asker of each kind, and a thing to ask of it.
fn all() -> Vec<(Asker, Ask)> {
    let mut askers = vec![echo("64"), echo("uniform:1-100"), echo("3"), spin("exp:1ms", 16)];
    askers.extend([Protocol::Ascii, Protocol::Binary].map(|protocol| kv(protocol, Kv { gets: 1.0, ..Kv::etc() })));
    askers.extend([Protocol::Ascii, Protocol::Binary].map(|protocol| kv(protocol, Kv { gets: 0.0, ..Kv::usr() })));
    let one = |mut asker: Asker| {
        let ask = asker.next();
        (asker, ask)
    };
    askers.into_iter().map(one).collect()
}

/// The verdict claims no bytes that are not there, and asks for some that are not.
fn sane(asker: &Asker, ask: Ask, bytes: &[u8]) -> Result<(), TestCaseError> {
    match asker.judge(ask, bytes) {
        Verdict::Right(n) | Verdict::Wrong(n) => prop_assert!(n > 0 && n <= bytes.len()),
        Verdict::Incomplete(n) => prop_assert!(n > bytes.len()),
        Verdict::Garbage => {}
    }
    Ok(())
}

thread_local! {
    /// Made once: the tables take longer than the judging.
    static ALL: Vec<(Asker, Ask)> = all();
}

proptest! {
    #[test]
    fn no_bytes_confuse_a_judge(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        ALL.with(|all| all.iter().try_for_each(|(asker, ask)| sane(asker, *ask, &bytes)))?;
    }

    #[test]
    fn no_line_confuses_a_judge(
        line in "(VALUE|END|STORED|ERROR|SERVER_ERROR)( [a-z]{0,3}){0,2}( [0-9]{0,12}){0,3}(\r\n|\r|\n)[a-z]{0,4}(\r\n|)(END|)(\r\n|)"
    ) {
        ALL.with(|all| all.iter().try_for_each(|(asker, ask)| sane(asker, *ask, line.as_bytes())))?;
    }

    #[test]
    fn no_damage_confuses_a_judge(at in 0.0..1.0f64, byte: u8, cut in 0.0..1.2f64) {
        ALL.with(|all| all.iter().try_for_each(|(asker, ask)| {
            let mut bytes = right(asker, *ask);
            let n = bytes.len();
            bytes[(at * n as f64) as usize] = byte;
            bytes.truncate((cut * n as f64) as usize);
            sane(asker, *ask, &bytes)
        }))?;
    }

    #[test]
    fn no_header_confuses_a_judge(key: u16, extras: u8, status: u16, body: u32, opaque in 0..3u32, rest in 0..400usize) {
        let mut bytes = vec![0x81, 0];
        bytes.extend(key.to_be_bytes());
        bytes.extend([extras, 0]);
        bytes.extend(status.to_be_bytes());
        bytes.extend((body % 600).to_be_bytes());
        bytes.extend(opaque.to_be_bytes());
        bytes.resize(HEADER + rest, 0);
        ALL.with(|all| all.iter().try_for_each(|(asker, ask)| sane(asker, *ask, &bytes)))?;
    }

    #[test]
    fn every_record_of_any_sizes_can_be_stored_and_got(key in 1..=KEY_MAX as u32, value in 0..5000u32, index: u32, id: u32) {
        for protocol in [Protocol::Ascii, Protocol::Binary] {
            let asker = kv(protocol, Kv { key: Sizes::fixed(key), value: Sizes::fixed(value), ..Kv::usr() });
            let get = Ask { subject: index, id, set: false };
            let mut store = Store::default();
            let reply = store.answer(&written(&asker, asker.preload(index)));
            prop_assert_eq!(asker.judge(asker.preload(index), &reply), Verdict::Right(reply.len()));
            let reply = store.answer(&written(&asker, get));
            prop_assert_eq!(asker.judge(get, &reply), Verdict::Right(reply.len()));
        }
    }
}
