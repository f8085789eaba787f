//! Tests of children, each with a child that is born in its cgroup and with one that moves there.

use super::*;
use crate::platform::cgroup::tests::Scratch;
use nix::sys::signal::{SigSet, SigmaskHow};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it to its end; what it printed on its standard output and error, and its status.
async fn run(ways: &[Way], program: &Program, setup: BeforeExec) -> io::Result<(String, String, ExitStatus)> {
    let ((mut out, its_out), (mut err, its_err)) = (output()?, output()?);
    let mut child = spawn_by(ways, program, [no_input()?, its_out, its_err], setup)?;
    let (mut printed, mut complained) = (String::new(), String::new());
    let all = async {
        out.read_to_string(&mut printed).await?;
        err.read_to_string(&mut complained).await?;
        child.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, all).await??;
    assert_eq!(child.id(), None, "its number is nobody's once it has been waited for");
    child.signal(Signal::SIGKILL, true)?;
    Ok((printed, complained, status))
}

fn program(path: impl Into<PathBuf>) -> Program {
    Program { path: path.into(), ..Program::default() }
}

fn shell(script: &str) -> Program {
    Program { arguments: vec!["-c".into(), script.into()], environment: [("PATH".into(), "/usr/bin:/bin".into())].into(), ..program("/bin/sh") }
}

fn in_group(group: &Scratch) -> BeforeExec {
    BeforeExec { cgroup: Some(group.group().open().expect("opened")), ..BeforeExec::default() }
}

#[tokio::test]
async fn a_child_is_in_its_cgroup_whichever_way_it_comes_there() {
    let Some(scratch) = Scratch::new("child") else { return };
    let name = scratch.group().path().file_name().expect("a name").to_string_lossy().into_owned();
    let command = shell("cat /proc/self/cgroup; echo x >&2; exit 7");
    for ways in [&[Way::Moves][..], &[Way::Born, Way::Moves], &[Way::Born]] {
        let ran = run(ways, &command, in_group(&scratch)).await;
        let refused = |error: &io::Error| [Errno::ENOSYS, Errno::EINVAL, Errno::E2BIG, Errno::EPERM].iter().any(|e| error.to_string().contains(e.desc()));
        if ways == [Way::Born] && ran.as_ref().is_err_and(refused) {
            return crate::skip::skip("a child that is born in its cgroup: this kernel, or a seccomp filter, has no clone3(2) with CLONE_INTO_CGROUP");
        }
        let (printed, complained, status) = ran.expect("ran");
        assert!(printed.lines().any(|line| line.starts_with("0::") && line.ends_with(&format!("/{name}"))), "{ways:?}: {printed}");
        assert_eq!((complained.as_str(), status.code()), ("x\n", Some(7)), "{ways:?}");
    }
}

#[tokio::test]
async fn a_child_lives_in_a_cgroup_that_was_killed_before() {
    let Some(scratch) = Scratch::new("killed") else { return };
    scratch.group().kill().expect("killed");
    for _ in 0..3 {
        let (printed, _, status) = run(&[Way::Born, Way::Moves], &shell("echo lives"), in_group(&scratch)).await.expect("ran");
        assert_eq!((printed.as_str(), status.code()), ("lives\n", Some(0)));
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_named_with_its_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        path
    };
    let (sound, absent) = (PathBuf::from("/bin/true"), dir.path().join("absent"));
    let cases = [
        (program(&absent), "execute it: No such file or directory (os error 2)"),
        (program(file("plain", "#!/bin/sh\n", 0o644)), "execute it: Permission denied (os error 13)"),
        (
            program(file("text", "echo\n", 0o755)),
            "execute it: Exec format error (os error 8) (it is neither a program for this machine nor a script with a #! line)",
        ),
        (
            program(file("orphan", "#!/nonexistent/sh\n", 0o755)),
            "execute it: No such file or directory (os error 2) (its interpreter is missing: that of its #! line, or the loader)",
        ),
        (Program { directory: Some(absent), ..program(&sound) }, "enter its directory: No such file or directory (os error 2)"),
        (Program { arguments: vec!["one".into(), "secret\0".into()], ..program(&sound) }, "its argument 2 has a NUL byte"),
        (Program { environment: [("KEY".into(), "secret\0".into())].into(), ..program(&sound) }, "its variable KEY has a NUL byte"),
        (program("true"), "it is not a path"),
    ];
    for (program, reason) in cases {
        let error = run(&[Way::Born, Way::Moves], &program, BeforeExec::default()).await.expect_err(reason).to_string();
        assert_eq!(error, format!("start {}: {reason}", program.path.display()));
    }
    assert_eq!(zombies(), 0, "a child that became nothing was not waited for");
}

/// Children of this process that have ended, have this thread's name still, and were not waited for.
fn zombies() -> usize {
    let name = fs::read_to_string("/proc/thread-self/comm").expect("a name");
    let mark = format!("({}) Z {} ", name.trim_end(), std::process::id());
    let stats = fs::read_dir("/proc").expect("proc").filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(&mark)).count()
}

