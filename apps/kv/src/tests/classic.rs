use super::harness::{Bench, config, converse, crlf, number_after};
use crate::Config;

#[test]
fn storing_and_fetching() {
    converse(&[
        ("get a\n", "END\n"),
        ("set a 5 0 3\nabc\n", "STORED\n"),
        ("get a\n", "VALUE a 5 3\nabc\nEND\n"),
        ("get  a   b a \n", "VALUE a 5 3\nabc\nVALUE a 5 3\nabc\nEND\n"),
        ("add a 0 0 1\nx\n", "NOT_STORED\n"),
        ("add b 4294967295 0 0\n\n", "STORED\n"),
        ("get b\n", "VALUE b 4294967295 0\n\nEND\n"),
        ("replace a 1 0 2\nzz\n", "STORED\n"),
        ("replace c 1 0 2\nzz\n", "NOT_STORED\n"),
        ("append a 9 9 1\n!\n", "STORED\n"),
        ("prepend a 9 9 1\n?\n", "STORED\n"),
        ("append c 0 0 1\n!\n", "NOT_STORED\n"),
        ("prepend c 0 0 1\n!\n", "NOT_STORED\n"),
        ("get a b c\n", "VALUE a 1 4\n?zz!\nVALUE b 4294967295 0\n\nEND\n"),
        ("delete a\n", "DELETED\n"),
        ("delete a\n", "NOT_FOUND\n"),
        ("delete b 0\n", "DELETED\n"),
        ("get a b\n", "END\n"),
        ("  set a 0 0 1\n1\n", "STORED\n"),
        ("set a 0 0 3 noreply\none\nget a\n", "VALUE a 0 3\none\nEND\n"),
    ]);
}

#[test]
fn a_newline_alone_ends_a_line_too() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    assert_eq!(bench.say(&mut client, "set a 0 0 1\nx\r\nget a\n"), crlf("STORED\nVALUE a 0 1\nx\nEND\n"));
    assert_eq!(bench.say(&mut client, "\n \r\n"), crlf("ERROR\nERROR\n"));
}

#[test]
fn values_may_contain_anything() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let value: Vec<u8> = (0..=255).chain(*b"\r\nEND\r\n\0").collect();
    let mut request = format!("set k 0 0 {}\r\n", value.len()).into_bytes();
    request.extend_from_slice(&value);
    request.extend_from_slice(b"\r\nget k\r\n");
    let answer = bench.send(&mut client, &request);
    let mut wanted = format!("STORED\r\nVALUE k 0 {}\r\n", value.len()).into_bytes();
    wanted.extend_from_slice(&value);
    wanted.extend_from_slice(b"\r\nEND\r\n");
    assert_eq!(answer, wanted);
}

#[test]
fn compare_and_set() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let mut say = |text: &str| bench.say(&mut client, &crlf(text));
    assert_eq!(say("cas a 0 0 1 1\nx\n"), "NOT_FOUND\r\n");
    assert_eq!(say("set a 0 0 1\nx\n"), "STORED\r\n");
    let first = number_after(&say("gets a\n"), "VALUE a 0 1 ");
    assert_eq!(say(&format!("cas a 0 0 1 {}\ny\n", first + 1)), "EXISTS\r\n");
    assert_eq!(say(&format!("cas a 7 0 2 {first}\nyy\n")), "STORED\r\n");
    let second = number_after(&say("gets a\n"), "VALUE a 7 2 ");
    assert_ne!(first, second);
    assert_eq!(say(&format!("cas a 0 0 1 {first} noreply\nz\nget a\n")), crlf("VALUE a 7 2\nyy\nEND\n"));
    say("append a 0 0 1\n!\n");
    assert_eq!(say(&format!("cas a 0 0 1 {second}\nz\n")), "EXISTS\r\n");
    let stats = say("stats\n");
    assert_eq!(number_after(&stats, "STAT cas_hits "), 1);
    assert_eq!(number_after(&stats, "STAT cas_misses "), 1);
    assert_eq!(number_after(&stats, "STAT cas_badval "), 3);
}

