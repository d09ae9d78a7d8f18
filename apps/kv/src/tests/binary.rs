use super::harness::{Bench, Client, number_after};

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const REPLACE: u8 = 0x03;
const DELETE: u8 = 0x04;
const INCREMENT: u8 = 0x05;
const DECREMENT: u8 = 0x06;
const QUIT: u8 = 0x07;
const FLUSH: u8 = 0x08;
const GETQ: u8 = 0x09;
const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;
const GETK: u8 = 0x0c;
const GETKQ: u8 = 0x0d;
const APPEND: u8 = 0x0e;
const PREPEND: u8 = 0x0f;
const STAT: u8 = 0x10;
const SETQ: u8 = 0x11;
const ADDQ: u8 = 0x12;
const DELETEQ: u8 = 0x14;
const QUITQ: u8 = 0x17;
const APPENDQ: u8 = 0x19;
const VERBOSITY: u8 = 0x1b;
const TOUCH: u8 = 0x1c;
const GAT: u8 = 0x1d;
const GATQ: u8 = 0x1e;
const SASL_LIST: u8 = 0x20;

/// A request, written independently of the code under test.
pub(super) fn request(opcode: u8, cas: u64, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, opcode];
    out.extend((key.len() as u16).to_be_bytes());
    out.extend([extras.len() as u8, 0, 0, 0]);
    out.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    out.extend(*b"opaq");
    out.extend(cas.to_be_bytes());
    out.extend([extras, key, value].concat());
    out
}

/// Flags and expiration.
pub(super) fn extras(flags: u32, time: u32) -> Vec<u8> {
    [flags.to_be_bytes(), time.to_be_bytes()].concat()
}

fn counting(delta: u64, initial: u64, time: u32) -> Vec<u8> {
    [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &time.to_be_bytes()].concat()
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    opcode: u8,
    status: u16,
    cas: u64,
    extras: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0], 0x81);
        assert_eq!(&bytes[12..16], b"opaq");
        let key = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let extras = usize::from(bytes[4]);
        let body = u32::from_be_bytes(bytes[8..12].try_into().expect("four")) as usize;
        let (this, rest) = bytes.split_at(24 + body);
        out.push(Answer {
            opcode: bytes[1],
            status: u16::from_be_bytes([bytes[6], bytes[7]]),
            cas: u64::from_be_bytes(bytes[16..24].try_into().expect("eight")),
            extras: this[24..24 + extras].to_vec(),
            key: this[24 + extras..24 + extras + key].to_vec(),
            value: this[24 + extras + key..].to_vec(),
        });
        bytes = rest;
    }
    out
}

struct Talk {
    bench: Bench,
    client: Client,
}

impl Talk {
    fn new() -> Talk {
        let mut bench = Bench::new();
        let client = bench.open();
        Talk { bench, client }
    }

    fn all(&mut self, opcode: u8, cas: u64, extras: &[u8], key: &str, value: &str) -> Vec<Answer> {
        answers(&self.bench.send(&mut self.client, &request(opcode, cas, extras, key.as_bytes(), value.as_bytes())))
    }

    #[track_caller]
    fn one(&mut self, opcode: u8, cas: u64, extras: &[u8], key: &str, value: &str) -> Answer {
        let mut all = self.all(opcode, cas, extras, key, value);
        assert_eq!(all.len(), 1);
        let answer = all.remove(0);
        assert_eq!(answer.opcode, opcode);
        answer
    }

    #[track_caller]
    fn status(&mut self, wanted: u16, opcode: u8, cas: u64, extras: &[u8], key: &str, value: &str) {
        assert_eq!(self.one(opcode, cas, extras, key, value).status, wanted);
    }

    #[track_caller]
    fn silent(&mut self, opcode: u8, cas: u64, extras: &[u8], key: &str, value: &str) {
        assert_eq!(self.all(opcode, cas, extras, key, value), []);
    }

    #[track_caller]
    fn holds(&mut self, key: &str, value: &str) {
        let answer = self.one(GET, 0, &[], key, "");
        assert_eq!((answer.status, answer.value.as_slice()), (0, value.as_bytes()));
    }
}

