//! The host itself: systemd, cgroups, the account, git, disks.

use super::{Check, Host, Verdict, ok, problem, warning};
use crate::config::Supervisor;
use crate::core::ids::UNIT_PREFIX;
use crate::ctl::program::{SERVICE_PATH, ask, find};
use crate::ctl::quantity::bytes;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// The oldest systemd that the units are written for.
const SYSTEMD_MIN: u32 = 247;
/// Controllers without which a limit does nothing.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
/// Less free space than this is a problem: the store refuses new tasks when its disk is full.
const DISK_PROBLEM: u64 = 500 << 20;
/// Less than this is a warning: a few worktrees and build directories.
const DISK_WARNING: u64 = 5 << 30;

pub(super) async fn systemd(host: &Host<'_>) -> Check {
    const SUBJECT: &str = "systemd";
    if !host.booted {
        let forced = host.config.as_ref().is_some_and(|c| matches!(c.fleet.supervisor, Supervisor::Systemd | Supervisor::SystemdUser));
        let found = "systemd does not run here";
        return if forced {
            problem(SUBJECT, found, "boot with systemd, or set [fleet] supervisor = \"process\"")
        } else {
            warning(
                SUBJECT,
                found,
                "clauded supervises the agents itself (supervisor = \"process\"); under WSL2 put \"[boot]\" and \"systemd=true\" into /etc/wsl.conf",
            )
        };
    }
    let Some(systemctl) = find("systemctl", SERVICE_PATH) else { return problem(SUBJECT, "there is no systemctl", "install the package systemd") };
    let mut command = Command::new(systemctl);
    command.arg("--version");
    match ask(command, Duration::from_secs(5)).await {
        Ok(answer) => systemd_version(&answer.text),
        Err(error) => problem(SUBJECT, error, "look at: systemctl status"),
    }
}

fn systemd_version(text: &str) -> Check {
    let first = text.lines().next().unwrap_or_default();
    let number = first.split_whitespace().nth(1).and_then(|n| n.split(['.', '~', '-']).next()).and_then(|n| n.parse::<u32>().ok());
    match number {
        Some(number) if number >= SYSTEMD_MIN => ok("systemd", first),
        Some(_) => problem("systemd", format!("{first} is too old"), format!("clauded needs systemd {SYSTEMD_MIN} or newer (Debian 11, Ubuntu 22.04)")),
        None => warning("systemd", format!("systemctl --version says {first:?}"), format!("clauded needs systemd {SYSTEMD_MIN} or newer")),
    }
}

pub(super) fn cgroups(host: &Host<'_>) -> Check {
    let group =
        if host.user { format!("/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service", nix::unistd::getuid()) } else { "/sys/fs/cgroup".to_owned() };
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok();
    let wsl = fs::read_to_string("/proc/version").is_ok_and(|v| v.to_ascii_lowercase().contains("microsoft"));
    let controllers = fs::read_to_string(Path::new(&group).join("cgroup.controllers")).ok();
    let check = cgroup_verdict(unified, wsl, host.user, controllers.as_deref());
    // Without systemd clauded goes on with rlimits, and says so itself.
    if host.booted || check.verdict != Verdict::Problem { check } else { Check { verdict: Verdict::Warning, ..check } }
}

fn cgroup_verdict(unified: bool, wsl: bool, user: bool, controllers: Option<&str>) -> Check {
    const SUBJECT: &str = "cgroups";
    if !unified {
        let advice = if wsl {
            "in Windows put \"[wsl2]\" and \"kernelCommandLine=cgroup_no_v1=all\" into %UserProfile%\\.wslconfig, then: wsl --shutdown"
        } else {
            "boot the kernel with systemd.unified_cgroup_hierarchy=1; in a container give it its own cgroup v2 tree"
        };
        return problem(SUBJECT, "cgroup v2 is not mounted at /sys/fs/cgroup: limits cannot be enforced", advice);
    }
    let Some(controllers) = controllers else {
        return warning(
            SUBJECT,
            "cgroup v2, but your systemd (user@.service) has no cgroup here",
            "log in through systemd-logind (not su), or run the system's clauded",
        );
    };
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|c| !controllers.split_whitespace().any(|have| have == *c)).collect();
    match (missing.is_empty(), user) {
        (true, _) => ok(SUBJECT, format!("cgroup v2 with {}", controllers.trim())),
        (false, true) => warning(
            SUBJECT,
            format!("cgroup v2, but your systemd has no {}: these limits do nothing", missing.join(", ")),
            "delegate them: put \"[Service]\" and \"Delegate=cpu io memory pids\" into /etc/systemd/system/user@.service.d/delegate.conf, then reboot",
        ),
        (false, false) => problem(
            SUBJECT,
            format!("cgroup v2, but without {}: these limits do nothing", missing.join(", ")),
            "free them from cgroup v1 (boot with cgroup_no_v1=all), or enable them in the kernel (cgroup_enable=memory)",
        ),
    }
}

