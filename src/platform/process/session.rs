//! What a runner without a cgroup leaves behind: the processes of its session, and those that carry its invocation in their
//! environment. A process that did away with both is not found, which is why a cgroup is better.

use crate::core::ids::InvocationId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;

/// Rounds of looking and killing: whoever was being forked during one is found in the next.
const ROUNDS: usize = 10;

/// Ends all that is left of a runner's session.
pub(super) fn kill(session: u32, invocation: &InvocationId) {
    for _ in 0..ROUNDS {
        let mut killed = Vec::new();
        for pid in members(session, invocation) {
            let Some(handle) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
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
    tracing::warn!(session, "processes of a runner could not be ended");
}

fn members(session: u32, invocation: &InvocationId) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_member(*pid, session, invocation)).collect()
}

fn is_member(pid: i32, session: u32, invocation: &InvocationId) -> bool {
    let Some(fields) = fs::read_to_string(format!("/proc/{pid}/stat")).ok() else { return false };
    let mut fields = fields.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    // proc_pid_stat(5): state, parent, process group, session.
    let (state, of) = (fields.next(), fields.nth(2).and_then(|field| field.parse::<u32>().ok()));
    if matches!(state, Some("Z" | "X") | None) {
        return false;
    }
    let wanted = format!("INVOCATION_ID={invocation}");
    of == Some(session) || fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| all.split(|b| *b == 0).any(|one| one == wanted.as_bytes()))
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
            .args(["-c", "setsid sleep 1000 & echo $!; env -u INVOCATION_ID sleep 1000 & exec sleep 1000"])
            .env("INVOCATION_ID", invocation.as_str())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert!(members(u32::MAX, &invocation).len() >= 2, "{:?}", members(u32::MAX, &invocation));
        kill(u32::MAX, &invocation);
        assert!(members(u32::MAX, &invocation).is_empty());
        child.wait().expect("waited");
        // The one without the environment is in this test's session, so it is not ours to find; end it by its group.
        let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
    }
}