#[tokio::test]
async fn a_group_that_cannot_be_entered_is_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = BeforeExec { cgroup: Some(fs::File::open(dir.path()).expect("opened").into()), ..BeforeExec::default() };
    let error = run(&[Way::Born, Way::Moves], &shell("true"), setup).await.expect_err("no cgroup").to_string();
    assert_eq!(error, "start /bin/sh: write to the cgroup.procs of its cgroup: No such file or directory (os error 2)");
}

#[tokio::test]
async fn a_child_gets_its_environment_its_directory_and_its_streams_and_nothing_else() {
    // What std opens closes on exec; this one is as from a careless parent.
    let null = fs::File::open("/dev/null").expect("/dev/null");
    let leak = nix::fcntl::fcntl(&null, nix::fcntl::FcntlArg::F_DUPFD(100)).expect("duplicated");
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = shell(&format!("env; pwd; [ ! -e /proc/self/fd/{leak} ] || echo leaked; ls /proc/self/fd"));
    command.environment.insert("A".into(), "b c".into());
    command.directory = Some(dir.path().to_owned());
    let (printed, complained, status) = run(&[Way::Born, Way::Moves], &command, BeforeExec::default()).await.expect("ran");
    assert!(status.success(), "{complained}");
    let lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    // ls has opened the directory.
    assert_eq!(lines, ["A=b c", "PATH=/usr/bin:/bin", &dir.path().to_string_lossy(), "0", "1", "2", "3"].map(str::to_owned), "of all it got");
}

/// The blocked and the ignored signals of a proc(5) `status`, without the C library's own (32 and above).
fn signals(status: &str) -> [u64; 2] {
    ["SigBlk:\t", "SigIgn:\t"].map(|key| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key)).expect("proc(5)");
        u64::from_str_radix(mask, 16).expect("a number") & 0x7fff_ffff
    })
}

#[tokio::test]
async fn a_childs_signals_are_the_defaults() {
    let own = || fs::read_to_string("/proc/thread-self/status").expect("status");
    let (term, pipe) = (1 << (Signal::SIGTERM as u64 - 1), 1 << (Signal::SIGPIPE as u64 - 1));
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("blocked");
    assert_eq!(signals(&own()).map(|mask| mask & (term | pipe)), [term, pipe], "Rust itself ignores SIGPIPE");
    let ran = run(&[Way::Born, Way::Moves], &shell("cat /proc/self/status"), BeforeExec::default()).await;
    let after = signals(&own());
    before.thread_set_mask().expect("as before");
    assert_eq!(signals(&ran.expect("ran").0), [0, 0]);
    assert_eq!(after[0], term, "the parent's mask is its own again");
}

#[tokio::test]
async fn steps_before_exec_are_taken() {
    let setup = BeforeExec { cgroup: None, oom_score_adj: Some(777), data_limit: Some(1 << 30), new_session: true };
    let script = "cat /proc/self/oom_score_adj; grep 'Max data' /proc/self/limits | tr -s ' '; set -- $(cat /proc/$$/stat); [ $6 = $$ ] && echo leads";
    let (printed, _, _) = run(&[Way::Born, Way::Moves], &shell(script), setup).await.expect("ran");
    assert_eq!(printed, "777\nMax data size 1073741824 1073741824 bytes \nleads\n");
}

#[tokio::test]
async fn a_child_that_is_killed_says_by_what() {
    let ((mut to, its_in), (mut from, its_out)) = (input().expect("a pipe"), output().expect("a pipe"));
    let setup = BeforeExec { new_session: true, ..BeforeExec::default() };
    let mut child = spawn(&shell("read line; echo \"$line\"; sleep 1000"), [its_in, its_out, no_input().expect("opened")], setup).expect("started");
    to.write_all(b"hello\n").await.expect("written");
    let mut line = [0; 6];
    from.read_exact(&mut line).await.expect("read");
    assert_eq!(&line, b"hello\n");
    // Given up, it may be waited for again.
    assert!(tokio::time::timeout(Duration::ZERO, child.wait()).await.is_err());
    assert!(child.id().is_some() && is_awaited(child.pid));
    child.signal(Signal::SIGUSR2, true).expect("sent");
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("in time").expect("waited");
    assert_eq!((status.code(), status.signal()), (None, Some(Signal::SIGUSR2 as i32)));
    assert!(!is_awaited(child.pid));
    // All of its group got it, so nobody holds the pipe.
    assert_eq!(tokio::time::timeout(PATIENCE, from.read(&mut line)).await.expect("in time").expect("read"), 0);
}

#[tokio::test]
async fn a_child_that_nobody_waits_for_is_killed_and_collected() {
    let ((mut out, its_out), input) = (output().expect("a pipe"), no_input().expect("opened"));
    let child = spawn(&shell("exec sleep 1000"), [input, its_out, no_input().expect("opened")], BeforeExec::default()).expect("started");
    let pid = child.pid;
    drop(child);
    // Its death closes the pipe; then it is a zombie for as long as the runtime takes.
    assert_eq!(tokio::time::timeout(PATIENCE, out.read(&mut [0])).await.expect("in time").expect("read"), 0);
    let gone = async {
        while kill(pid, None) != Err(Errno::ESRCH) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it stays a zombie");
    assert!(!is_awaited(pid));
}