#[test]
fn storing_and_fetching() {
    let mut t = Talk::new();
    let missed = t.one(GET, 0, &[], "a", "");
    assert_eq!((missed.status, missed.value.as_slice()), (1, &b"Not found"[..]));
    let missed = t.one(GETK, 0, &[], "a", "");
    assert_eq!((missed.status, missed.key.as_slice(), missed.value.as_slice()), (1, &b"a"[..], &b""[..]));
    t.silent(GETQ, 0, &[], "a", "");
    t.silent(GETKQ, 0, &[], "a", "");
    let set = t.one(SET, 0, &extras(7, 0), "a", "value");
    assert_eq!((set.status, set.value.len()), (0, 0));
    assert_ne!(set.cas, 0);
    let got = t.one(GET, 0, &[], "a", "");
    assert_eq!(
        got,
        Answer {
            opcode: GET,
            status: 0,
            cas: set.cas,
            extras: vec![0, 0, 0, 7],
            key: vec![],
            value: b"value".to_vec()
        }
    );
    let got = t.one(GETKQ, 0, &[], "a", "");
    assert_eq!((got.key.as_slice(), got.value.as_slice()), (&b"a"[..], &b"value"[..]));
    t.status(2, ADD, 0, &extras(0, 0), "a", "x");
    t.status(0, ADD, 0, &extras(0, 0), "b", "x");
    t.status(1, REPLACE, 0, &extras(0, 0), "c", "x");
    t.status(0, REPLACE, 0, &extras(0, 0), "b", "y");
    t.status(5, APPEND, 0, &[], "c", "x");
    t.status(0, APPEND, 0, &[], "b", "z");
    t.status(0, PREPEND, 0, &[], "b", "x");
    t.holds("b", "xyz");
    t.silent(SETQ, 0, &extras(0, 0), "b", "quiet");
    t.silent(APPENDQ, 0, &[], "b", "!");
    t.holds("b", "quiet!");
    t.status(2, ADDQ, 0, &extras(0, 0), "b", "x");
    t.status(0, DELETE, 0, &[], "b", "");
    t.status(1, DELETE, 0, &[], "b", "");
    t.status(1, DELETEQ, 0, &[], "b", "");
    t.silent(DELETEQ, 0, &[], "a", "");
    t.status(1, GET, 0, &[], "a", "");
}

#[test]
fn compare_and_set() {
    let mut t = Talk::new();
    t.status(1, SET, 99, &extras(0, 0), "a", "x");
    let cas = t.one(SET, 0, &extras(0, 0), "a", "x").cas;
    t.status(2, SET, cas + 1, &extras(0, 0), "a", "y");
    t.status(2, DELETE, cas + 1, &[], "a", "");
    t.status(2, INCREMENT, cas + 1, &counting(1, 0, 0), "a", "");
    t.status(2, APPEND, cas + 1, &[], "a", "!");
    let next = t.one(SET, cas, &extras(0, 0), "a", "y").cas;
    assert_ne!(cas, next);
    t.holds("a", "y");
    t.status(0, DELETE, next, &[], "a", "");
}

#[test]
fn counting_up_and_down() {
    let mut t = Talk::new();
    t.status(1, INCREMENT, 0, &counting(1, 5, u32::MAX), "n", "");
    let made = t.one(INCREMENT, 0, &counting(1, 5, 0), "n", "");
    assert_eq!((made.status, made.value.as_slice()), (0, &5u64.to_be_bytes()[..]));
    assert_eq!(t.one(INCREMENT, 0, &counting(37, 0, 0), "n", "").value, 42u64.to_be_bytes());
    assert_eq!(t.one(DECREMENT, 0, &counting(100, 0, 0), "n", "").value, 0u64.to_be_bytes());
    t.holds("n", "0 ");
    t.status(0, SET, 0, &extras(0, 0), "s", "text");
    t.status(6, INCREMENT, 0, &counting(1, 0, 0), "s", "");
}

#[test]
fn expiring_touching_flushing() {
    let mut t = Talk::new();
    t.status(0, SET, 0, &extras(0, 10), "a", "x");
    t.status(0, TOUCH, 0, &20u32.to_be_bytes(), "a", "");
    t.status(1, TOUCH, 0, &20u32.to_be_bytes(), "b", "");
    t.bench.sleep(19);
    assert_eq!(t.one(GAT, 0, &5u32.to_be_bytes(), "a", "").value, b"x");
    t.silent(GATQ, 0, &5u32.to_be_bytes(), "b", "");
    t.bench.sleep(5);
    t.status(1, GET, 0, &[], "a", "");
    t.status(0, SET, 0, &extras(0, u32::MAX), "a", "x");
    t.status(1, GET, 0, &[], "a", "");
    t.status(0, SET, 0, &extras(0, 0), "a", "x");
    t.status(0, FLUSH, 0, &5u32.to_be_bytes(), "", "");
    t.holds("a", "x");
    t.bench.sleep(5);
    t.status(1, GET, 0, &[], "a", "");
    t.status(0, SET, 0, &extras(0, 0), "a", "x");
    t.status(0, FLUSH, 0, &[], "", "");
    t.status(1, GET, 0, &[], "a", "");
}

