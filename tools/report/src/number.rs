//! Numbers as people read them.

/// Thin and not to be broken: stands between groups of three digits.
const GROUP: char = '\u{202f}';
/// A space at which no line ends: stands between number and unit.
pub(crate) const NO_BREAK: char = '\u{a0}';
/// Stands where a number is missing.
pub(crate) const DASH: &str = "\u{2013}";

/// `value` to `digits` significant digits, with zeros at the end: 0.0451 -> `0.05`, 1.999 -> `2.0` (two digits). Very large and very small numbers
/// have an exponent; what is not finite is a dash.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return DASH.to_string();
    }
    if value == 0.0 {
        return "0".to_string();
    }
    // Rounding can carry into the next power of ten, so the exponent is read from the rounded text.
    let rounded = format!("{value:.*e}", digits.saturating_sub(1));
    let (_, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-5..15).contains(&exponent) {
        return rounded;
    }
    let value: f64 = rounded.parse().unwrap_or(value);
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    format!("{value:.decimals$}")
}

/// The same without zeros at the end: for ticks, and for tables of data that a machine may read.
pub(crate) fn trimmed(value: f64, digits: usize) -> String {
    let text = significant(value, digits);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// For tables: three significant digits (four from 1000 on), grouped.
pub(crate) fn short(value: f64) -> String {
    grouped(&significant(value, if value.abs() >= 1000.0 { 4 } else { 3 }))
}

/// Exactly `decimals` digits after the point, grouped.
pub(crate) fn fixed(value: f64, decimals: u8) -> String {
    if !value.is_finite() {
        return DASH.to_string();
    }
    if value.abs() >= 1e15 {
        return significant(value, 4);
    }
    grouped(&format!("{value:.*}", usize::from(decimals.min(12))))
}

/// Groups the digits before the point by three, from five digits on.
pub(crate) fn grouped(text: &str) -> String {
    let whole = text.find('.').unwrap_or(text.len());
    let start = usize::from(text.starts_with('-'));
    if text.contains('e') || whole - start < 5 || !text[start..whole].bytes().all(|b| b.is_ascii_digit()) {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len() + 12);
    for (at, digit) in text.char_indices() {
        if at > start && at < whole && (whole - at).is_multiple_of(3) {
            out.push(GROUP);
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits_and_carries() {
        let cases = [
            (0.0451, "0.045"),
            (1.999, "2.0"),
            (99.6, "100"),
            (123456.0, "120000"),
            (-3.149, "-3.1"),
            (0.0, "0"),
            (9.96e-7, "1.0e-6"),
        ];
        for (value, text) in cases {
            assert_eq!(significant(value, 2), text, "{value}");
        }
        assert_eq!(significant(f64::NAN, 3), DASH);
        assert_eq!(significant(f64::INFINITY, 3), DASH);
        assert_eq!(significant(f64::MAX, 3), "1.80e308");
    }

    #[test]
    fn zeros_are_trimmed_after_the_point_only() {
        assert_eq!(trimmed(1.50, 3), "1.5");
        assert_eq!(trimmed(2.0, 3), "2");
        assert_eq!(trimmed(1200.0, 3), "1200");
        assert_eq!(trimmed(207413.0, 6), "207413");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(short(207413.0), "207\u{202f}400");
        assert_eq!(short(1234.5), "1234");
        assert_eq!(short(23.456), "23.5");
        assert_eq!(fixed(-1234567.891, 1), "-1\u{202f}234\u{202f}567.9");
        assert_eq!(fixed(f64::NAN, 1), DASH);
        assert_eq!(fixed(1e300, 2), "1.000e300");
    }
}
