//! Amounts as people read them: bytes, spans of time, ages, money. And text from elsewhere made safe for a terminal.

use jiff::Timestamp;

/// Bytes in powers of 1024: `512`, `1.2G`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn bytes(count: u64) -> String {
    let units = ["K", "M", "G", "T", "P"];
    let mut value = count as f64;
    let mut unit = "";
    for next in units {
        // 1023.95 would print as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit.is_empty() {
        count.to_string()
    } else if value < 9.95 {
        format!("{value:.1}{unit}").replace(".0", "")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// Seconds in at most two units: `0.4s`, `42s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 9.95 && seconds.fract() > 0.05 {
        return format!("{seconds:.1}s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate; not negative")]
    let whole = seconds.round() as u64;
    let (days, hours, minutes, rest) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    let pair = |a: u64, a_unit: &str, b: u64, b_unit: &str| if b == 0 { format!("{a}{a_unit}") } else { format!("{a}{a_unit} {b}{b_unit}") };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => pair(minutes, "m", rest, "s"),
        (0, _, _) => pair(hours, "h", minutes, "m"),
        _ => pair(days, "d", hours, "h"),
    }
}

/// Seconds from one RFC 3339 time to another; `None` if either is not one.
pub(super) fn between(from: &str, to: &str) -> Option<f64> {
    let (from, to): (Timestamp, Timestamp) = (from.parse().ok()?, to.parse().ok()?);
    Some(to.duration_since(from).as_secs_f64())
}

/// An RFC 3339 time seen from `now`: `3m 20s ago`, `in 2h`; as it is if it is not one.
pub(super) fn age(time: &str, now: Timestamp) -> String {
    let Ok(then) = time.parse::<Timestamp>() else { return clean(time) };
    let seconds = now.duration_since(then).as_secs_f64().trunc();
    if seconds >= 0.0 { format!("{} ago", span(seconds)) } else { format!("in {}", span(-seconds)) }
}

/// Dollars with as many digits as small sums need.
pub(super) fn dollars(amount: f64) -> String {
    if amount == 0.0 {
        "$0".to_owned()
    } else if amount < 0.1 {
        format!("${amount:.4}")
    } else {
        format!("${amount:.2}")
    }
}

/// Text without what a terminal would obey: control characters become spaces, tabs and ends of lines stay.
/// Titles, reasons and an agent's words come from elsewhere, and an escape sequence in them must not reach the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

/// The same on one line, cut to `width` characters.
pub(super) fn line(text: &str, width: usize) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let text = words.join(" ");
    if text.chars().count() <= width { text } else { text.chars().take(width.saturating_sub(1)).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let texts = [0, 1023, 1024, 1536, 10 << 10, 1_048_575, 5 << 30, 1_288_490_189, u64::MAX].map(bytes);
        assert_eq!(texts, ["0", "1023", "1K", "1.5K", "10K", "1M", "5G", "1.2G", "16384P"]);
    }

    #[test]
    fn spans_have_two_units() {
        let texts = [0.0, 0.44, 5.0, 59.0, 59.7, 200.0, 7500.0, 3600.0, 273_600.0, -1.0].map(span);
        assert_eq!(texts, ["0s", "0.4s", "5s", "59s", "1m", "3m 20s", "2h 5m", "1h", "3d 4h", "0s"]);
    }

    #[test]
    fn ages() {
        let now = "2026-11-21T10:00:00Z".parse().expect("time");
        assert_eq!(age("2026-11-21T09:56:40Z", now), "3m 20s ago");
        assert_eq!(age("2026-11-21T12:00:00.5Z", now), "in 2h");
        assert_eq!(age("soon\x1b[2J", now), "soon [2J");
        assert_eq!(between("2026-11-21T09:56:40Z", "2026-11-21T09:57:00.5Z"), Some(20.5));
        assert_eq!(between("2026-11-21T09:56:40Z", ""), None);
    }

    #[test]
    fn small_sums_keep_their_digits() {
        assert_eq!([0.0, 0.012_12, 2.5, 12.0].map(dollars), ["$0", "$0.0121", "$2.50", "$12.00"]);
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(clean("a\x1b[31mb\r\n\tc\u{9b}2J"), "a [31mb \n\tc 2J");
        assert_eq!(line("  a\n b\x07c  ", 80), "a b c");
        assert_eq!(line("abcdef", 4), "abc…");
    }
}
