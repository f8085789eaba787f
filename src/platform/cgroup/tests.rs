//! Tests of groups: on the kernel's own where a v2 tree is writable, and of the text of `/proc/PID/cgroup`.

use super::*;
use std::process::{Child, Command, Stdio};

/// A group of the test's own, taken away with all in it.
pub(in crate::platform) struct Scratch(Group);

impl Scratch {
    /// `None` (a skip) where no v2 tree is writable.
    pub(in crate::platform) fn new(name: &str) -> Option<Self> {
        let own = of_process(std::process::id()).expect("own cgroup");
        let made = mount().map(|m| Group::at(m.join(own.trim_start_matches('/'))).child(&format!("clauded-test-{name}-{}", std::process::id())));
        match made {
            Some(Ok(group)) => Some(Self(group)),
            other => {
                crate::skip::skip(&format!("cgroup {name}: no writable cgroup v2 tree here: {other:?}"));
                None
            }
        }
    }

    /// The group.
    pub(in crate::platform) fn group(&self) -> &Group {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.kill_each();
        let _ = self.0.remove();
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleep")
}

#[test]
fn the_unified_line_is_found_among_v1_lines() {
    assert_eq!(unified_line("8:pids:/x\n1:name=systemd:/y\n0::/claude.slice/a.service\n"), Some("/claude.slice/a.service"));
    assert_eq!(unified_line("8:pids:/x\n"), None);
    assert!(of_process(u32::MAX).is_err_and(|e| e.to_string().contains("read /proc/4294967295/cgroup")));
}

#[test]
fn a_group_that_does_not_exist_is_empty() {
    let group = Group::at("/nonexistent/group");
    assert!(!group.populated().expect("no error"));
    assert!(group.processes().expect("no error").is_empty());
    group.kill().expect("nothing to do");
    group.remove().expect("nothing to do");
    assert!(group.enter(1).is_err_and(|e| e.to_string().contains("/nonexistent/group/cgroup.procs")));
    assert!(Group::at("/tmp").child("../x").is_err_and(|e| e.kind() == io::ErrorKind::InvalidInput));
}

#[tokio::test]
async fn a_tree_of_groups_is_seen_killed_and_removed() {
    let Some(scratch) = Scratch::new("kill") else { return };
    let (outer, inner) = (&scratch.0, scratch.0.child("inner").expect("made"));
    let mut processes = [sleeper(), sleeper()];
    outer.enter(processes[0].id()).expect("moved");
    inner.enter(processes[1].id()).expect("moved");
    assert!(outer.populated().expect("read"));
    let mut seen = outer.processes().expect("read");
    seen.sort_unstable();
    let mut wanted = [processes[0].id(), processes[1].id()];
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    assert!(outer.remove().is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy), "a group with processes was removed");
    assert!(of_process(processes[1].id()).expect("its group").ends_with("/inner"));
    outer.kill().expect("killed");
    tokio::time::timeout(Duration::from_secs(10), outer.emptied()).await.expect("in time").expect("emptied");
    assert!(!outer.populated().expect("read"));
    for process in &mut processes {
        assert!(!process.wait().expect("waited").success());
    }
    outer.remove().expect("removed");
    assert!(!outer.path().exists());
}

#[test]
fn without_cgroup_kill_each_is_signalled() {
    let Some(scratch) = Scratch::new("each") else { return };
    let mut process = sleeper();
    scratch.0.enter(process.id()).expect("moved");
    scratch.0.kill_each().expect("killed");
    assert!(!scratch.0.populated().expect("read"));
    process.wait().expect("waited");
}

#[test]
fn controllers_are_not_enabled_over_processes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name);
    for (name, text) in
        [("cgroup.type", "domain\n"), ("cgroup.procs", "7\n"), ("cgroup.controllers", "cpuset cpu io memory pids\n"), ("cgroup.subtree_control", "")]
    {
        fs::write(file(name), text).expect("written");
    }
    let group = Group::at(directory.path());
    assert!(group.enable_controllers().is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy));
    assert_eq!(fs::read_to_string(file("cgroup.subtree_control")).expect("read"), "");
    fs::write(file("cgroup.procs"), "").expect("written");
    // In a plain file each word lies over the one before; the kernel's adds them up.
    assert_eq!(group.enable_controllers().expect("enabled"), ["+pidsry"]);
}
