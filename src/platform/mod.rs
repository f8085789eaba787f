//! Adapters to the outside world, one per neighbour: the supervisors, the kernel, the store.

pub mod cgroup;
pub mod process;
pub mod store;
pub mod sys;
pub mod systemd;
pub mod units;
