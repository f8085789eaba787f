//! The Prometheus families: counters that the daemon feeds, and gauges read at scrape time from its snapshot, the instances'
//! cgroups and `/proc/self`. `docs/metrics.md` lists each of them, and a test holds the list against what is exported.

mod bounded;
mod fed;
mod groups;
mod locks;
mod page;
mod process;
mod snapshot;
#[cfg(test)]
mod tests;

pub use fed::Fed;
pub use groups::Numbers;
pub use snapshot::{InstanceSample, QueueSample, Snapshot};

use page::Page;
use prometheus::{Registry, TextEncoder};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reads all numbers of the cgroup in a directory. A group that does not exist has none.
pub type ReadGroup = Box<dyn Fn(&Path) -> Numbers + Send + Sync>;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Two families have one name, or a name is not one: a bug.
    #[error("metrics: {0}; please report it")]
    Family(#[from] prometheus::Error),
    /// The thread that read them went away.
    #[error("metrics: the scrape broke off: {0}; please report it")]
    BrokeOff(#[from] tokio::task::JoinError),
}

/// All metrics of one daemon. Derefs to [`Fed`], the counters that it feeds.
pub struct Metrics {
    registry: Registry,
    fed: Fed,
    read_group: ReadGroup,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How long the last text was: the next one will be about as long.
    length: AtomicUsize,
}

impl Metrics {
    /// All counters at zero. `read_group` is [`Numbers::reader`] but in tests.
    ///
    /// # Errors
    /// Two families have one name.
    pub fn new(read_group: impl Fn(&Path) -> Numbers + Send + Sync + 'static) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let fed = Fed::register(&registry)?;
        Ok(Self { registry, fed, read_group: Box::new(read_group), turn: Arc::default(), length: AtomicUsize::default() })
    }

    /// The text exposition, format 0.0.4. One scrape at a time, off the event loop: reading a cgroup can block in the kernel.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub async fn scrape(self: &Arc<Self>, snapshot: Snapshot) -> Result<String, MetricsError> {
        let turn = self.turn.clone().lock_owned().await;
        let metrics = self.clone();
        tokio::task::spawn_blocking(move || {
            let text = metrics.render(&snapshot);
            // Held by this thread and not by the caller, who may hang up.
            drop(turn);
            text
        })
        .await?
    }

    /// The text, at once and on this thread.
    ///
    /// # Errors
    /// A family is not well formed.
    pub fn render(&self, snapshot: &Snapshot) -> Result<String, MetricsError> {
        let length = self.length.load(Ordering::Relaxed);
        let mut text = String::with_capacity(length + length / 8);
        let mut page = Page::default();
        snapshot::add(&mut page, snapshot);
        groups::add(&mut page, snapshot, &self.read_group);
        process::add(&mut page, Path::new("/proc"));
        let encoder = TextEncoder::new();
        encoder.encode_utf8(&page.into_families(), &mut text)?;
        encoder.encode_utf8(&self.registry.gather(), &mut text)?;
        self.length.store(text.len(), Ordering::Relaxed);
        Ok(text)
    }
}

impl Deref for Metrics {
    type Target = Fed;

    fn deref(&self) -> &Fed {
        &self.fed
    }
}
