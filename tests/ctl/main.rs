//! The real claudectl against a fake clauded: exit codes, JSON, following, waiting, and what happens when nobody answers.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests; clippy sees only #[test] functions as such")]

mod answers;
mod fake;
mod follow;
mod refusals;
mod tasks;
mod terminal;
