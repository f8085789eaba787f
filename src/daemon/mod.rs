//! The daemon: start-up, the engine that owns the queue, the link to the runners, the API's verbs.

pub mod args;
mod checkout;
mod engine;
mod fleet;
mod identity;
mod launch;
mod link;
mod log;
mod scrape;
mod service;
mod sockets;
mod start;
mod turn;
mod view;

pub use start::run;
