//! clauded runs fleets of Claude Code agents on Linux hosts the way systemd runs services.
//!
//! The map, top down; a module may use those below it and not beside or above it (`tests/layers.rs` holds it to that).
//! The programs in `src/bin` are ten lines each over one of `daemon`, `runner`, `ctl`, `generator`.

/// `claudectl`: the command line, a client of the API.
pub mod ctl;
/// `clauded`: start-up, the loop that owns the queue, the link to the runners.
pub mod daemon;
/// `clauded-generator`: configuration to systemd drop-ins, at boot and daemon-reload.
pub mod generator;
/// `clauded-runner`: supervises one instance's agent, in the instance's worktree, as the instance's user.
pub mod runner;

/// The HTTP API: axum routes over the daemon's handle. Sees no SQL and no D-Bus.
pub mod http;
/// The Prometheus families and where their numbers come from.
pub mod metrics;

/// `/etc/clauded`: text to a checked [`config::Config`], with all problems at once.
pub mod config;
/// The outside world: systemd, processes, cgroups, the store, the clock. The only `unsafe` is in its `sys`.
pub mod platform;
/// What goes over the wire: the API's and the runner link's types.
pub mod proto;

/// The domain, pure.
pub mod core;

#[cfg(test)]
#[path = "../tests/skip/mod.rs"]
mod skip;