#[test]
fn counting() {
    converse(&[
        ("incr n 1\n", "NOT_FOUND\n"),
        ("set n 3 0 2\n99\n", "STORED\n"),
        ("incr n 1\n", "100\n"),
        ("get n\n", "VALUE n 3 3\n100\nEND\n"),
        ("decr n 1\n", "99\n"),
        // Shorter numbers are padded, and still numbers.
        ("get n\n", "VALUE n 3 3\n99 \nEND\n"),
        ("decr n 100\n", "0\n"),
        ("incr n 18446744073709551615\n", "18446744073709551615\n"),
        ("incr n 2\n", "1\n"),
        ("incr n 5 noreply\nincr n 0\n", "6\n"),
        ("incr n x\n", "CLIENT_ERROR invalid numeric delta argument\n"),
        ("incr n -1\n", "CLIENT_ERROR invalid numeric delta argument\n"),
        ("incr n\n", "ERROR\n"),
        ("set s 0 0 2\nab\n", "STORED\n"),
        ("decr s 1\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
        ("set s 0 0 21\n111111111111111111111\n", "STORED\n"),
        ("incr s 1\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
        ("set s 0 0 0\n\n", "STORED\n"),
        ("incr s 1\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
    ]);
}

#[test]
fn time_passes() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let mut t = |bench: &mut Bench, text: &str, wanted: &str| {
        assert_eq!(bench.say(&mut client, &crlf(text)), crlf(wanted), "after {text:?}");
    };
    t(
        &mut bench,
        "set a 0 10 1\na\nset b 0 -1 1\nb\nset c 0 0 1\nc\nset d 0 1700000020 1\nd\nset e 0 1000000000 1\ne\n",
        &"STORED\n".repeat(5),
    );
    t(&mut bench, "get a b c d e\n", "VALUE a 0 1\na\nVALUE c 0 1\nc\nVALUE d 0 1\nd\nEND\n");
    bench.sleep(9);
    t(&mut bench, "get a\n", "VALUE a 0 1\na\nEND\n");
    bench.sleep(1);
    t(&mut bench, "get a\nget c d\n", "END\nVALUE c 0 1\nc\nVALUE d 0 1\nd\nEND\n");
    t(
        &mut bench,
        "touch c 20\ntouch a 20\ntouch c x\ntouch c\n",
        "TOUCHED\nNOT_FOUND\nCLIENT_ERROR invalid exptime argument\nERROR\n",
    );
    t(
        &mut bench,
        "gat 15 d\ngats 0\ngat x d\ngat\n",
        "VALUE d 0 1\nd\nEND\nERROR\nCLIENT_ERROR invalid exptime argument\nERROR\n",
    );
    bench.sleep(14);
    t(&mut bench, "get c d\n", "VALUE c 0 1\nc\nVALUE d 0 1\nd\nEND\n");
    bench.sleep(1);
    t(&mut bench, "get c d\n", "VALUE c 0 1\nc\nEND\n");
    bench.sleep(5);
    t(&mut bench, "get c d\nadd c 0 0 1\nC\n", "END\nSTORED\n");
    // Appending and counting keep the expiration.
    t(&mut bench, "set n 0 5 1\n1\nappend n 0 0 1\n0\nincr n 1\n", "STORED\nSTORED\n11\n");
    bench.sleep(5);
    t(&mut bench, "get n\n", "END\n");
}

#[test]
fn flushing() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let mut t = |bench: &mut Bench, text: &str, wanted: &str| {
        assert_eq!(bench.say(&mut client, &crlf(text)), crlf(wanted), "after {text:?}");
    };
    t(&mut bench, "set a 0 0 1\na\nflush_all\nget a\nadd a 0 0 1\nb\n", "STORED\nOK\nEND\nSTORED\n");
    t(
        &mut bench,
        "flush_all noreply\nget a\nflush_all x\nflush_all 0 noreply\n",
        "END\nCLIENT_ERROR bad command line format\n",
    );
    t(&mut bench, "set a 0 0 1\na\nflush_all 5\nget a\n", "STORED\nOK\nVALUE a 0 1\na\nEND\n");
    bench.sleep(4);
    t(&mut bench, "set b 0 0 1\nb\nget a b\n", "STORED\nVALUE a 0 1\na\nVALUE b 0 1\nb\nEND\n");
    bench.sleep(1);
    t(&mut bench, "set c 0 0 1\nc\nget a b c\n", "STORED\nVALUE c 0 1\nc\nEND\n");
    bench.sleep(10);
    t(&mut bench, "get c\n", "VALUE c 0 1\nc\nEND\n");
}

#[test]
fn malformed_commands() {
    let long = "k".repeat(251);
    let fits = "k".repeat(250);
    converse(&[
        ("nonsense\n", "ERROR\n"),
        ("GET a\n", "ERROR\n"),
        ("get\n", "ERROR\n"),
        ("get \n", "ERROR\n"),
        ("shutdown\n", "ERROR\n"),
        ("set a\n", "ERROR\n"),
        ("set a 0 0\n", "ERROR\n"),
        ("set a 0 0 x\n", "CLIENT_ERROR bad command line format\n"),
        ("set a 0 0 -1\n", "CLIENT_ERROR bad command line format\n"),
        ("set a 0 0 4294967295\n", "CLIENT_ERROR bad command line format\n"),
        ("set a 0 0 99999999999999999999999\n", "CLIENT_ERROR bad command line format\n"),
        ("set a x 0 1\n", "CLIENT_ERROR bad command line format\n"),
        ("set a -1 0 1\n", "CLIENT_ERROR bad command line format\n"),
        ("set a 4294967296 0 1\n", "CLIENT_ERROR bad command line format\n"),
        ("set a 0 x 1\n", "CLIENT_ERROR bad command line format\n"),
        ("cas a 0 0 1\n", "ERROR\n"),
        ("cas a 0 0 1 x\n", "CLIENT_ERROR bad command line format\n"),
        ("delete\n", "ERROR\n"),
        ("delete a 5\n", "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\n"),
        (&format!("set {long} 0 0 1\n"), "CLIENT_ERROR bad command line format\n"),
        (&format!("get {long}\n"), "CLIENT_ERROR bad command line format\n"),
        (&format!("get a {long} b\n"), "CLIENT_ERROR bad command line format\n"),
        (&format!("delete {long}\n"), "CLIENT_ERROR bad command line format\n"),
        (&format!("set {fits} 0 0 1\nx\n"), "STORED\n"),
        (&format!("get {fits}\n"), &format!("VALUE {fits} 0 1\nx\nEND\n")),
        (&format!("gets {fits}\n").replace("gets", "get"), &format!("VALUE {fits} 0 1\nx\nEND\n")),
        // What follows too short a value is a line of its own.
        ("set a 0 0 3\nabcde\n", "CLIENT_ERROR bad data chunk\nERROR\n"),
        ("set a 0 0 3 noreply\nabcdef\n\n", "ERROR\nERROR\n"),
        ("get a\0b\n", "END\n"),
    ]);
}

#[test]
fn housekeeping() {
    converse(&[
        ("version\n", "VERSION 1.6.21-zygix\n"),
        ("verbosity 2\n", "OK\n"),
        ("verbosity\n", "ERROR\n"),
        ("verbosity x\n", "CLIENT_ERROR bad command line format\n"),
        ("verbosity 1 noreply\nmn\n", "MN\n"),
        ("stats nonsense\n", "ERROR\n"),
        ("stats reset\n", "RESET\n"),
        ("stats sizes\n", "STAT sizes_status disabled\nEND\n"),
        ("stats items\n", "END\n"),
    ]);
    let mut bench = Bench::new();
    let mut client = bench.open();
    assert_eq!(bench.say(&mut client, "version\r\nquit\r\nversion\r\n"), "VERSION 1.6.21-zygix\r\n");
    assert!(client.closed);
}

#[test]
fn statistics_count() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let text = crlf(
        "set a 0 0 1\n1\nget a b\nincr a 1\ndecr b 1\ntouch a 0\ndelete b\nset x 0 -1 1\n1\nget x\nflush_all\nget a\n",
    );
    bench.say(&mut client, &text);
    bench.sleep(3);
    let stats = bench.say(&mut client, "stats\r\n");
    for (name, value) in [
        ("uptime", 3),
        ("time", 1_700_000_003),
        ("curr_connections", 1),
        ("total_connections", 1),
        ("cmd_get", 4),
        ("get_hits", 1),
        ("get_misses", 3),
        ("get_expired", 1),
        ("get_flushed", 1),
        ("cmd_set", 2),
        ("incr_hits", 1),
        ("decr_misses", 1),
        ("touch_hits", 1),
        ("delete_misses", 1),
        ("cmd_flush", 1),
        ("total_items", 2),
        ("curr_items", 0),
        ("threads", 1),
        ("limit_maxbytes", 64 << 20),
        ("bytes_read", text.len() as u64),
    ] {
        assert_eq!(number_after(&stats, &format!("STAT {name} ")), value, "{name}");
    }
    assert!(stats.ends_with("END\r\n"));
    bench.say(&mut client, "stats reset\r\n");
    assert_eq!(number_after(&bench.say(&mut client, "stats\r\n"), "STAT cmd_get "), 0);
    bench.say(&mut client, "set a 0 0 1\r\n1\r\n");
    assert_eq!(number_after(&bench.say(&mut client, "stats items\r\n"), "STAT items:1:number "), 1);
    assert_eq!(number_after(&bench.say(&mut client, "stats slabs\r\n"), "STAT 1:used_chunks "), 1);
    assert_eq!(number_after(&bench.say(&mut client, "stats settings\r\n"), "STAT maxconns "), 1024);
    assert_eq!(number_after(&bench.say(&mut client, "stats conns\r\n"), "STAT conns:open "), 1);
}

