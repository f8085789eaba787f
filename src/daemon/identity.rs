//! Who is calling, as the kernel says: `SO_PEERCRED`, then the process's cgroup, then its unit, then the instance.

use super::engine::Input;
use crate::config::Config;
use crate::core::ids::{InstanceName, UNIT_PREFIX};
use crate::http::Peer;
use crate::http::service::{Caller, Role};
use crate::platform::cgroup;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

/// The sub-cgroup of an instance's service in which its runner lives, alone.
const RUNNER_GROUP: &str = "runner";

/// Answers who a process is.
pub(super) struct Identity {
    /// Under the process supervisor a runner is known by its process ID, which the supervisor has from its own fork.
    by_pid: Option<mpsc::Sender<Input>>,
    /// The uid of the daemon: in `--user` mode its own user is the operator.
    own_uid: u32,
    /// The uid of the instances' system user.
    agents_uid: Option<u32>,
    config: RwLock<Arc<Config>>,
}

impl Identity {
    /// `by_pid` is given under the process supervisor.
    pub(super) fn new(config: Arc<Config>, by_pid: Option<mpsc::Sender<Input>>) -> Self {
        let agents_uid = nix::unistd::User::from_name(UNIT_PREFIX).ok().flatten().map(|u| u.uid.as_raw());
        Self { by_pid, own_uid: nix::unistd::geteuid().as_raw(), agents_uid, config: RwLock::new(config) }
    }

    /// A new configuration is in force.
    pub(super) fn configure(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Whose usage limit an instance works under.
    pub(super) fn account(&self, name: &InstanceName) -> String {
        self.config.read().unwrap_or_else(PoisonError::into_inner).account(name)
    }

    /// The instance whose runner that process is, or why it is none.
    pub(super) async fn runner(&self, pid: u32) -> Result<InstanceName, String> {
        if let Some(engine) = &self.by_pid {
            let (reply, answer) = oneshot::channel();
            let look = Input::Ask(Box::new(move |state| drop(reply.send(state.fleet.with_main_pid(pid).cloned()))));
            engine.send(look).await.map_err(|_| "clauded is stopping".to_owned())?;
            let found = answer.await.map_err(|_| "clauded is stopping".to_owned())?;
            return found.ok_or_else(|| format!("process {pid} is not a runner that this clauded has started or adopted"));
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
        let path = match cgroup::of_process(peer.pid) {
            Ok(path) => path,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Gone already, or in another PID namespace: the kernel cannot say whose it was.
                return Caller { description: format!("uid {}, a process that cannot be seen", peer.uid), role: Role::Reader };
            }
            Err(_) => String::new(),
        };
        if let Some((name, _)) = instance_of(&path) {
            return Caller { description: format!("instance {name} (uid {}, process {})", peer.uid, peer.pid), role: Role::Agent(name) };
        }
        let description = format!("uid {}, process {}", peer.uid, peer.pid);
        // The socket's mode lets in root and the members of its group. The instances' own user is a member, so that runners and
        // agents can connect; outside of every unit it is an agent that has slipped away, and may only look.
        let slipped = self.agents_uid == Some(peer.uid) && peer.uid != self.own_uid;
        Caller { description, role: if slipped { Role::Reader } else { Role::Operator } }
    }
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
