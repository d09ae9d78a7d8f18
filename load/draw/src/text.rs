//! Numbers with units as people write them, and the sentences that refuse the rest.

use crate::pattern::{MAX_RATE, MIN_RATE};
use units::Nanos;

/// Gives a description type its serde form: the text it displays as.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<$type, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}
pub(crate) use as_text;

/// What was written, for an error message: printable, and short however long it was.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN: usize = 40;
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().nth(SHOWN).is_some() { "..." } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// `value` moved into `low..=high`; what is no number becomes `low`.
pub(crate) fn within(value: f64, low: f64, high: f64) -> f64 {
    if value >= low { value.min(high) } else { low }
}

/// A finite number.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{} is not a number", quote(text))),
    }
}

/// Requests a second, 0 allowed: a number, or one with `k` (thousands), `m` (millions) or `g` (thousands of millions) behind it.
pub(crate) fn rate_or_zero(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let (digits, factor) = match trimmed.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&trimmed[..at], 1e3),
        Some((at, 'm' | 'M')) => (&trimmed[..at], 1e6),
        Some((at, 'g' | 'G')) => (&trimmed[..at], 1e9),
        _ => (trimmed, 1.0),
    };
    let rate =
        number(digits).map_err(|_| format!("{} is not a rate: write it as 20000, 50k or 1.5m", quote(text)))? * factor;
    if !(0.0..=MAX_RATE * (1.0 + 1e-9)).contains(&rate) {
        return Err(format!("rate {} is outside 0..1g requests a second", quote(text)));
    }
    Ok(rate)
}

/// Requests a second from `20000`, `50k`, `1.5m`.
///
/// # Errors
/// A sentence for people when it is not a number, is 0 or negative, or is more than [`MAX_RATE`].
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = rate_or_zero(text)?;
    if rate < MIN_RATE * (1.0 - 1e-9) {
        return Err(format!(
            "rate {} is too low: it must be more than 0, such as 50k or 1.5m requests a second",
            quote(text)
        ));
    }
    Ok(rate)
}

/// A rate as [`parse_rate`] reads it, to the last bit: `50k`, `1.5m`, `20.5`.
pub fn format_rate(rate: f64) -> String {
    for (unit, suffix) in [(1e6, "m"), (1e3, "k")] {
        if rate >= unit {
            let text = format!("{}", rate / unit);
            let same = text.parse::<f64>().is_ok_and(|value| value * unit == rate);
            if same && text.len() <= format!("{rate}").len() {
                return text + suffix;
            }
        }
    }
    format!("{rate}")
}

/// A span of time from `500ns`, `10us`, `1.5ms`, `2s`.
///
/// # Errors
/// A sentence for people when the number or the unit is missing, or the span is negative or longer than 292 years.
pub fn parse_span(text: &str) -> Result<Nanos, String> {
    let trimmed = text.trim();
    let units: [(&str, u64); 5] = [("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    let found = units.iter().find_map(|&(unit, nanos)| Some((trimmed.strip_suffix(unit)?, nanos)));
    let refused = || format!("{} is not a span of time: write it as 500ns, 10us, 1.5ms or 2s", quote(text));
    let (digits, unit) = found.ok_or_else(refused)?;
    if let Ok(whole) = digits.parse::<u64>() {
        let nanos = whole.checked_mul(unit).filter(|&nanos| nanos <= i64::MAX as u64);
        return nanos.map(Nanos).ok_or_else(|| format!("{} is too long a time", quote(text)));
    }
    let value = number(digits).map_err(|_| refused())? * unit as f64;
    if !(0.0..9.2e18).contains(&value) {
        return Err(format!("{} is not a possible span of time", quote(text)));
    }
    Ok(Nanos(value.round() as u64))
}

/// A span as [`parse_span`] reads it, to the nanosecond, in the largest unit that divides it.
pub fn format_span(span: Nanos) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match units.iter().find(|&&(unit, _)| span.0 != 0 && span.0.is_multiple_of(unit)) {
        Some((unit, suffix)) => format!("{}{suffix}", span.0 / unit),
        None => format!("{}ns", span.0),
    }
}

/// The longest time a pattern may speak of, in seconds (11 days): exact to the nanosecond in an `f64`.
const LONGEST_SECONDS: f64 = 1e6;

/// Seconds as a plain number, or a span with its unit, at least `least` nanoseconds.
pub(crate) fn seconds(text: &str, least: u64) -> Result<u64, String> {
    let nanos = match number(text) {
        Ok(value) if (0.0..=LONGEST_SECONDS).contains(&value) => (value * 1e9).round() as u64,
        Ok(_) => return Err(format!("{} is not between 0 and {LONGEST_SECONDS} seconds", quote(text))),
        Err(_) => parse_span(text)?.0,
    };
    if nanos < least || nanos as f64 > LONGEST_SECONDS * 1e9 {
        return Err(format!("{} is not between {} and {LONGEST_SECONDS} seconds", quote(text), least as f64 / 1e9));
    }
    Ok(nanos)
}

/// Nanoseconds as the plain number of seconds that [`seconds`] reads back.
pub(crate) fn format_seconds(nanos: u64) -> String {
    let (whole, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:09}").trim_end_matches('0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_rates_with_k_and_m() {
        assert_eq!(parse_rate("20000"), Ok(20_000.0));
        assert_eq!(parse_rate("50k"), Ok(50_000.0));
        assert_eq!(parse_rate("1.5M"), Ok(1_500_000.0));
        assert_eq!(parse_rate("1g"), Ok(1e9));
        assert_eq!(format_rate(50_000.0), "50k");
        assert_eq!(format_rate(1_500_000.0), "1.5m");
        assert_eq!(format_rate(999.0), "999");
    }

    #[test]
    fn impossible_rates_are_refused_in_a_sentence() {
        for text in ["0", "-1", "1e12", "NaN", "inf", "", "k", "5q", "1e-300", "50k/s", "é", "2000g"] {
            let said = parse_rate(text).unwrap_err();
            assert!(said.contains("rate") && said.contains(&quote(text)) && !said.contains('\n'), "{text}: {said}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_a_novel_or_control_characters() {
        let said = parse_rate(&"\u{1b}[31m".repeat(10_000)).unwrap_err();
        assert!(said.len() < 600 && !said.contains('\u{1b}'), "{said}");
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(parse_span("500ns"), Ok(Nanos(500)));
        assert_eq!(parse_span("10us"), Ok(Nanos(10_000)));
        assert_eq!(parse_span("10µs"), Ok(Nanos(10_000)));
        assert_eq!(parse_span("1.5ms"), Ok(Nanos(1_500_000)));
        assert_eq!(parse_span("2s"), Ok(Nanos(2_000_000_000)));
        for text in ["", "10", "s", "-1s", "NaNs", "infs", "1e40s", "18446744073709551615s", "1 year"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rates_survive_text(rate in prop_oneof![1e-9..1e9f64, (1u32..1_000_000_000).prop_map(f64::from)]) {
            prop_assert_eq!(parse_rate(&format_rate(rate)), Ok(rate));
        }

        #[test]
        fn spans_survive_text(span in prop_oneof![0..=i64::MAX as u64, (0..10_000u64).prop_map(|s| s * 1_000_000)]) {
            prop_assert_eq!(parse_span(&format_span(Nanos(span))), Ok(Nanos(span)));
        }

        #[test]
        fn seconds_survive_text(nanos in 0..=1_000_000_000_000_000u64) {
            prop_assert_eq!(seconds(&format_seconds(nanos), 0), Ok(nanos));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_rate(&text), parse_span(&text), seconds(&text, 1));
        }
    }
}
