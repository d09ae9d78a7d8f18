use super::binary::{extras, request};
use super::harness::{Bench, config, crlf, number_after};
use crate::Config;

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + i / 251 + salt) % 256) as u8).collect()
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn value_answer(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), value, b"\r\nEND\r\n"].concat()
}

#[test]
fn values_of_every_size_come_back() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    for len in [
        0, 1, 1400, 1471, 1472, 1473, 2047, 2048, 2049, 4092, 4093, 4094, 16_000, 16_383, 16_384, 16_385, 65_535,
        65_536, 70_000, 1_000_000, 1_048_000,
    ] {
        let value = pattern(len, len);
        assert_eq!(bench.send(&mut client, &set("key", &value)), b"STORED\r\n", "{len}");
        let answer = bench.send(&mut client, b"get key\r\n");
        assert!(answer == value_answer("key", &value), "{len}");
        let answer = bench.send(&mut client, b"mg key v k\r\nmn\r\n");
        assert!(answer == [format!("VA {len} kkey\r\n").as_bytes(), &value, b"\r\nMN\r\n"].concat(), "{len}");
        let mut binary = bench.open();
        let answer =
            bench.send(&mut binary, &[request(0x0c, 0, &[], b"key", b""), request(0x0a, 0, &[], b"", b"")].concat());
        assert_eq!(answer.len(), 24 + 4 + 3 + len + 24);
        assert!(answer[31..31 + len] == value, "{len}");
        bench.close(binary);
    }
}

#[test]
fn large_values_among_many_keys() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let mut wanted = Vec::new();
    for round in 0..3 {
        let value = pattern(200_000, round);
        let key = format!("k{round}");
        bench.send(&mut client, &set(&key, &value));
        wanted.extend([format!("VALUE {key} 0 200000\r\n").as_bytes(), &value, b"\r\n"].concat());
    }
    wanted.extend(b"END\r\n");
    assert!(bench.send(&mut client, b"get k0 none k1 k2\r\n") == wanted);
}

#[test]
fn a_value_that_is_being_sent_survives_its_item() {
    let mut bench = Bench::new();
    let (mut reader, mut writer) = (bench.open(), bench.open());
    let value = pattern(500_000, 3);
    bench.send(&mut writer, &set("k", &value));
    let before = bench.kv.store().claimed();
    // The whole request is answered in this call, but the second value is begun after the first is sent.
    let answer = bench.send(&mut reader, b"get k\r\nappend k 0 0 1\r\n!\r\nget k\r\n");
    let longer = [&value[..], b"!"].concat();
    assert!(answer == [value_answer("k", &value), b"STORED\r\n".to_vec(), value_answer("k", &longer)].concat());
    bench.send(&mut writer, b"prepend k 0 0 1\r\n?\r\n");
    assert!(bench.send(&mut reader, b"get k\r\n") == value_answer("k", &[b"?", &longer[..]].concat()));
    bench.send(&mut writer, b"delete k\r\n");
    assert!(bench.kv.store().claimed() + 500_000 <= before);
}

#[test]
fn small_values_grow_large_by_joining() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let piece = pattern(6000, 1);
    bench.send(&mut client, &set("k", &piece));
    let mut all = piece.clone();
    for mode in ["append", "prepend", "append", "prepend", "append"] {
        let request = [format!("{mode} k 0 0 6000\r\n").as_bytes(), &piece, b"\r\n"].concat();
        assert_eq!(bench.send(&mut client, &request), b"STORED\r\n");
        all = if mode == "append" { [&all[..], &piece].concat() } else { [&piece[..], &all].concat() };
        assert!(bench.send(&mut client, b"get k\r\n") == value_answer("k", &all));
    }
    let most = pattern(1_030_000, 5);
    let request = [b"append k 0 0 1030000\r\n", &most[..], b"\r\n"].concat();
    assert_eq!(bench.send(&mut client, &request), b"SERVER_ERROR object too large for cache\r\n");
    assert_eq!(bench.say(&mut client, &crlf("md k x\nmg k v\n")), crlf("HD\nVA 0\n\n"));
}

