//! Resource limits as people write them and as systemd.resource-control(5) names them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not a limit; the message says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {wanted}")]
pub struct InvalidLimit {
    given: String,
    wanted: &'static str,
}

/// An amount of memory: bytes, a share of the host's memory, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Bytes.
    Bytes(u64),
    /// Per cent of the host's memory, 1 to 100.
    PercentOfHost(u8),
    /// No limit.
    Infinity,
}

impl MemoryLimit {
    /// Bytes on a host with that much memory; `None` is no limit.
    pub fn bytes(self, host_memory: u64) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::PercentOfHost(percent) => Some(host_memory / 100 * u64::from(percent)),
            Self::Infinity => None,
        }
    }

    /// A bound of swap: like any other, but `0` is none at all, and there is no percentage, since releases of systemd differ
    /// in what it is a percentage of.
    ///
    /// # Errors
    /// Says what a bound of swap looks like.
    pub fn from_swap(text: &str) -> Result<Self, InvalidLimit> {
        match text.parse() {
            _ if text == "0" => Ok(Self::Bytes(0)),
            Ok(limit @ (Self::Bytes(_) | Self::Infinity)) => Ok(limit),
            _ => Err(InvalidLimit { given: text.to_owned(), wanted: "an amount of swap such as \"1G\", \"0\" or \"infinity\"" }),
        }
    }

    /// Seven eighths of it, in whole pages: where throttling begins if nobody says.
    fn seven_eighths(self) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(((bytes / 8 * 7) & !0xfff).max(1)),
            Self::PercentOfHost(percent) => Self::PercentOfHost((percent - percent.div_ceil(8)).max(1)),
            Self::Infinity => Self::Infinity,
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = InvalidLimit;

    /// `4G`, `512M`, `1.5G` (powers of 1024, as in systemd), plain bytes, `80%` of the host, `infinity`.
    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let wanted = "an amount of memory such as \"4G\", \"512M\", \"80%\" or \"infinity\"";
        let invalid = || InvalidLimit { given: text.to_owned(), wanted };
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return percent.parse().ok().filter(|p| (1..=100).contains(p)).map(Self::PercentOfHost).ok_or_else(invalid);
        }
        let (digits, shift) = match text.char_indices().last() {
            Some((at, 'K')) => (text.get(..at), 10),
            Some((at, 'M')) => (text.get(..at), 20),
            Some((at, 'G')) => (text.get(..at), 30),
            Some((at, 'T')) => (text.get(..at), 40),
            _ => (Some(text), 0),
        };
        let digits = digits.filter(|d| d.starts_with(|c: char| c.is_ascii_digit())).ok_or_else(invalid)?;
        let bytes = match digits.split_once('.') {
            None => digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)),
            Some(_) if shift == 0 => None,
            Some((_, part)) if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) => None,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "float casts saturate; the value is not negative"
            )]
            Some(_) => digits.parse::<f64>().ok().map(|n| (n * (1u64 << shift) as f64) as u64),
        };
        bytes.filter(|b| *b > 0).map(Self::Bytes).ok_or_else(invalid)
    }
}

impl fmt::Display for MemoryLimit {
    /// The shortest text that parses to the same value, which systemd also takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Infinity => f.write_str("infinity"),
            Self::PercentOfHost(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => match [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')].into_iter().find(|(s, _)| bytes != 0 && bytes % (1u64 << s) == 0) {
                Some((shift, unit)) => write!(f, "{}{unit}", bytes >> shift),
                None => write!(f, "{bytes}"),
            },
        }
    }
}

/// CPU time per wall-clock time, in per cent of one CPU: 200 is two CPUs (`CPUQuota=`). `None` inside is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuQuota {
    /// Per cent of one CPU, at least 1.
    Percent(u32),
    /// No limit.
    Infinity,
}

