//! The real Claude Code CLI, run by the real runner and by the whole clauded, against a scripted Messages API on loopback.
//! The CLI comes from npm by name, once, into `target/tools`; without npm this layer is skipped aloud, and fails in CI.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod api;
mod doctor;
mod ending;
mod failures;
mod fleet;
#[path = "../runner/harness.rs"]
#[allow(dead_code, reason = "shared with tests/runner")]
mod harness;
mod likeness;
mod limits;
mod locks;
mod messages;
mod people;
mod plans;
mod program;
mod reply;
mod root;
#[path = "../skip/mod.rs"]
mod skip;
mod stage;
mod trust;
mod work;
#[path = "../it/world.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod world;
