//! The real daemon with the process supervisor, real runners and the scripted agent, driven by the real claudectl.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops where it fails")]

mod audit;
mod bad_days;
mod chaos;
mod locks;
mod messages;
mod metrics;
#[path = "../skip/mod.rs"]
mod skip;
mod tasks;
mod teams;
mod worktrees;
mod world;
