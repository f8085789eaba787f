//! The real runner against a daemon's end of the link played by the test, with the scripted agent and shell scripts.
//! What a cgroup changes is tried with and without one.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bad_days;
mod ending;
mod forecast;
mod harness;
mod hostile;
mod link;
mod locks;
mod repository;
mod samples;
#[path = "../skip/mod.rs"]
mod skip;
mod work;
mod worktree_bad_days;
mod worktree_messes;
mod worktrees;