/// The system's clauded runs the agents as a user of their own.
pub(super) fn account(host: &Host<'_>) -> Option<Check> {
    const SUBJECT: &str = "account";
    if host.user {
        return None;
    }
    Some(match nix::unistd::User::from_name(UNIT_PREFIX) {
        Ok(Some(user)) => ok(SUBJECT, format!("user {} (uid {}) runs the agents", user.name, user.uid)),
        Ok(None) if !host.booted => warning(
            SUBJECT,
            "there is no user claude-code",
            "without systemd the agents run as the user of clauded; make the user for a host that is more than a try: useradd --system claude-code",
        ),
        Ok(None) => {
            problem(SUBJECT, "there is no user claude-code", "systemd-sysusers makes it from the package's sysusers.d/clauded.conf; run: sudo systemd-sysusers")
        }
        Err(error) => problem(SUBJECT, format!("cannot look up the user claude-code: {error}"), "look at /etc/nsswitch.conf"),
    })
}

pub(super) async fn git() -> Check {
    const SUBJECT: &str = "git";
    let Some(git) = find("git", SERVICE_PATH) else {
        return problem(SUBJECT, format!("there is no git on {SERVICE_PATH}"), "install it: sudo apt install git");
    };
    let mut command = Command::new(&git);
    command.arg("--version");
    match ask(command, Duration::from_secs(5)).await {
        Ok(answer) if answer.ok => ok(SUBJECT, format!("{} ({})", answer.text.trim(), git.display())),
        Ok(answer) => problem(SUBJECT, format!("{} --version fails: {}", git.display(), answer.complaint), "install it anew: sudo apt install --reinstall git"),
        Err(error) => problem(SUBJECT, error, "install it anew: sudo apt install --reinstall git"),
    }
}

pub(super) fn disks(host: &Host<'_>) -> Vec<Check> {
    let mut directories = vec![("disk: state", host.paths.state.clone())];
    if let Some(config) = &host.config {
        directories.push(("disk: worktrees", config.fleet.worktree_root.clone()));
    }
    directories.into_iter().map(|(subject, directory)| disk(subject, &directory)).collect()
}

/// The space where a directory is, or where it will be made.
fn disk(subject: &'static str, directory: &Path) -> Check {
    let found = directory.ancestors().find_map(|dir| nix::sys::statvfs::statvfs(dir).ok().map(|stat| (dir, stat)));
    let Some((_, stat)) = found else { return problem(subject, format!("cannot look at {}", directory.display()), "check the path") };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let room = format!("{} free at {}", bytes(free), directory.display());
    // File systems without a fixed number of inodes (btrfs) say 0 in all.
    if stat.files() > 0 && stat.files_available() < 1000 {
        return problem(subject, format!("{} inodes left at {}", stat.files_available(), directory.display()), "remove files, such as old worktrees");
    }
    match free {
        0..DISK_PROBLEM => problem(subject, room, "make room; clauded refuses new tasks when its disk is full"),
        DISK_PROBLEM..DISK_WARNING => warning(subject, room, "make room for worktrees and what agents build in them"),
        _ => ok(subject, room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_versions() {
        assert_eq!(systemd_version("systemd 252 (252.39-1~deb12u1)\n+PAM").verdict, Verdict::Ok);
        assert_eq!(systemd_version("systemd 257.13 (x)").verdict, Verdict::Ok);
        assert_eq!(systemd_version("systemd 245 (245.4)").verdict, Verdict::Problem);
        assert_eq!(systemd_version("nonsense").verdict, Verdict::Warning);
    }

    #[test]
    fn cgroup_verdicts_say_what_to_do() {
        assert_eq!(cgroup_verdict(true, false, false, Some("cpuset cpu io memory pids\n")).verdict, Verdict::Ok);
        let lacking = cgroup_verdict(true, false, false, Some("hugetlb cpu\n"));
        assert!(lacking.verdict == Verdict::Problem && lacking.found.contains("io, memory, pids"), "{lacking:?}");
        assert_eq!(cgroup_verdict(true, false, true, Some("memory pids")).verdict, Verdict::Warning);
        assert!(cgroup_verdict(false, true, false, None).advice.contains(".wslconfig"));
        assert_eq!(cgroup_verdict(true, false, true, None).verdict, Verdict::Warning);
    }

    #[test]
    fn disks_are_looked_at_where_they_will_be() {
        let check = disk("disk: state", Path::new("/does/not/exist"));
        assert!(check.found.ends_with("free at /does/not/exist"), "{check:?}");
    }
}