impl CpuQuota {
    /// `CPUQuotaPerSecUSec`: µs of CPU time per second; `u64::MAX` is no limit.
    pub fn usec_per_sec(self) -> u64 {
        match self {
            Self::Percent(percent) => u64::from(percent) * 10_000,
            Self::Infinity => u64::MAX,
        }
    }
}

impl FromStr for CpuQuota {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        let percent = text.strip_suffix('%').and_then(|p| p.parse().ok()).filter(|p| (1..=1_000_000).contains(p));
        percent.map(Self::Percent).ok_or_else(|| InvalidLimit { given: text.to_owned(), wanted: "a CPU quota such as \"200%\" (two CPUs) or \"infinity\"" })
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// A share under contention, 1 to 10000, 100 by default (`CPUWeight=`, `IOWeight=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(u16);

impl Weight {
    /// The number.
    pub fn get(self) -> u64 {
        u64::from(self.0)
    }
}

impl FromStr for Weight {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        text.parse()
            .ok()
            .filter(|w| (1..=10_000).contains(w))
            .map(Self)
            .ok_or_else(|| InvalidLimit { given: text.to_owned(), wanted: "a weight from 1 to 10000" })
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Processes and threads (`TasksMax=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TasksMax {
    /// At most that many.
    Count(u64),
    /// No limit.
    Infinity,
}

impl FromStr for TasksMax {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        text.parse()
            .ok()
            .filter(|n| (1..u64::MAX).contains(n))
            .map(Self::Count)
            .ok_or_else(|| InvalidLimit { given: text.to_owned(), wanted: "a number of processes such as \"512\", or \"infinity\"" })
    }
}

impl fmt::Display for TasksMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// The limits of one slice or service; what is `None` is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`: past it the kernel kills.
    pub memory: Option<MemoryLimit>,
    /// `MemoryHigh=`: past it the kernel throttles and reclaims.
    pub memory_high: Option<MemoryLimit>,
    /// `MemorySwapMax=`.
    pub swap: Option<MemoryLimit>,
    /// `CPUQuota=`.
    pub cpu: Option<CpuQuota>,
    /// `CPUWeight=`.
    pub cpu_weight: Option<Weight>,
    /// `IOWeight=`.
    pub io_weight: Option<Weight>,
    /// `TasksMax=`.
    pub tasks: Option<TasksMax>,
}

impl Limits {
    /// These limits, with `other`'s in the places where these have none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            memory_high: self.memory_high.or(other.memory_high),
            swap: self.swap.or(other.swap),
            cpu: self.cpu.or(other.cpu),
            cpu_weight: self.cpu_weight.or(other.cpu_weight),
            io_weight: self.io_weight.or(other.io_weight),
            tasks: self.tasks.or(other.tasks),
        }
    }

    /// These limits, with `memory_high` at seven eighths of `memory` where only `memory` is said: lowering a limit must not
    /// leave it below an older `memory_high`.
    #[must_use]
    pub fn with_memory_high(self) -> Self {
        Self { memory_high: self.memory_high.or(self.memory.map(MemoryLimit::seven_eighths)), ..self }
    }

