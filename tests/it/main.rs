//! The real daemon with the process supervisor, real runners and the scripted agent, driven by the real claudectl.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops where it fails")]

mod audit;
mod bad_days;
mod chaos;
mod coordination;
mod forecast;
mod kills;
mod lock_waits;
mod locks;
mod mcp;
mod messages;
mod metrics;
mod plans;
mod queue;
mod repositories;
mod schedules;
#[path = "../skip/mod.rs"]
mod skip;
mod tasks;
mod teams;
mod workflow;
mod worktrees;
mod world;
