//! The real claudectl against a fake clauded: exit codes, JSON, following, waiting, and what happens when nobody answers.

mod answers;
mod fake;
mod follow;
mod refusals;
mod tasks;