#[test]
fn too_large_values_are_swallowed() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    bench.say(&mut client, &crlf("set k 0 0 3\nold\n"));
    let mut bytes = set("k", &pattern(1 << 20, 0));
    bytes.extend(b"get k\r\nversion\r\n");
    assert_eq!(
        String::from_utf8_lossy(&bench.send(&mut client, &bytes)),
        crlf("SERVER_ERROR object too large for cache\nEND\nVERSION 1.6.21-zygix\n")
    );
    bench.say(&mut client, &crlf("set k 0 0 3\nold\n"));
    // Without a reply there is none, and other modes leave the item alone.
    let bytes = [b"add k 0 0 2000000 noreply\r\n", &pattern(2_000_000, 0)[..], b"\r\nget k\r\n"].concat();
    assert_eq!(bench.send(&mut client, &bytes), value_answer("k", b"old"));
    let stats = bench.say(&mut client, "stats\r\n");
    assert_eq!(number_after(&stats, "STAT store_too_large "), 2);
    // The largest announcement possible: nothing is allocated for it.
    assert_eq!(bench.say(&mut client, "set k 0 0 2147483645\r\nxxx"), "SERVER_ERROR object too large for cache\r\n");
}

#[test]
fn long_lines() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    bench.say(&mut client, &crlf("set a 1 0 1\nA\n"));
    // Any number of keys.
    let keys = "a b ".repeat(5000);
    let wanted = format!("{}END\r\n", "VALUE a 1 1\r\nA\r\n".repeat(5000));
    assert!(bench.say(&mut client, &format!("get {keys}\r\n")) == wanted);
    assert!(bench.say(&mut client, &format!("gat 100 {keys}\r\n")) == wanted);
    // One of them is too long: what came before it is answered already.
    let bad = format!("get a {} a {}\r\nversion\r\n", "x".repeat(251), "b ".repeat(1000));
    assert_eq!(
        bench.say(&mut client, &bad),
        crlf("VALUE a 1 1\nA\nCLIENT_ERROR bad command line format\nVERSION 1.6.21-zygix\n")
    );
    let bad = format!("gat soon {keys}\r\nversion\r\n");
    assert_eq!(bench.say(&mut client, &bad), crlf("CLIENT_ERROR invalid exptime argument\nVERSION 1.6.21-zygix\n"));
    for endless in [
        "x".repeat(2048),
        format!("set {}", "y".repeat(3000)),
        format!("{}get a", " ".repeat(2048)),
        format!("get{}", "z".repeat(3000)),
    ] {
        let mut client = bench.open();
        assert_eq!(bench.say(&mut client, &endless), "CLIENT_ERROR line too long\r\n");
        assert!(client.closed);
        bench.close(client);
    }
    let mut client = bench.open();
    assert_eq!(bench.say(&mut client, &"x".repeat(2047)), "");
    assert_eq!(bench.say(&mut client, "\n"), "ERROR\r\n");
}

#[test]
fn eviction_keeps_within_the_limit() {
    let limit = 4 << 20;
    let mut bench = Bench::with(Config { memory_limit: limit, shards: 16, ..config() });
    let mut client = bench.open();
    for i in 0..6000usize {
        let value = pattern(i * 7 % 3000, i);
        assert_eq!(bench.send(&mut client, &set(&format!("key{i}"), &value)), b"STORED\r\n");
        assert!(bench.kv.store().claimed() <= limit);
        // One item that is read again and again stays.
        if i == 0 {
            bench.send(&mut client, &set("hot", b"loved"));
        }
        assert_eq!(bench.send(&mut client, b"get hot\r\n"), value_answer("hot", b"loved"), "{i}");
    }
    let mut held = 0;
    bench.kv.store().each_shard(|shard| {
        held += shard.iter().map(|entry| entry.data.footprint()).sum::<usize>();
    });
    assert!(held <= limit && held > limit * 3 / 4, "{held}");
    let stats = bench.say(&mut client, "stats\r\n");
    assert!(number_after(&stats, "STAT evictions ") > 3000);
    // The newest is there, the oldest is not.
    assert_eq!(bench.say(&mut client, "get key0\r\n"), "END\r\n");
    assert!(bench.say(&mut client, "get key5999\r\n").starts_with("VALUE"));
}

#[test]
fn large_items_take_their_memory_from_all_shards() {
    let limit = 8 << 20;
    let mut bench = Bench::with(Config { memory_limit: limit, ..config() });
    let mut client = bench.open();
    for i in 0..20_000 {
        bench.send(&mut client, &set(&format!("small{i}"), &[b'x'; 400]));
    }
    for i in 0..30 {
        let value = pattern(1_000_000, i);
        assert_eq!(bench.send(&mut client, &set(&format!("large{i}"), &value)), b"STORED\r\n");
        assert!(bench.kv.store().claimed() <= limit);
        assert!(
            bench.send(&mut client, format!("get large{i}\r\n").as_bytes())
                == value_answer(&format!("large{i}"), &value)
        );
    }
}

