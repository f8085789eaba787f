//! Looks at the fleet's slice for the queue's admission: only while somebody is free to start something, at most once a second.

use super::engine::State;
use super::scrape::instance_group;
use crate::core::queue::Capacity;
use crate::platform::cgroup::Group;
use jiff::Timestamp;
use std::path::Path;

/// Tells the queue what the fleet has, if it wants to know. Without a cgroup to look at nothing waits for memory.
pub(super) fn look(state: &mut State, mount: Option<&Path>, now: Timestamp) {
    if !state.queue.wants_capacity(now) {
        return;
    }
    let Some((mount, group)) = mount.zip(state.fleet.control_group()) else { return state.queue.capacity(None) };
    let seen = capacity(mount, group, now);
    let loads = state.queue.wants_loads().into_iter().map(|name| {
        let group = state.fleet.get(&name).map(|seen| seen.control_group.clone()).unwrap_or_default();
        let load = load(&instance_group(mount, &group));
        (name, load)
    });
    let loads = loads.collect();
    state.queue.loads(loads);
    state.queue.capacity(seen);
}

/// What the group below `mount` has: the lowest bound on the way to the root, its own use, its own pressure.
fn capacity(mount: &Path, group: &str, now: Timestamp) -> Option<Capacity> {
    let path = Path::new(group.trim_start_matches('/'));
    let needs = Group::at(mount.join(path)).memory();
    let limit = path.ancestors().filter(|part| !part.as_os_str().is_empty()).filter_map(|part| Group::at(mount.join(part)).memory().limit).min();
    Some(Capacity { at: now, limit, used: needs.used?, pressure: needs.pressure.unwrap_or(0.0) })
}

/// How loaded a slice is: the share of its memory that is used, and the time that its tasks waited for memory, per mille each.
fn load(group: &Group) -> u64 {
    let memory = group.memory();
    let used = memory.used.zip(memory.limit).map_or(0, |(used, limit)| used.saturating_mul(1000) / limit.max(1));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate; not negative")]
    let stalled = (memory.pressure.unwrap_or(0.0) * 10.0).max(0.0) as u64;
    used.saturating_add(stalled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_lowest_bound_on_the_way_counts_and_cache_does_not() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("outer.slice/inner.slice");
        fs::create_dir_all(&inner).expect("made");
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).expect("written");
        write("outer.slice/memory.max", "5000\n");
        write("outer.slice/inner.slice/memory.max", "max\n");
        write("outer.slice/inner.slice/memory.high", "8000\n");
        write("outer.slice/inner.slice/memory.current", "3000\n");
        write("outer.slice/inner.slice/memory.stat", "anon 1000\nfile 2000\ninactive_file 1500\n");
        write("outer.slice/inner.slice/memory.pressure", "some avg10=12.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        let now = Timestamp::UNIX_EPOCH;
        let seen = capacity(root.path(), "/outer.slice/inner.slice", now);
        assert_eq!(seen, Some(Capacity { at: now, limit: Some(5000), used: 1500, pressure: 12.5 }));
        assert_eq!(capacity(root.path(), "/none.slice", now), None);
        assert_eq!(load(&Group::at(inner)), 1500 * 1000 / 8000 + 125);
    }
}
