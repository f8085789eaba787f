//! What is counted of locks.

use super::fed::register;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// The counters of locks.
pub(super) struct LockCounters {
    wait: HistogramVec,
    refusals: IntCounterVec,
}

impl LockCounters {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let buckets = vec![0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];
        let wait = HistogramOpts::new("clauded_lock_wait_seconds", "How long requests for locks have waited, by what came of it.").buckets(buckets);
        let refusals = Opts::new("clauded_lock_refusals_total", "Requests for locks that were refused, by why.");
        Ok(Self { wait: register(registry, HistogramVec::new(wait, &["outcome"]))?, refusals: register(registry, IntCounterVec::new(refusals, &["cause"]))? })
    }

    pub(super) fn waited(&self, time: Duration, granted: bool) {
        self.wait.with_label_values(&[if granted { "granted" } else { "refused" }]).observe(time.as_secs_f64());
    }

    pub(super) fn refused(&self, cause: &str) {
        self.refusals.with_label_values(&[cause]).inc();
    }
}
