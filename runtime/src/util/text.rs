//! Text for people: escaped, short, on one line.

use std::{fmt, time::Duration};

/// Text from elsewhere with its control characters escaped, so that it cannot drive a terminal.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || is_line_end(c) || is_bidi(c) || is_invisible(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

/// Line ends that are not control characters (Unicode Annex 14, mandatory breaks).
fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Invisible characters that change the direction of the text that follows (Unicode UAX #9).
fn is_bidi(c: char) -> bool {
    matches!(
        c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Characters that are invisible and do not change how others are shown. They are escaped so that
/// two texts that look the same can be told apart: zero-width space, word joiner, invisible
/// operators, the byte order mark, soft hyphen, and the tag characters (Unicode, sections 23.2,
/// 23.8 and 23.9).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Joins the lines of `text` into one.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// A human-readable duration: `0.4ms`, `350ms`, `1.2s`, `3s`, `2m5s`, `1h2m`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HumanDuration(pub(crate) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match secs {
            0 if millis < 10 => {
                let tenths = self.0.as_micros() / 100;
                write!(f, "{}.{}ms", tenths / 10, tenths % 10)
            }
            0 => write!(f, "{millis}ms"),
            1..60 if millis >= 100 => write!(f, "{secs}.{}s", millis / 100),
            1..60 => write!(f, "{secs}s"),
            60..3600 if secs % 60 == 0 => write!(f, "{}m", secs / 60),
            60..3600 => write!(f, "{}m{}s", secs / 60, secs % 60),
            _ if secs / 60 % 60 == 0 => write!(f, "{}h", secs / 3600),
            _ => write!(f, "{}h{}m", secs / 3600, secs / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let text = |millis| HumanDuration(Duration::from_millis(millis)).to_string();
        assert_eq!(HumanDuration(Duration::from_micros(420)).to_string(), "0.4ms");
        assert_eq!(text(350), "350ms");
        assert_eq!(text(1_234), "1.2s");
        assert_eq!(text(3_000), "3s");
        assert_eq!(text(3_040), "3s");
        assert_eq!(text(125_000), "2m5s");
        assert_eq!(text(120_000), "2m");
        assert_eq!(text(3_720_000), "1h2m");
        assert_eq!(text(7_200_000), "2h");
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "/\x1b[2J\u{202e}\u{61c}\u{2028}é";
        assert_eq!(Escaped(text).to_string(), "/\\u{1b}[2J\\u{202e}\\u{61c}\\u{2028}é");
        let text = "/a\u{200b}b\u{feff}c\u{e0041}d\u{e007f}";
        assert_eq!(Escaped(text).to_string(), "/a\\u{200b}b\\u{feff}c\\u{e0041}d\\u{e007f}");
        // Joined emoji stay as they are.
        let family = "👩\u{200d}👧";
        assert_eq!(Escaped(family).to_string(), family);
    }

    #[test]
    fn lines_become_one() {
        assert_eq!(one_line("left: 1\n  right: 2\n"), "left: 1 right: 2");
    }
}
