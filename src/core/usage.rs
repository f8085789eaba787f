//! What an attempt consumed: money, tokens, and the kernel's account of its cgroup.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// US dollars, kept as whole millionths so that sums are exact. A float on the wire, as the agent prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Usd(pub u64);

impl Usd {
    /// Rounded to the nearest millionth; what is negative or not a number counts as nothing.
    pub fn from_dollars(dollars: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate, and NaN becomes 0")]
        Self((dollars.max(0.0) * 1e6).round() as u64)
    }

    /// As a float, in dollars.
    pub fn dollars(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
        {
            self.0 as f64 / 1e6
        }
    }
}

impl From<f64> for Usd {
    fn from(dollars: f64) -> Self {
        Self::from_dollars(dollars)
    }
}

impl From<Usd> for f64 {
    fn from(usd: Usd) -> Self {
        usd.dollars()
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Usd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}", self.dollars())
    }
}

/// Tokens of one model, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Read by the model, not from its cache.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Written to the cache.
    pub cache_creation: u64,
}

impl Tokens {
    /// Of all kinds together.
    pub fn total(self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_creation].into_iter().fold(0, u64::saturating_add)
    }

    /// What has come since `earlier`; nothing negative.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            input: self.input.saturating_sub(earlier.input),
            output: self.output.saturating_sub(earlier.output),
            cache_read: self.cache_read.saturating_sub(earlier.cache_read),
            cache_creation: self.cache_creation.saturating_sub(earlier.cache_creation),
        }
    }
}

/// What the agent says it used in one attempt (not cumulative over the session).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUsage {
    /// Model turns.
    pub turns: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Cost at list price, as the agent computes it.
    pub cost: Usd,
    /// Tokens by model name.
    pub tokens: BTreeMap<String, Tokens>,
}

/// What the kernel says an attempt used. A field is `None` where this kernel or supervisor cannot tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelUsage {
    /// CPU time in user mode, µs (cgroup-v2: `cpu.stat` `user_usec`).
    pub cpu_user_usec: Option<u64>,
    /// CPU time in the kernel, µs (`cpu.stat` `system_usec`).
    pub cpu_system_usec: Option<u64>,
    /// Highest memory use, bytes (`memory.peak`; sampled from `memory.current` before Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Bytes read from block devices (`io.stat` `rbytes`).
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices (`io.stat` `wbytes`).
    pub io_write_bytes: Option<u64>,
    /// Time some task waited for the CPU, µs (`cpu.pressure` `some total`).
    pub cpu_stall_usec: Option<u64>,
    /// Time some task waited for memory, µs (`memory.pressure` `some total`).
    pub memory_stall_usec: Option<u64>,
    /// Time some task waited for I/O, µs (`io.pressure` `some total`).
    pub io_stall_usec: Option<u64>,
    /// Processes killed for want of memory (`memory.events` `oom_kill`).
    pub oom_kills: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_and_never_negative() {
        assert_eq!(Usd::from_dollars(0.1) + Usd::from_dollars(0.2), Usd(300_000));
        assert_eq!(Usd::from_dollars(-1.0), Usd(0));
        assert_eq!(Usd::from_dollars(f64::NAN), Usd(0));
        assert_eq!(Usd(1) - Usd(2), Usd(0));
        assert_eq!(Usd::from_dollars(0.005_16).to_string(), "$0.0052");
    }

    #[test]
    fn tokens_since_never_wrap() {
        let now = Tokens { input: 5, output: 1, cache_read: 0, cache_creation: 9 };
        let before = Tokens { input: 3, output: 2, cache_read: 0, cache_creation: 4 };
        assert_eq!(now.since(before), Tokens { input: 2, output: 0, cache_read: 0, cache_creation: 5 });
        assert_eq!(now.total(), 15);
    }
}
