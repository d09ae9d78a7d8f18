use super::harness::{Bench, converse, crlf, number_after};

#[test]
fn getting_setting_deleting() {
    converse(&[
        ("mn\n", "MN\n"),
        ("mg a v\n", "EN\n"),
        ("mg a v k Oxyz\n", "EN ka Oxyz\n"),
        ("mg a v q\nmn\n", "MN\n"),
        ("ms a 2 T90 F7\nhi\n", "HD\n"),
        ("ms a 2 T90 F7 Oq1 k s\nhi\n", "HD Oq1 ka s2\n"),
        ("mg a\n", "HD\n"),
        ("mg a s v t f k O99\n", "VA 2 s2 t90 f7 ka O99\nhi\n"),
        ("mg a t T30 t\n", "CLIENT_ERROR duplicate flag\n"),
        ("mg a t T30\n", "HD t90\n"),
        ("mg a T60 t\n", "HD t60\n"),
        ("mg a T0 t\n", "HD t-1\n"),
        ("ms a 2 q\nyo\nmg a v q\nmn\n", "VA 2\nyo\nMN\n"),
        ("md a q\nmg a v\n", "EN\n"),
        ("md a q\nmn\n", "MN\n"),
        ("md a k O7\n", "NF ka O7\n"),
        ("ms a 0\n\n", "HD\n"),
        ("mg a v\n", "VA 0\n\n"),
        ("md a\n", "HD\n"),
    ]);
}

#[test]
fn modes_of_ms() {
    converse(&[
        ("ms a 1 MR\nx\n", "NS\n"),
        ("ms a 1 MA\nx\n", "NS\n"),
        ("ms a 1 ME\nx\n", "HD\n"),
        ("ms a 1 ME\nx\n", "NS\n"),
        ("ms a 1 ME q\nx\n", "NS\n"),
        ("ms a 1 MA s\ny\n", "HD s2\n"),
        ("ms a 1 MP\nw\n", "HD\n"),
        ("mg a v\n", "VA 3\nwxy\n"),
        ("ms a 1 Mr\nz\n", "HD\n"),
        ("ms a 1 MS\nz\n", "HD\n"),
        ("ms a 1 MZ\nz\n", "CLIENT_ERROR invalid mode for ms\n"),
        ("ms b 1 MA N60\nb\n", "HD\n"),
        ("ms b 1 MA N10\nb\n", "HD\n"),
        ("mg b v t\n", "VA 2 t60\nbb\n"),
    ]);
}

#[test]
fn cas_and_own_cas() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let mut say = |text: &str| bench.say(&mut client, &crlf(text));
    let cas = number_after(&say("ms a 1 c\nx\n"), "HD c");
    assert_eq!(say(&format!("ms a 1 c C{}\ny\n", cas + 1)), "EX c0\r\n");
    assert_eq!(say("ms nope 1 c C1\ny\n"), "NF c0\r\n");
    assert_eq!(say(&format!("ms a 1 c C{cas} E777\ny\n")), "HD c777\r\n");
    assert_eq!(say("mg a c\n"), "HD c777\r\n");
    assert_eq!(say("md a C778\n"), "EX\r\n");
    assert_eq!(say("md a C778 q\n"), "EX\r\n");
    assert_eq!(say("md a C777\n"), "HD\r\n");
    assert_eq!(say("ma a N0 E5 c\n"), "HD c5\r\n");
    assert_eq!(say("ma a C4\n"), "EX\r\n");
    assert_eq!(say("ma a C5 E9 c v\n"), "VA 1 c9\r\n1\r\n");
    assert_eq!(say("mg v N0 E12 c\n"), "HD c12 W\r\n");
}

#[test]
fn arithmetic() {
    converse(&[
        ("ma n\n", "NF\n"),
        ("ma n q\nmn\n", "MN\n"),
        ("ma n N90 J13 v t\n", "VA 2 t90\n13\n"),
        ("ma n v\n", "VA 2\n14\n"),
        ("ma n D30 v k\n", "VA 2 kn\n44\n"),
        ("ma n MD D22 v\n", "VA 2\n22\n"),
        ("ma n M- D9000 v\n", "VA 1\n0\n"),
        ("ma n MI D5 q\nma n D0 v\n", "VA 1\n5\n"),
        ("ma n T300 t\n", "HD t300\n"),
        ("ma n Mx\n", "CLIENT_ERROR invalid mode for ma\n"),
        ("ma n Dx\n", "CLIENT_ERROR bad token in command line format\n"),
        ("set s 0 0 1\nq\n", "STORED\n"),
        ("ma s\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
        // The order of T and N decides.
        ("ma x T150 N100\nmg x t\n", "HD\nHD t100\n"),
        ("ma y N100 T150\nmg y t\n", "HD\nHD t150\n"),
    ]);
}

#[test]
fn binary_keys() {
    converse(&[
        ("ms 44OG44K544OI 2 b\npo\n", "HD\n"),
        ("mg 44OG44K544OI v\n", "EN\n"),
        ("mg 44OG44K544OI b v k\n", "VA 2 k44OG44K544OI b\npo\n"),
        ("mg ****  b v\n", "CLIENT_ERROR error decoding key\n"),
        ("ms 44OG44K544OI 1 b k\nx\n", "HD k44OG44K544OI b\n"),
        ("md 44OG44K544OI b\n", "HD\n"),
    ]);
    converse(&[("me a\n", "EN\n")]);
    let mut bench = Bench::new();
    let mut client = bench.open();
    bench.say(&mut client, "set a 0 100 3\r\nabc\r\nget a\r\n");
    bench.sleep(7);
    let line = bench.say(&mut client, "me a\r\n");
    assert!(line.starts_with("ME a exp=93 la=7 cas=") && line.ends_with(" fetch=yes cls=1 size=112\r\n"), "{line}");
}

#[test]
fn hits_and_access_times() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    bench.say(&mut client, "ms a 1\r\nx\r\n");
    bench.sleep(5);
    assert_eq!(bench.say(&mut client, "mg a h l u\r\n"), "HD h0 l5\r\n");
    assert_eq!(bench.say(&mut client, "mg a h l\r\n"), "HD h0 l5\r\n");
    assert_eq!(bench.say(&mut client, "mg a h l\r\n"), "HD h1 l0\r\n");
}

