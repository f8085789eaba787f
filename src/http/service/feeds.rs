//! What is told of the daemon itself and of what happens.

use super::Answer;
use crate::proto::api;
use tokio::sync::broadcast;

/// What is told of the daemon itself and of what happens.
pub trait Feeds: Send + Sync {
    /// Events with a number above `after`, oldest first, at most `limit`.
    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<api::Event>>;
    /// Events as they happen.
    fn subscribe(&self) -> broadcast::Receiver<api::Event>;
    /// The daemon's own state.
    fn health(&self) -> Answer<'_, api::Health>;
    /// The Prometheus text exposition, format 0.0.4.
    fn metrics(&self) -> Answer<'_, String>;
    /// Counts an answered request: the route's template, the method, the status.
    fn count_request(&self, route: &str, method: &str, status: u16);
}
