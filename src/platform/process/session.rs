//! What a runner without a cgroup leaves behind: the processes of its session, and those that carry its invocation in their
//! environment. A process that did away with both is not found, which is why a cgroup is better.

use crate::core::ids::InvocationId;
use crate::platform::proc::{self, Stat, began};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;

/// Rounds of looking and killing: whoever was being forked during one is found in the next.
const ROUNDS: usize = 10;

/// Ends all that is left of a runner: of the session of process `pid`, if that began then, and of its invocation.
pub(super) fn kill(pid: u32, start: u64, invocation: &InvocationId) {
    for _ in 0..ROUNDS {
        // A number is given out again once nobody has it. Whoever has it now is then a stranger, and so is the session.
        let session = (pid != 0 && began(pid).is_none_or(|now| now == start)).then_some(pid);
        let mut killed = Vec::new();
        for pid in members(session, invocation) {
            let Some(handle) = i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
            // The handle is of whoever has the number now: ask again.
            if is_member(pid, session, invocation) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
                killed.push(handle);
            }
        }
        if killed.is_empty() {
            return;
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        for handle in &killed {
            // A process in uninterruptible sleep dies when it wakes; the next round sees it again.
            let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&second));
        }
    }
    tracing::warn!(pid, "processes of a runner could not be ended");
}

/// The runner of an invocation and when it began, if it lives: of those with that environment the first that leads a session.
pub(super) fn leader(invocation: &InvocationId) -> Option<(u32, u64)> {
    let all = members(None, invocation).into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?)));
    all.filter(|(pid, stat)| stat.session == *pid).map(|(pid, stat)| (pid, stat.began)).min_by_key(|(_, start)| *start)
}

fn members(session: Option<u32>, invocation: &InvocationId) -> Vec<u32> {
    proc::all().filter(|pid| is_member(*pid, session, invocation)).collect()
}

fn is_member(pid: u32, session: Option<u32>, invocation: &InvocationId) -> bool {
    let Some(stat) = Stat::of(pid) else { return false };
    let wanted = format!("INVOCATION_ID={invocation}");
    let has_it = || fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| all.split(|b| *b == 0).any(|one| one == wanted.as_bytes()));
    !stat.ended && (Some(stat.session) == session || has_it())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn who_left_the_session_is_known_by_its_environment() {
        let invocation: InvocationId = uuid::Uuid::new_v4().to_string().parse().expect("an ID");
        let mut child = Command::new("sh")
            // While a process becomes a program it has no environment for a moment: each says that it is there.
            .args(["-c", "exec 3<&0; setsid sh -c 'echo; read end <&3' & env -u INVOCATION_ID sleep 1000 & echo; read end"])
            .env("INVOCATION_ID", invocation.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        for _ in 0..2 {
            said.read_line(&mut String::new()).expect("a line");
        }
        assert!(members(None, &invocation).len() >= 2, "{:?}", members(None, &invocation));
        kill(0, 0, &invocation);
        assert!(members(None, &invocation).is_empty());
        child.wait().expect("waited");
        // The one without the environment is in this test's session, so it is not ours to find; end it by its group.
        let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
    }

    #[test]
    fn a_session_is_spared_when_its_number_is_a_strangers_by_now() {
        let invocation: InvocationId = uuid::Uuid::new_v4().to_string().parse().expect("an ID");
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null());
        let setup = crate::platform::sys::BeforeExec { cgroup: None, oom_score_adj: None, data_limit: None, new_session: true };
        crate::platform::sys::before_exec(&mut command, setup);
        let mut stranger = command.spawn().expect("sleep");
        let start = began(stranger.id()).expect("alive");
        kill(stranger.id(), start - 1, &invocation);
        assert!(stranger.try_wait().expect("waited").is_none(), "a stranger was killed");
        kill(stranger.id(), start, &invocation);
        assert!(!stranger.wait().expect("waited").success());
    }

    #[test]
    fn a_runner_is_found_by_its_invocation() {
        let invocation: InvocationId = uuid::Uuid::new_v4().to_string().parse().expect("an ID");
        assert_eq!(leader(&invocation), None);
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & setsid sleep 1000 & echo; wait"]).env("INVOCATION_ID", invocation.as_str()).stdout(Stdio::piped());
        let setup = crate::platform::sys::BeforeExec { cgroup: None, oom_score_adj: None, data_limit: None, new_session: true };
        crate::platform::sys::before_exec(&mut command, setup);
        let mut runner = command.spawn().expect("sh");
        BufReader::new(runner.stdout.take().expect("piped")).read_line(&mut String::new()).expect("a line");
        assert_eq!(leader(&invocation), began(runner.id()).map(|start| (runner.id(), start)));
        kill(0, 0, &invocation);
        runner.wait().expect("waited");
    }
}