#[test]
fn one_client_is_asked_to_recache() {
    let mut bench = Bench::new();
    let mut client = bench.open();
    let mut say = |text: &str| bench.say(&mut client, &crlf(text));
    // Made on a miss.
    let first = say("mg a s c v N30 t\n");
    let cas = number_after(&first, " c");
    assert_eq!(first, format!("VA 0 s0 c{cas} t30 W\r\n\r\n"));
    assert_eq!(say("mg a s v N30 t\n"), "VA 0 s0 t30 Z\r\n\r\n");
    assert_eq!(say("mg b s N30 t q\n"), "HD s0 t30 W\r\n");
    assert_eq!(say("ms a 2 C5000 T120\nnu\n"), "EX\r\n");
    assert_eq!(say(&format!("ms a 2 C{cas} T120\nmu\n")), "HD\r\n");
    assert_eq!(say("mg a v N30 t\n"), "VA 2 t120\r\nmu\r\n");
    // Little time left.
    assert_eq!(say("mg a t R30\n"), "HD t120\r\n");
    assert_eq!(say("mg a t R130\n"), "HD t120 W\r\n");
    assert_eq!(say("mg a t R130\n"), "HD t120 Z\r\n");
    // Stale.
    say("set c 0 0 3\nmoo\n");
    assert_eq!(say("md c I T30\n"), "HD\r\n");
    assert_eq!(say("mg c s t v\n"), "VA 3 s3 t30 W X\r\nmoo\r\n");
    assert_eq!(say("ms c 1 T90 C0\nf\n"), "EX\r\n");
    assert_eq!(say("ms c 1 I T90 C1\nf\n"), "HD\r\n");
    let line = say("mg c s t c v\n");
    let cas = number_after(&line, " c");
    assert_eq!(line, format!("VA 1 s1 t30 c{cas} X Z\r\nf\r\n"));
    assert_eq!(say(&format!("ms c 1 I T90 C{}\nf\n", cas + 1000)), "EX\r\n");
    assert_eq!(say(&format!("ms c 1 T90 C{cas}\ng\n")), "HD\r\n");
    assert_eq!(say("mg c s t v\n"), "VA 1 s1 t90\r\ng\r\n");
    // Without a value.
    say("ms d 3 F5\nabc\n");
    assert_eq!(say("md d x\nmg d f v\n"), crlf("HD\nVA 0 f0\n\n"));
}

#[test]
fn malformed_meta_commands() {
    let long = "k".repeat(251);
    let opaque = "o".repeat(33);
    converse(&[
        ("mg\n", "CLIENT_ERROR bad command line format\n"),
        ("me\n", "CLIENT_ERROR bad command line format\n"),
        (&format!("mg {long} v\n"), "CLIENT_ERROR bad command line format\n"),
        ("mg a Y\n", "CLIENT_ERROR invalid flag\n"),
        ("mg a \u{e9}\n", "CLIENT_ERROR invalid flag\n"),
        ("mg a Tx\n", "CLIENT_ERROR bad token in command line format\n"),
        ("mg a N\n", "CLIENT_ERROR bad token in command line format\n"),
        (&format!("mg a O{opaque}\n"), "CLIENT_ERROR opaque token too long\n"),
        (&format!("mg a O{}\n", &opaque[1..]), &format!("EN O{}\n", &opaque[1..])),
        ("ms a\n", "CLIENT_ERROR bad data chunk\n"),
        ("ms a x\n", "CLIENT_ERROR bad data chunk\n"),
    ]);
    // The value is swallowed although the flags are wrong.
    converse(&[
        ("ms a 4 Y\nquit\nmn\n", "CLIENT_ERROR invalid flag\nMN\n"),
        ("ms a 2\nabcd", "CLIENT_ERROR bad data chunk\n"),
        ("mn\n", "MN\n"),
    ]);
}