    /// Whether throttling would begin only where killing already has. `false` where bytes and percentages cannot be compared.
    pub fn high_is_above_max(&self) -> bool {
        match (self.memory_high, self.memory) {
            (Some(MemoryLimit::Bytes(high)), Some(MemoryLimit::Bytes(max))) => high > max,
            (Some(MemoryLimit::PercentOfHost(high)), Some(MemoryLimit::PercentOfHost(max))) => high > max,
            _ => false,
        }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The lines of a `[Slice]` or `[Service]` section, in the order of the fields.
    pub fn directives(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut add = |key, value: Option<String>| lines.extend(value.map(|v| (key, v)));
        add("MemoryMax", self.memory.map(|l| l.to_string()));
        add("MemoryHigh", self.memory_high.map(|l| l.to_string()));
        add("MemorySwapMax", self.swap.map(|l| l.to_string()));
        add("CPUQuota", self.cpu.map(|l| if l == CpuQuota::Infinity { String::new() } else { l.to_string() }));
        add("CPUWeight", self.cpu_weight.map(|l| l.to_string()));
        add("IOWeight", self.io_weight.map(|l| l.to_string()));
        add("TasksMax", self.tasks.map(|l| l.to_string()));
        lines
    }
}

/// A span of time as people write it: `90s`, `5min`, `1h 30m`. Not zero.
///
/// # Errors
/// Says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidLimit> {
    humantime::parse_duration(text)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(|| InvalidLimit { given: text.to_owned(), wanted: "a span of time such as \"90s\", \"30min\" or \"1h 30m\"" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Option<u64> {
        text.parse::<MemoryLimit>().ok().and_then(|m| m.bytes(1 << 30))
    }

    #[test]
    fn memory_means_what_it_means_to_systemd() {
        assert_eq!(bytes("4G"), Some(4 << 30));
        assert_eq!(bytes("1.5M"), Some(3 << 19));
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("50%"), Some((1 << 30) / 100 * 50));
        assert_eq!("infinity".parse(), Ok(MemoryLimit::Infinity));
        for bad in ["", "G", "4GB", "4 G", "-1", "0", "0%", "101%", "1.5", "1.G", "1e3M", "99999999999T", "nanG", "4g", "+4G", "٤G"] {
            assert!(bad.parse::<MemoryLimit>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn quotas_weights_and_counts() {
        assert_eq!("150%".parse::<CpuQuota>().map(CpuQuota::usec_per_sec), Ok(1_500_000));
        for bad in ["150", "0%", "-5%", ""] {
            assert!(bad.parse::<CpuQuota>().is_err(), "{bad:?} was taken");
        }
        for bad in ["0", "10001", "x"] {
            assert!(bad.parse::<Weight>().is_err(), "{bad:?} was taken");
        }
        assert!("0".parse::<TasksMax>().is_err());
        assert_eq!("512".parse(), Ok(TasksMax::Count(512)));
    }

    #[test]
    fn swap_may_be_nothing_but_no_percentage() {
        assert_eq!(MemoryLimit::from_swap("0").map(|l| l.to_string()), Ok("0".to_owned()));
        assert_eq!(MemoryLimit::from_swap("1G"), Ok(MemoryLimit::Bytes(1 << 30)));
        assert!(MemoryLimit::from_swap("10%").is_err() && MemoryLimit::from_swap("").is_err());
    }

    #[test]
    fn throttling_begins_below_the_limit() {
        let high = |memory: &str| Limits { memory: memory.parse().ok(), ..Limits::default() }.with_memory_high().memory_high.map(|l| l.to_string());
        assert_eq!(high("4G").as_deref(), Some("3584M"));
        assert_eq!(high("80%").as_deref(), Some("70%"));
        assert_eq!(high("1%").as_deref(), Some("1%"));
        assert_eq!(high("infinity").as_deref(), Some("infinity"));
        let said = Limits { memory: "1G".parse().ok(), memory_high: "2G".parse().ok(), ..Limits::default() };
        assert_eq!(said.with_memory_high(), said);
        assert!(said.high_is_above_max() && !Limits { memory: "50%".parse().ok(), ..said }.high_is_above_max());
    }

    #[test]
    fn directives_are_systemds() {
        let limits = Limits { memory: Some(MemoryLimit::Bytes(4 << 30)), cpu: Some(CpuQuota::Percent(200)), ..Limits::default() };
        assert_eq!(limits.directives(), [("MemoryMax", "4G".to_owned()), ("CPUQuota", "200%".to_owned())]);
    }

    proptest! {
        #[test]
        fn memory_survives_printing(n in 1u64..u64::MAX / 2) {
            let limit = MemoryLimit::Bytes(n);
            prop_assert_eq!(limit.to_string().parse(), Ok(limit));
        }

        #[test]
        fn parsers_never_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<MemoryLimit>();
            let _ = text.parse::<CpuQuota>();
            let _ = text.parse::<TasksMax>();
            let _ = parse_duration(&text);
        }
    }
}
