//! The memory limits of instances that are raised for a task and set back: what bounds them, read from their cgroups, and the loop
//! that has the supervisor set them, one after the other.

use super::engine::{Input, State};
use super::scrape::instance_group;
use crate::core::ids::InstanceName;
use crate::core::instance::ActiveState;
use crate::core::limits::Limits;
use crate::core::size::{Bounds, Outcome, Raise};
use crate::platform::cgroup::Group;
use crate::platform::units::{UnitError, Units};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long to wait for a supervisor that is out of reach.
const PAUSE: Duration = Duration::from_secs(1);

/// A limit to be set.
pub(super) struct Order {
    /// The instance.
    pub(super) instance: InstanceName,
    /// From what to what.
    pub(super) raise: Raise,
    /// Set it back.
    pub(super) back: bool,
    /// The cgroup that it is in force on, if there is one.
    pub(super) group: Option<PathBuf>,
}

impl Order {
    fn limits(&self) -> Limits {
        if self.back { self.raise.down() } else { self.raise.up() }
    }

    /// What somebody else has set since it was raised, which is to stay. Without a cgroup nobody can tell.
    fn left(&self) -> Option<Outcome> {
        let group = self.group.as_ref().filter(|group| self.back && group.exists())?;
        let max = Group::at(group).caps().memory_max;
        let ours = self.raise.is_in_force(max) || max == Some(self.raise.max);
        (!ours).then_some(Outcome::Left(max))
    }
}

/// Sets limits in the order in which they were decided, and tells how it went.
pub(super) async fn perform(mut orders: mpsc::UnboundedReceiver<Order>, units: Units, engine: mpsc::Sender<Input>) {
    while let Some(order) = orders.recv().await {
        let outcome = loop {
            if let Some(left) = order.left() {
                break left;
            }
            match units.set_limits(&order.instance, order.limits()).await {
                Ok(_) => break Outcome::Done,
                Err(UnitError::Disconnected { .. }) if !engine.is_closed() => tokio::time::sleep(PAUSE).await,
                Err(error) => break Outcome::Failed(error.to_string()),
            }
        };
        tracing::info!(instance = %order.instance, back = order.back, "the memory limit of {}: {outcome:?}", order.instance);
        if engine.send(Input::Limited(order.instance, order.raise.attempt, order.back, outcome)).await.is_err() {
            return;
        }
    }
}

/// Tells the queue what bounds those instances whose limits may have to be raised.
pub(super) fn look(state: &mut State, mount: Option<&Path>) {
    for name in state.queue.wants_bounds() {
        look_at(state, mount, &name);
    }
}

/// Tells the queue what bounds an instance. Its runner may be connected before its supervisor has told of it.
pub(super) fn look_at(state: &mut State, mount: Option<&Path>, name: &InstanceName) {
    let seen = state.fleet.get(name).filter(|seen| seen.active == ActiveState::Active || !seen.control_group.is_empty());
    let bounds = seen.map(|seen| mount.filter(|_| !seen.control_group.is_empty()).map_or_else(Bounds::default, |mount| bounds(mount, &seen.control_group)));
    state.queue.memory_bounds(name, bounds);
}

/// The group that an instance's own limit is on.
pub(super) fn group(state: &State, mount: Option<&Path>, name: &InstanceName) -> Option<PathBuf> {
    let seen = state.fleet.get(name).filter(|seen| !seen.control_group.is_empty())?;
    Some(instance_group(mount?, &seen.control_group).path().to_owned())
}

/// What bounds the memory of the service whose group this is below `mount`. Without a memory controller nothing does.
fn bounds(mount: &Path, control_group: &str) -> Bounds {
    let service = mount.join(control_group.trim_start_matches('/'));
    let slice = instance_group(mount, control_group);
    // An instance without configuration has its limits on the service.
    let (inner, outer) = (Group::at(&service).caps(), slice.caps());
    let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    let around = slice.path().ancestors().skip(1).take_while(|path| *path != mount).filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().trim_start_matches('@').to_owned();
        Some((name, Group::at(path).caps().memory_max?))
    });
    Bounds { max: least(inner.memory_max, outer.memory_max), high: least(inner.memory_high, outer.memory_high), around: around.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{AttemptId, TaskId};
    use std::fs;

    /// A directory in the place of a mounted tree, with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn bounds_are_the_instances_own_and_all_around_it() {
        let root = tree(&[
            ("c.slice/memory.max", "max"),
            ("c.slice/c-t.slice/memory.max", "9000"),
            ("c.slice/c-t.slice/c-t-a.slice/memory.max", "5000"),
            ("c.slice/c-t.slice/c-t-a.slice/memory.high", "4000"),
            ("c.slice/c-t.slice/c-t-a.slice/c@t-a.service/memory.max", "max"),
        ]);
        let seen = bounds(root.path(), "/c.slice/c-t.slice/c-t-a.slice/c@t-a.service");
        assert_eq!(seen, Bounds { max: Some(5000), high: Some(4000), around: vec![("c-t.slice".to_owned(), 9000)] });
        fs::write(root.path().join("c.slice/c-t.slice/c-t-a.slice/c@t-a.service/memory.max"), "3000").expect("written");
        assert_eq!(bounds(root.path(), "/c.slice/c-t.slice/c-t-a.slice/c@t-a.service").max, Some(3000));
        assert_eq!(bounds(root.path(), "/none/x"), Bounds::default(), "no controller");
    }

    #[test]
    fn the_process_supervisors_groups_count_like_slices() {
        let root = tree(&[("x/clauded-1/memory.max", "9000"), ("x/clauded-1/@t/memory.max", "7000"), ("x/clauded-1/@t/t-a/memory.max", "5000")]);
        let around = vec![("t".to_owned(), 7000), ("clauded-1".to_owned(), 9000)];
        assert_eq!(bounds(root.path(), "/x/clauded-1/@t/t-a"), Bounds { max: Some(5000), high: None, around });
    }

    #[test]
    fn what_somebody_has_set_meanwhile_stays() {
        let root = tree(&[("g/memory.max", "40960")]);
        let raise = Raise { attempt: AttemptId { task: TaskId(1), number: 2 }, memory: 40960, max: 8192, high: None };
        let order = |back| Order { instance: "a".parse().expect("a name"), raise: raise.clone(), back, group: Some(root.path().join("g")) };
        assert_eq!((order(true).left(), order(false).left()), (None, None));
        fs::write(root.path().join("g/memory.max"), "81920").expect("written");
        assert_eq!((order(true).left(), order(false).left()), (Some(Outcome::Left(Some(81920))), None));
        fs::write(root.path().join("g/memory.max"), "8192").expect("written");
        assert_eq!(order(true).left(), None, "memory.high may still have to follow");
    }
}
