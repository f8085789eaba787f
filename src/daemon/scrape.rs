//! What a scrape reads: the engine's state and the instances' cgroups.

use super::engine::State;
use crate::platform::cgroup::Group;
use std::path::Path;

/// The group that holds everything of an instance: its slice where it has one of its own, else its service.
pub(super) fn instance_group(mount: &Path, control_group: &str) -> Group {
    let service = mount.join(control_group.trim_start_matches('/'));
    match service.parent() {
        Some(slice) if slice.extension().is_some_and(|e| e == "slice") => Group::at(slice),
        _ => Group::at(service),
    }
}
pub(super) fn snapshot(_state: &State, _m: Option<&Path>) {}