#[test]
fn the_counters_of_a_thread_that_ended_go_on() {
    use units::CoreId;
    use zygix::Service;
    let bench = Bench::new();
    drop(bench.kv.core(CoreId(1)));
    let again = bench.kv.core(CoreId(1));
    assert_eq!(bench.kv.counters().len(), 2);
    drop(again);
}

#[test]
fn too_many_connections_are_told_so() {
    let mut bench = Bench::with(Config { max_conns: 2, ..config() });
    let (a, mut b) = (bench.open(), bench.open());
    let mut c = bench.open();
    assert_eq!(bench.say(&mut c, "get a\r\n"), "ERROR Too many open connections\r\n");
    assert!(c.closed);
    assert_eq!(bench.say(&mut b, "get a\r\n"), "END\r\n");
    let mut more = Vec::new();
    while let Some(conn) = bench.try_open() {
        more.push(conn);
    }
    assert_eq!(more.len(), 15);
    bench.close(a);
    bench.close(c);
    more.into_iter().for_each(|conn| bench.close(conn));
    let mut d = bench.open();
    assert_eq!(bench.say(&mut d, "get a\r\n"), "END\r\n");
    let stats = bench.say(&mut d, "stats\r\n");
    assert_eq!(number_after(&stats, "STAT curr_connections "), 2);
    assert_eq!(number_after(&stats, "STAT rejected_connections "), 17);
}
