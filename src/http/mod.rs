//! The HTTP API: axum routes over [`service::Service`]. Knows nothing of SQL or D-Bus.

pub mod service;