#[test]
fn without_eviction_memory_runs_out() {
    let limit = 2 << 20;
    let mut bench = Bench::with(Config { memory_limit: limit, evict: false, shards: 4, ..config() });
    let mut client = bench.open();
    let mut stored = 0;
    while bench.send(&mut client, &set(&format!("key{stored}"), &[b'x'; 1000])) == b"STORED\r\n" {
        stored += 1;
    }
    assert!(stored * 1100 > limit * 9 / 10 && stored * 1000 < limit, "{stored}");
    assert_eq!(
        bench.send(&mut client, &set("more", &pattern(100_000, 0))),
        b"SERVER_ERROR out of memory storing object\r\n"
    );
    assert!(bench.say(&mut client, "get key0\r\n").starts_with("VALUE"));
    let mut binary = bench.open();
    let refused = bench.send(&mut binary, &request_set("bin", &[b'x'; 1000]));
    assert_eq!(refused[6..8], [0, 0x82]);
    // Overwriting in place still works, and so does storing after a deletion.
    let mut client = bench.open();
    assert_eq!(bench.send(&mut client, &set("key1", &[b'y'; 1000])), b"STORED\r\n");
    assert_eq!(bench.say(&mut client, &crlf("delete key2\nset again 0 0 3\nabc\n")), crlf("DELETED\nSTORED\n"));
    let stats = bench.say(&mut client, "stats\r\n");
    assert_eq!(number_after(&stats, "STAT evictions "), 0);
    assert!(number_after(&stats, "STAT store_no_memory ") >= 2);
}

fn request_set(key: &str, value: &[u8]) -> Vec<u8> {
    request(0x01, 0, &extras(0, 0), key.as_bytes(), value)
}

#[test]
fn expired_items_make_room_even_without_eviction() {
    let mut bench = Bench::with(Config { memory_limit: 1 << 20, evict: false, shards: 2, ..config() });
    let mut client = bench.open();
    for i in 0..3000 {
        bench.say(&mut client, &format!("set k{i} 0 10 400\r\n{}\r\n", "x".repeat(400)));
    }
    assert_eq!(
        bench.say(&mut client, &format!("set n 0 0 400\r\n{}\r\n", "x".repeat(400))),
        "SERVER_ERROR out of memory storing object\r\n"
    );
    bench.sleep(10);
    for i in 0..1000 {
        assert_eq!(
            bench.say(&mut client, &format!("set n{i} 0 0 400\r\n{}\r\n", "x".repeat(400))),
            "STORED\r\n",
            "{i}"
        );
    }
}

#[test]
fn values_half_received_count_and_are_given_back() {
    let mut bench = Bench::with(Config { memory_limit: 8 << 20, evict: false, ..config() });
    let half = [b"set k 0 0 1000000\r\n", &pattern(500_000, 0)[..]].concat();
    let mut clients = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut client = bench.open();
        refused += usize::from(!bench.send(&mut client, &half).is_empty());
        assert!(bench.kv.store().claimed() <= 8 << 20);
        clients.push(client);
    }
    assert!(refused >= 4, "{refused}");
    assert!(bench.kv.store().claimed() > 6 << 20);
    clients.into_iter().for_each(|client| bench.close(client));
    assert_eq!(bench.kv.store().claimed(), 0);
    // An announcement alone costs little.
    let mut clients: Vec<_> = (0..50).map(|_| bench.open()).collect();
    for client in &mut clients {
        bench.send(client, b"set k 0 0 1000000\r\n");
    }
    assert!(bench.kv.store().claimed() <= 50 * (64 * 1024 + 96));
    clients.into_iter().for_each(|client| bench.close(client));
}

#[test]
fn memory_comes_back_when_everything_is_deleted() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    for i in 0..500usize {
        bench.send(&mut client, &set(&format!("k{i}"), &pattern(i * 97, i)));
    }
    for i in 0..500 {
        assert_eq!(bench.say(&mut client, &format!("delete k{i}\r\n")), "DELETED\r\n");
    }
    let (mut used, mut reserve) = (0, 0);
    bench.kv.store().each_shard(|shard| {
        used += shard.used() + shard.items() as usize;
        reserve += shard.reserve();
    });
    assert_eq!(used, 0);
    assert_eq!(bench.kv.store().claimed(), reserve);
    assert!(reserve <= (64 << 20) / 8, "{reserve}");
    assert_eq!(number_after(&bench.say(&mut client, "stats\r\n"), "STAT bytes "), 0);
}
