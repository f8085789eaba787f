//! Wire types, without logic: what the API and the runner link say to each other.

pub mod api;
mod api_queue;
pub mod audit;
pub mod link;
pub mod messages;
