//! Who is calling, as the kernel says: `SO_PEERCRED`, then the process's cgroup, then its unit, then the instance.

use super::runners::Runners;
use crate::config::Config;
use crate::core::audit::{Actor, Who};
use crate::core::ids::{InstanceName, TaskId, UNIT_PREFIX};
use crate::core::instance::RUNNER_GROUP;
use crate::http::Peer;
use crate::http::service::{Caller, Role};
use crate::platform::cgroup;
use nix::unistd::{Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// Answers who a process is.
pub(super) struct Identity {
    /// Under the process supervisor a runner is known by its process ID.
    runners: Option<Arc<Runners>>,
    /// The uid of the daemon: in `--user` mode its own user is the operator.
    own_uid: u32,
    config: Arc<RwLock<Arc<Config>>>,
}

impl Identity {
    /// `config` is the one that all share; `runners` is given under the process supervisor.
    pub(super) fn new(config: Arc<RwLock<Arc<Config>>>, runners: Option<Arc<Runners>>) -> Self {
        Self { runners, own_uid: nix::unistd::geteuid().as_raw(), config }
    }

    /// A new configuration is in force, for all who share it.
    pub(super) fn configure(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Whose usage limit an instance works under.
    pub(super) fn account(&self, name: &InstanceName) -> String {
        self.config.read().unwrap_or_else(PoisonError::into_inner).account(name)
    }

    /// The instance whose runner that process is, or why it is none.
    pub(super) fn runner(&self, pid: u32) -> Result<InstanceName, String> {
        if let Some(runners) = &self.runners {
            return runners.with_pid(pid).ok_or_else(|| format!("process {pid} is not a runner that this clauded has started or adopted"));
        }
        let path = cgroup::of_process(pid).map_err(|e| format!("the cgroup of process {pid} cannot be read: {e}"))?;
        match instance_of(&path) {
            Some((name, RUNNER_GROUP)) => Ok(name),
            Some((name, _)) => Err(format!("only the runner of {name} may speak here, and process {pid} is in {path}")),
            None => Err(format!("process {pid} is not in a {UNIT_PREFIX}@ unit but in {path}")),
        }
    }

    /// Who calls the API over the Unix socket.
    pub(super) fn caller(&self, peer: Peer) -> Caller {
        let path = cgroup::of_process(peer.pid);
        let trusted = peer.uid == 0 || peer.uid == self.own_uid;
        let role = match self.runners.as_ref().and_then(|runners| runners.around(peer.pid)) {
            Some(name) => Role::Agent(name),
            None => role(path.as_deref(), trusted, || is_member(peer.uid) && !self.runs_agents(peer.uid)),
        };
        let description = match (&role, &path) {
            (Role::Agent(name), _) => format!("instance {name} (uid {}, process {})", peer.uid, peer.pid),
            (Role::Reader, Err(_)) => format!("uid {}, a process that cannot be seen", peer.uid),
            _ => format!("uid {}, process {}", peer.uid, peer.pid),
        };
        let who = match &role {
            Role::Agent(name) => {
                let below = self.runners.as_ref().map_or_else(
                    || path.as_deref().ok().and_then(instance_of).map(|(_, below)| below),
                    |runners| path.as_deref().ok().and_then(|path| runners.below(name, path)),
                );
                Who::Agent { instance: name.clone(), task: below.and_then(task_of), uid: peer.uid, pid: peer.pid }
            }
            Role::Operator | Role::Reader => {
                let name = User::from_uid(Uid::from_raw(peer.uid)).ok().flatten().map(|user| user.name);
                Who::User { uid: peer.uid, name, pid: peer.pid }
            }
        };
        Caller { description, actor: Actor::local(who), role }
    }

    /// Whether instances run as that user. Its agents can leave their unit (a user manager, a job of cron's), so that being in
    /// none says nothing.
    fn runs_agents(&self, uid: u32) -> bool {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let named = config.instances.values().filter_map(|instance| instance.user.as_deref());
        named.chain([UNIT_PREFIX]).any(|name| match name.parse::<u32>() {
            Ok(number) => uid == number,
            Err(_) => User::from_name(name).ok().flatten().is_some_and(|user| user.uid.as_raw() == uid),
        })
    }
}

/// What a process may do, by its cgroup and, outside of all instances, by its user. Where the kernel does not say which cgroup
/// it is in, it may be an agent's.
fn role(path: Result<&str, &io::Error>, trusted: bool, member: impl FnOnce() -> bool) -> Role {
    match path.map(instance_of) {
        Ok(Some((name, _))) => Role::Agent(name),
        Ok(None) if trusted || member() => Role::Operator,
        // Without cgroup v2 there are no units to be told apart, and no line for it.
        Err(error) if error.kind() == io::ErrorKind::InvalidData && trusted => Role::Operator,
        Ok(None) | Err(_) => Role::Reader,
    }
}

/// Whether the administrator has put that user into the group (group(5)). What groups a process has says less: systemd gives
/// every instance's processes this one.
fn is_member(uid: u32) -> bool {
    let Some(group) = Group::from_name(UNIT_PREFIX).ok().flatten() else { return false };
    let Some(user) = User::from_uid(Uid::from_raw(uid)).ok().flatten() else { return false };
    CString::new(user.name).is_ok_and(|name| getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid)))
}

