//! Random schedules against the queue's invariants.
