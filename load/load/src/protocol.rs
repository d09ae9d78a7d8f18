use crate::workload::{KEY_LEN, VALUE_LEN, Workload};

/// What was asked, and hence what is to come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Get(u32),
    Set(u32),
}

/// What the bytes received so far say about the oldest request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The right reply, of this many bytes.
    Right(usize),
    /// A complete reply of this many bytes, and not the right one.
    Wrong(usize),
    /// Right as far as it goes; more has to come.
    Incomplete,
    /// Nothing that the protocol allows: where the next reply begins is unknown.
    Garbage,
}

/// A reply line longer than this is garbage.
const LINE_MAX: usize = 2048;

const HIT: usize = 6 + KEY_LEN + 5 + 1 + VALUE_LEN + 7;

impl Ask {
    /// Appends the request.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Ask::Get(index) => {
                out.extend_from_slice(b"get ");
                out.extend_from_slice(&Workload::key(index));
                out.extend_from_slice(b"\r\n");
            }
            Ask::Set(index) => {
                out.extend_from_slice(b"set ");
                out.extend_from_slice(&Workload::key(index));
                out.extend_from_slice(b" 0 0 2\r\n");
                out.extend_from_slice(&Workload::value(index));
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Judges `bytes`, which begin where the reply does.
    pub(crate) fn judge(self, bytes: &[u8]) -> Verdict {
        match self {
            Ask::Get(index) => judge(bytes, &hit(index)),
            Ask::Set(_) => judge(bytes, b"STORED\r\n"),
        }
    }
}

/// The one right answer to a GET.
fn hit(index: u32) -> [u8; HIT] {
    let mut hit = *b"VALUE xxxxxxxxxxxxxxxxxxx 0 2\r\nvv\r\nEND\r\n";
    hit[6..6 + KEY_LEN].copy_from_slice(&Workload::key(index));
    hit[31..31 + VALUE_LEN].copy_from_slice(&Workload::value(index));
    hit
}

fn judge(bytes: &[u8], right: &[u8]) -> Verdict {
    let n = bytes.len().min(right.len());
    if bytes[..n] == right[..n] {
        return if n == right.len() { Verdict::Right(n) } else { Verdict::Incomplete };
    }
    wrong(bytes)
}

/// A wrong reply may still be a well-formed one: a miss, an error line, another value.
#[cold]
fn wrong(bytes: &[u8]) -> Verdict {
    let line_end = |from: usize| bytes[from..].windows(2).position(|w| w == b"\r\n").map(|at| from + at + 2);
    let Some(first) = line_end(0) else {
        return if bytes.len() > LINE_MAX { Verdict::Garbage } else { Verdict::Incomplete };
    };
    if !bytes.starts_with(b"VALUE ") {
        let known = [&b"END"[..], b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR", b"STORED", b"NOT_STORED"];
        let known = known.iter().any(|k| bytes.starts_with(k));
        return if known { Verdict::Wrong(first) } else { Verdict::Garbage };
    }
    let len = std::str::from_utf8(&bytes[..first - 2]).ok().and_then(|l| l.rsplit(' ').next()?.parse::<usize>().ok());
    match len {
        Some(len) if len <= 1 << 20 && bytes.len() < first + len + 7 => Verdict::Incomplete,
        Some(len) if len <= 1 << 20 && bytes[first + len..].starts_with(b"\r\nEND\r\n") => {
            Verdict::Wrong(first + len + 7)
        }
        _ => Verdict::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_get_has_one_right_answer() {
        let mut request = Vec::new();
        Ask::Get(7).write(&mut request);
        assert_eq!(request, b"get usr-000000000000007\r\n");
        let [a, b] = Workload::value(7);
        let right = [b"VALUE usr-000000000000007 0 2\r\n".as_slice(), &[a, b], b"\r\nEND\r\n"].concat();
        for cut in 0..right.len() {
            assert_eq!(Ask::Get(7).judge(&right[..cut]), Verdict::Incomplete);
        }
        assert_eq!(Ask::Get(7).judge(&[&right[..], b"VALUE"].concat()), Verdict::Right(right.len()));
        assert_eq!(Ask::Get(8).judge(&right), Verdict::Wrong(right.len()));
        assert_eq!(Ask::Get(7).judge(b"END\r\nVALUE "), Verdict::Wrong(5));
        assert_eq!(Ask::Get(7).judge(b"SERVER_ERROR out of memory\r\n"), Verdict::Wrong(28));
        assert_eq!(Ask::Get(7).judge(b"VALUE k 0 9999999999\r\n"), Verdict::Garbage);
        assert_eq!(Ask::Get(7).judge(b"VALUE k 0 1\r\nxy\r\nEND\r\n"), Verdict::Garbage);
        assert_eq!(Ask::Get(7).judge(b"HTTP/1.1 200 OK\r\n"), Verdict::Garbage);
        assert_eq!(Ask::Get(7).judge(&[b'x'; LINE_MAX + 1]), Verdict::Garbage);
    }

    #[test]
    fn a_set_writes_what_a_get_expects() {
        let mut request = Vec::new();
        Ask::Set(123).write(&mut request);
        let [a, b] = Workload::value(123);
        assert_eq!(request, [b"set usr-000000000000123 0 0 2\r\n".as_slice(), &[a, b], b"\r\n"].concat());
        assert_eq!(Ask::Set(123).judge(b"STORED\r\n"), Verdict::Right(8));
        assert_eq!(Ask::Set(123).judge(b"NOT_STORED\r\n"), Verdict::Wrong(12));
    }
}
