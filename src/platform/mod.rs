//! Adapters to the outside world, one per neighbour: the supervisors, the kernel, the journal, the store.

pub mod cgroup;
pub mod child;
pub mod durable;
pub mod journal;
pub mod machine;
pub mod proc;
pub mod process;
pub mod store;
pub mod sys;
pub mod systemd;
pub mod units;
