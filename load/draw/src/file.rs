//! Numbers from a file or from a `values:` text, bounded: neither a huge file nor a device that never ends fills memory.

use crate::text::{number, quote};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// The most values a description may carry (128 MB of them).
pub const MAX_VALUES: usize = 16 << 20;

/// The longest line of a file of numbers, in bytes.
const MAX_LINE: u64 = 1024;

/// Reads `path`, `columns` numbers a line; empty lines and what follows a `#` do not count. The numbers come one after the other.
/// `parse` reads one number of a column.
pub(crate) fn read(
    path: &str,
    columns: usize,
    parse: fn(usize, &str) -> Result<f64, String>,
) -> Result<Vec<f64>, String> {
    let file = File::open(path).map_err(|e| format!("cannot open {}: {e}", quote(path)))?;
    read_lines(BufReader::new(file), columns, MAX_VALUES, parse).map_err(|said| format!("{}: {said}", quote(path)))
}

fn read_lines(
    mut from: impl BufRead,
    columns: usize,
    most: usize,
    parse: fn(usize, &str) -> Result<f64, String>,
) -> Result<Vec<f64>, String> {
    let mut values = Vec::new();
    let mut line = Vec::new();
    for nth in 1.. {
        line.clear();
        let length =
            from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| format!("cannot be read: {e}"))?;
        if length == 0 {
            break;
        }
        if length as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            return Err(format!("line {nth} is longer than {} bytes: this is not a file of numbers", MAX_LINE - 1));
        }
        // An endless stream of comments has no values to bound it.
        if nth > 4 * most {
            return Err(format!("more than {} lines", 4 * most));
        }
        let text = std::str::from_utf8(&line).map_err(|_| format!("line {nth} is not text"))?;
        let text = text.split('#').next().unwrap_or_default();
        let mut words = text.split_ascii_whitespace();
        let mut found = 0;
        for word in words.by_ref().take(columns) {
            values.push(parse(found, word).map_err(|said| format!("line {nth}: {said}"))?);
            found += 1;
        }
        if (found != 0 && found != columns) || words.next().is_some() {
            return Err(format!("line {nth}: {columns} number(s) a line, please: {}", quote(text.trim())));
        }
        if values.len() > most {
            return Err(format!("more than {most} values: take a part of it"));
        }
    }
    if values.is_empty() {
        return Err("holds no values".to_string());
    }
    Ok(values)
}

/// Reads the numbers of a `values:` text, without the word.
pub(crate) fn parse_list(text: &str) -> Result<Vec<f64>, String> {
    // Counted first, so that nothing is reserved for a list that is refused.
    if text.bytes().filter(|&b| b == b',').count() >= MAX_VALUES {
        return Err(format!("more than {MAX_VALUES} values"));
    }
    text.split(',').map(number).collect()
}

/// Writes the text [`parse_list`] reads back to the last bit, with the word.
pub(crate) fn format_list(values: &[f64], f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let mut text = String::from("values:");
    for (nth, value) in values.iter().enumerate() {
        if nth != 0 {
            text.push(',');
        }
        write!(text, "{value}")?;
        // In pieces: the whole text of a long list need not be held twice.
        if text.len() > 4096 {
            f.write_str(&text)?;
            text.clear();
        }
    }
    f.write_str(&text)
}

/// Files for tests, removed when dropped.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(crate) struct TempFile(PathBuf);

    impl TempFile {
        pub(crate) fn new(content: &str) -> TempFile {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let nth = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("draw-test-{}-{nth}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            TempFile(path)
        }

        pub(crate) fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(_: usize, text: &str) -> Result<f64, String> {
        number(text)
    }

    #[test]
    fn comments_and_empty_lines_do_not_count() {
        let text = "# seconds\n\n 1 2 # first\n3\t4\r\n5 6";
        assert_eq!(read_lines(text.as_bytes(), 2, 100, plain), Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    }

    #[test]
    fn what_is_no_file_of_numbers_is_refused_with_its_line() {
        for (text, columns, part) in [
            ("", 1, "holds no values"),
            ("# nothing\n", 1, "holds no values"),
            ("1\n2\nx\n", 1, "line 3: \"x\" is not a number"),
            ("1\nNaN\n", 1, "line 2"),
            ("1 2\n3\n", 2, "line 2: 2 number(s)"),
            ("1 2\n", 1, "line 1: 1 number(s)"),
            ("1\n2\n3\n4\n5\n", 1, "more than 4 values"),
        ] {
            let said = read_lines(text.as_bytes(), columns, 4, plain).unwrap_err();
            assert!(said.contains(part), "{text:?}: {said}");
        }
        assert!(read_lines(&[0xff, b'\n'][..], 1, 4, plain).unwrap_err().contains("not text"));
    }

    #[test]
    fn endless_input_ends() {
        assert!(read_lines(BufReader::new(std::io::repeat(0)), 1, 4, plain).unwrap_err().contains("line 1 is longer"));
        assert!(read_lines(BufReader::new(std::io::repeat(b'\n')), 1, 4, plain).unwrap_err().contains("lines"));
    }

    #[test]
    fn a_list_is_bounded_before_it_is_kept() {
        assert!(parse_list(&",".repeat(MAX_VALUES)).unwrap_err().contains("more than 16777216 values"));
        assert_eq!(parse_list("1, 2.5"), Ok(vec![1.0, 2.5]));
    }

    #[test]
    fn a_missing_file_is_named() {
        let said = read("/nonexistent/values", 1, plain).unwrap_err();
        assert!(said.contains("cannot open \"/nonexistent/values\""), "{said}");
    }
}