/// The instance of a cgroup path and what is left of the path below its service.
///
/// The first component that is one of our services counts: below it the tree belongs to the instance, which may name groups
/// there as it likes. Users and machines may do the same below their own slices, so those do not count either.
fn instance_of(path: &str) -> Option<(InstanceName, &str)> {
    let path = path.strip_prefix('/')?;
    if ["user.slice/", "machine.slice/"].iter().any(|theirs| path.starts_with(theirs)) && !is_own_user_manager(path) {
        return None;
    }
    let mut rest = path;
    loop {
        let (component, below) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some(name) = InstanceName::from_unit(component) {
            return Some((name, below));
        }
        if below.is_empty() {
            return None;
        }
        rest = below;
    }
}

/// The task whose cgroup that is, below an instance's.
fn task_of(below: &str) -> Option<TaskId> {
    below.split('/').next()?.strip_prefix("task-")?.parse().ok().map(TaskId)
}

/// Whether the path is below the user manager that this daemon itself runs under (`clauded --user`).
fn is_own_user_manager(path: &str) -> bool {
    let uid = nix::unistd::geteuid().as_raw();
    uid != 0 && path.starts_with(&format!("user.slice/user-{uid}.slice/user@{uid}.service/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(String, &str)> {
        instance_of(path).map(|(name, rest)| (name.to_string(), rest))
    }

    #[test]
    fn a_runner_and_a_task_are_told_apart() {
        let service = "/claude.slice/claude-code.slice/claude-code-a.slice/claude-code@a.service";
        assert_eq!(found(&format!("{service}/runner")), Some(("a".to_owned(), "runner")));
        assert_eq!(found(&format!("{service}/task-7")), Some(("a".to_owned(), "task-7")));
        assert_eq!(found(service), Some(("a".to_owned(), "")));
        assert_eq!(found("/system.slice/ssh.service"), None);
        assert_eq!(found("/"), None);
    }

    #[test]
    fn outside_of_all_instances_the_user_decides_and_without_a_cgroup_nobody_but_root_is_trusted() {
        let role = |path: Result<&str, io::ErrorKind>, trusted, member| {
            let path = path.map_err(io::Error::from);
            super::role(path.as_ref().copied(), trusted, || member)
        };
        let (inside, outside) = (Ok("/claude.slice/claude-code@a.service/task-1"), Ok("/user.slice/user-1000.slice/session-1.scope"));
        assert_eq!(role(inside, true, true), Role::Agent("a".parse().expect("valid")), "whatever its user");
        assert_eq!([role(outside, true, false), role(outside, false, true), role(outside, false, false)], [Role::Operator, Role::Operator, Role::Reader]);
        // ESRCH, as of a child that was reaped between open(2) and read(2), has no kind of its own.
        for error in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            assert_eq!(role(Err(error), true, true), Role::Reader, "{error:?}");
        }
        let no_v2 = Err(io::ErrorKind::InvalidData);
        assert_eq!([role(no_v2, true, false), role(no_v2, false, true)], [Role::Operator, Role::Reader]);
    }

    #[test]
    fn a_user_whom_instances_run_as_is_known_by_name_and_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("clauded.toml");
        std::fs::write(&config, "[instances.a]\nuser = \"nobody\"\n[instances.b]\nuser = \"4711\"\n").expect("written");
        let config = Config::load(&crate::config::Paths { config, ..crate::config::Paths::system() }).expect("valid");
        let identity = Identity::new(Arc::new(RwLock::new(Arc::new(config))), None);
        let nobody = User::from_name("nobody").expect("looked up").expect("there").uid.as_raw();
        assert_eq!([nobody, 4711, 4712].map(|uid| identity.runs_agents(uid)), [true, true, false]);
    }

    #[test]
    fn an_agent_cannot_pose_as_another_instance() {
        let below = "/claude.slice/claude-code.slice/claude-code-a.slice/claude-code@a.service/claude-code@b.service/runner";
        assert_eq!(found(below), Some(("a".to_owned(), "claude-code@b.service/runner")));
    }

    #[test]
    fn a_user_cannot_pose_as_an_instance() {
        assert_eq!(found("/user.slice/user-0.slice/user@0.service/claude-code@b.service/runner"), None);
        assert_eq!(found("/machine.slice/x.scope/claude-code@b.service/runner"), None);
    }
}
