use super::*;

const HEAD: &str = "# What it shows. RFC 9293 section 3.5\nlinux: yes\n";

fn steps(text: &str) -> Result<Vec<Step>, ParseError> {
    parse("a/b", &format!("{HEAD}{text}")).map(|s| s.steps)
}

fn why(text: &str) -> String {
    let error = parse("a/b", &format!("{HEAD}{text}")).expect_err(text);
    assert_eq!((error.line, error.script.as_str()), (3, "a/b"), "{text}");
    error.why
}

#[test]
fn a_segment_with_everything() {
    let steps =
        steps("+1.5ms..2ms linux > SYN,ACK 0 ack 1 win >=7 mss 1000 ws 3 sackok ts a+5/* sack 5:9 1:3 ...").unwrap();
    let [step] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((step.line, step.only), (3, Some(Kind::Linux)));
    assert_eq!(step.delay, Delay { min: Nanos::from_micros(1500), max: Nanos::from_millis(2) });
    let Action::Expect(p) = &step.action else { panic!("{step:?}") };
    let expected = Pattern {
        flags: Flags::SYN | Flags::ACK,
        range: Some((0, 0)),
        by: None,
        ack: Some(1),
        win: Win::AtLeast(7),
        mss: Some(1000),
        ws: Some(3),
        sackok: true,
        ts: Some((Stamp::Named("a".into(), 5), Stamp::Any)),
        sacks: vec![(5, 9), (1, 3)],
        ce: false,
        ect: None,
        and_more: true,
    };
    assert_eq!(*p, expected);
}

#[test]
fn head_settings_calls_and_checks() {
    let text = "# A comment of\n# two lines. RFC 1\nlinux: differs (it does)\nconfig: mss 536, keepalive 1s 2s 3, sack on\n\
                listen # a remark\n# a remark\n+1h send 100 admits 50\nstate FIN-WAIT-1\ndead timed-out\nquiet 5ms\n\
                new connection peer_isn 7";
    let s = parse("x", text).unwrap();
    assert_eq!(s.about, "A comment of two lines. RFC 1");
    assert_eq!(s.linux, Linux::Differs("it does".into()));
    assert_eq!((s.config.mss, s.config.sack), (536, true));
    assert_eq!(s.config.keepalive, Some((Nanos::from_secs(1), Nanos::from_secs(2), 3)));
    let actions: Vec<String> = s.steps.iter().map(|s| format!("{}: {:?}", s.line, s.action)).collect();
    assert_eq!(
        actions,
        [
            "5: Call(Listen)",
            "7: Call(Send { bytes: 100, admits: Some(50) })",
            "8: Check(State(FinWait1))",
            "9: Check(Dead(TimedOut))",
            "10: Quiet(5.000ms)",
            "11: NewConnection(7)",
        ]
    );
}

#[test]
fn errors_name_the_line_and_the_remedy() {
    assert!(why("frobnicate").contains("no step"));
    assert!(why("< SYM 0").contains("no flag"));
    assert!(why("< SYN *").contains("must give its sequence number"));
    assert!(why("< ACK 1 win 5").contains("goes with the flag ACK"));
    assert!(why("< SYN 0 ack 1").contains("goes with the flag ACK"));
    assert!(why("< ACK 1 ack * win 5").contains("must give its acknowledgment"));
    assert!(why("< ACK 1 ack 1 ts */5").contains("must give its options"));
    assert!(why("> ACK 5:1 ack 1").contains("no range"));
    assert!(why("> ACK 1:5 by 0 ack 1").contains("pieces"));
    assert!(why("> ACK 1 ack 1 sack").contains("one to four"));
    assert!(why("> ACK 1 ack 1 ts 5").contains("value/echo"));
    assert!(why("> ACK 1 ack 1 win 70000").contains("too large"));
    assert!(why("+5 listen").contains("lacks a unit"));
    assert!(why("+5ms..9ms listen").contains("expected segment"));
    assert!(why("listen now").contains("one word too many"));
    assert!(why("state OPEN").contains("none of LISTEN, SYN-SENT"));
    assert!(why("config: mms 5").contains("no setting"));
    assert!(why("config: sack maybe").contains("neither `on` nor `off`"));
    assert!(why("linux: no").contains("a reason in parentheses"));
}

#[test]
fn a_script_is_complete() {
    assert!(parse("x", "linux: yes\nlisten").unwrap_err().why.contains("head comment"));
    assert!(parse("x", "# About\nlisten").unwrap_err().why.contains("linux: yes"));
    assert!(parse("x", "# About\nlinux: yes").unwrap_err().why.contains("no steps"));
}
