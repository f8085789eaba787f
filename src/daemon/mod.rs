//! The daemon: start-up, the engine that owns the queue, the link to the runners, the API's verbs.

pub mod args;
mod audit;
mod capacity;
mod checkout;
mod desk;
mod engine;
mod fleet;
mod forecast;
mod headway;
mod identity;
mod jobs;
mod launch;
mod link;
mod log;
mod mail;
mod plans;
mod retire;
mod rules;
mod runners;
mod schedules;
mod scrape;
mod sizes;
mod sockets;
mod start;
mod supervise;
mod turn;
mod verbs;
mod view;

pub use start::run;
