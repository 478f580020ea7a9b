//! Durations as strings: one or more of `<integer><unit>`.
//!
//! This file is part of both crates: the runtime's `util/duration.rs` is a symlink to the macro
//! crate's, and each package contains its own copy. The attribute parses literals with it at
//! compile time; the runtime parses environment variables when the process starts.

use std::time::Duration;

/// The units, longest first, which is the order they are printed in.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a duration such as `"3s"`, `"250ms"` or `"1m30s"`.
///
/// # Errors
///
/// Returns a message that says what to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let form = "write an integer and a unit (`ms`, `s`, `m`, `h`), such as `\"3s\"` or `\"1m30s\"`";
    if text.is_empty() {
        return Err(format!("an empty duration: {form}"));
    }
    if let Some(written) = without_spaces(text) {
        return Err(format!("no spaces in a duration: write `\"{written}\"`"));
    }
    if let Some(better) = decimal(text) {
        return Err(format!("no fractions in a duration: write `\"{better}\"`"));
    }
    let mut millis: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| !c.is_ascii_digit());
        if number.is_empty() {
            return Err(format!("no number before `{unit}`: {form}"));
        }
        if unit.is_empty() {
            return Err(format!("a number without a unit: write `\"{text}s\"`"));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(match meant(unit) {
                Some(known) => format!("unknown unit `{unit}`: write `\"{number}{known}\"`"),
                None => format!("unknown unit `{unit}`: {form}"),
            });
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        millis = part
            .and_then(|part| millis.checked_add(part))
            .filter(|millis| *millis <= LONGEST)
            .ok_or_else(|| format!("a duration too long: `\"{}\"` is the most", print(LONGEST)))?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Ten years: longer than a process lives, and short enough that a deadline can be computed.
pub(crate) const LONGEST: u64 = 10 * 365 * 24 * 3_600_000;

/// Returns a text that `parse` reads as this duration, in the largest units.
pub(crate) fn print(mut millis: u64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if millis >= factor {
            text.push_str(&(millis / factor).to_string());
            text.push_str(unit);
            millis %= factor;
        }
    }
    text
}

fn split(text: &str, is_first: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !is_first(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn without_spaces(text: &str) -> Option<String> {
    let written: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    (written != text && parse(&written).is_ok()).then_some(written)
}

/// Rewrites a number such as `1.5s` in units without a fraction.
fn decimal(text: &str) -> Option<String> {
    let (whole, rest) = text.split_once(['.', ','])?;
    let (fraction, unit) = split(rest, |c| c.is_ascii_digit());
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let parts = whole.checked_mul(scale)?.checked_add(fraction)?.checked_mul(*factor)?;
    let millis = (parts % scale == 0).then_some(parts / scale)?;
    // Seconds become milliseconds: `1500ms` is closest to what `1.5s` meant.
    Some(if *factor == 1_000 { format!("{millis}ms") } else { print(millis) })
}

/// Returns the unit that another spelling stands for.
fn meant(unit: &str) -> Option<&'static str> {
    Some(match unit.to_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "msecs" | "milli" | "millis" | "millisecond" | "milliseconds" => "ms",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        _ => return None,
    })
}

/// Reads a duration that the fuzzer makes up: it is printed as one that reads as the same, and what
/// a message says to write instead is one.
#[cfg(fuzzing)]
#[allow(dead_code, unreachable_pub, reason = "for the fuzz target, and for one of the two crates")]
pub fn read_duration(text: &str) {
    match parse(text) {
        Ok(duration) => {
            let millis = u64::try_from(duration.as_millis()).expect("below the longest");
            assert_eq!(parse(&print(millis)), Ok(duration), "{text:?}");
        }
        Err(message) => {
            let better =
                message.rsplit_once("write `\"").and_then(|(_, it)| it.strip_suffix("\"`"));
            // A made-up text may have the marks of the message in it.
            if let Some(better) = better
                && !text.contains(['"', '`'])
            {
                let better = parse(better);
                // A number that is too long is so in every unit.
                let is_too_long = better.as_ref().is_err_and(|it| it.contains("too long"));
                assert!(better.is_ok() || is_too_long, "{text:?}: {message}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_documented() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("3s", 3_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("30s1m", 90_000),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for millis in [0, 1, 999, 1_000, 90_000, 3_661_001, LONGEST] {
            assert_eq!(parse(&print(millis)), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for (text, hint) in [
            ("3", "write `\"3s\"`"),
            ("", "an empty duration"),
            ("3 s", "write `\"3s\"`"),
            ("3sec", "write `\"3s\"`"),
            ("5 minutes", "no spaces"),
            ("1.5s", "write `\"1500ms\"`"),
            ("0.5h", "write `\"30m\"`"),
            ("s", "no number before `s`"),
            ("3d", "unknown unit `d`"),
            ("-3s", "no number before `-`"),
            ("99999999999999999999s", "too long"),
            ("9999999h", "too long"),
            ("3sfoo", "unknown unit `sfoo`"),
        ] {
            let message = parse(text).unwrap_err();
            let ok = message.contains(hint) || text == "5 minutes" && message.contains("unit");
            assert!(ok, "{text}: {message}");
        }
    }
}
