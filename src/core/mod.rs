//! The domain, pure: names, limits, tasks, verdicts, the queue and what follows from what.
//! No I/O, no clock, no runtime: time comes as an argument, effects leave as data.

pub mod attempt;
pub mod audit;
pub mod checkout;
pub mod coupling;
pub mod delivery;
pub mod forecast;
pub mod ids;
pub mod instance;
pub mod label;
pub mod limits;
pub mod lock;
pub mod message;
pub mod order;
pub mod plan;
pub mod pool;
pub mod profile;
pub mod queue;
pub mod refname;
pub mod retry;
pub mod schedule;
pub mod size;
pub mod task;
pub mod team;
pub mod terms;
pub mod usage;
pub mod verdict;
pub mod worktree;