#[test]
fn housekeeping() {
    let mut t = Talk::new();
    t.status(0, NOOP, 0, &[], "", "");
    assert_eq!(t.one(VERSION, 0, &[], "", "").value, b"1.6.21-zygix");
    t.status(0, VERBOSITY, 0, &[0, 0, 0, 1], "", "");
    t.status(0x81, SASL_LIST, 0, &[], "", "");
    t.status(0x81, 0x21, 0, &[], "PLAIN", "\0user\0password");
    t.status(0x81, 0xff, 0, &[], "", "");
    let lines = t.all(STAT, 0, &[], "", "");
    let last = lines.last().expect("an end");
    assert!(last.key.is_empty() && last.value.is_empty());
    let pid = lines.iter().find(|line| line.key == b"pid").expect("a pid");
    assert_eq!(pid.value, std::process::id().to_string().as_bytes());
    t.status(1, STAT, 0, &[], "nonsense", "");
    t.status(0, QUIT, 0, &[], "", "");
    assert!(t.client.closed);
    let mut t = Talk::new();
    t.silent(QUITQ, 0, &[], "", "");
    assert!(t.client.closed);
}

#[test]
fn what_is_too_large_is_swallowed() {
    let mut t = Talk::new();
    t.status(0, SET, 0, &extras(0, 0), "a", "old");
    t.status(3, SET, 0, &extras(0, 0), "a", &"x".repeat(1 << 20));
    t.status(1, GET, 0, &[], "a", "");
    // An unknown command's body can be any length.
    let mut bytes = request(0x7f, 0, &[], b"", &[b'y'; 3000]);
    bytes.extend(request(NOOP, 0, &[], b"", b""));
    let all = answers(&t.bench.send(&mut t.client, &bytes));
    assert_eq!(all.iter().map(|a| (a.opcode, a.status)).collect::<Vec<_>>(), [(0x7f, 0x81), (NOOP, 0)]);
}

#[test]
fn impossible_lengths_end_the_connection() {
    let ill = [
        request(GET, 0, &[], b"", b""),
        request(GET, 0, &[1], b"k", b""),
        request(GET, 0, &[], b"k", b"value"),
        request(SET, 0, &[0; 4], b"k", b"value"),
        request(SET, 0, &[0; 8], b"", b"value"),
        request(SET, 0, &[0; 8], &[b'k'; 251], b"value"),
        request(APPEND, 0, &[0; 8], b"k", b"value"),
        request(INCREMENT, 0, &[0; 8], b"k", b""),
        request(NOOP, 0, &[], b"k", b""),
        request(FLUSH, 0, &[0; 8], b"", b""),
        {
            let mut lies = request(SET, 0, &[0; 8], b"key", b"");
            lies[8..12].copy_from_slice(&5u32.to_be_bytes());
            lies
        },
    ];
    for bytes in ill {
        let mut t = Talk::new();
        let all = answers(&t.bench.send(&mut t.client, &bytes));
        assert_eq!(all.iter().map(|a| a.status).collect::<Vec<_>>(), [4], "{bytes:?}");
        assert!(t.client.closed);
    }
    let mut t = Talk::new();
    t.status(0, NOOP, 0, &[], "", "");
    let junk = [0x81; 24];
    assert_eq!(t.bench.send(&mut t.client, &junk), []);
    assert!(t.client.closed);
}

#[test]
fn both_protocols_see_the_same_items() {
    let mut t = Talk::new();
    t.status(0, SET, 0, &extras(9, 0), "shared", "item");
    let mut other = t.bench.open();
    let answer = t.bench.say(&mut other, "gets shared\r\n");
    let cas = number_after(&answer, "VALUE shared 9 4 ");
    t.status(0, SET, cas, &extras(9, 0), "shared", "changed");
}
