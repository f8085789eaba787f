//! Programs of others: systemd is there or not; others are found once on a path, run with a deadline, their output bounded.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Where systemd looks for programs of a unit that sets no PATH (systemd.exec(5)).
pub(super) const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest output that is read, in bytes.
const OUTPUT_MAX: u64 = 1 << 20;

/// Whether systemd is the init system here (sd_booted(3)).
pub(super) fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The executable of that name on a `PATH`, or the name itself if it is an absolute path to one.
pub(super) fn find(name: &str, path: &str) -> Option<PathBuf> {
    let executable = |file: &Path| file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| file.is_absolute() && executable(file));
    }
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join(name)).find(|file| executable(file))
}

/// What a program answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its exit status was 0.
    pub(super) ok: bool,
    /// Its standard output.
    pub(super) text: String,
    /// The last line of its standard error.
    pub(super) complaint: String,
}

/// Runs a program to its end; one that takes longer than `patience` is killed. The error is a sentence.
pub(super) async fn ask(mut command: Command, patience: Duration) -> Result<Answer, String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("cannot run {program}: {e}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let all = async {
        let (text, complaint, status) = tokio::join!(drain(out), drain(err), child.wait());
        status.map(|status| Answer { ok: status.success(), text, complaint: complaint.trim().lines().last().unwrap_or_default().to_owned() })
    };
    match tokio::time::timeout(patience, all).await {
        Ok(answer) => answer.map_err(|e| format!("cannot wait for {program}: {e}")),
        Err(_) => Err(format!("{program} has not ended after {} s", patience.as_secs())),
    }
}

async fn drain(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error is still worth showing.
        let _ = pipe.take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executables_are_programs() {
        assert!(find("sh", SERVICE_PATH).is_some_and(|p| p.is_absolute()));
        assert_eq!(find("passwd", "/etc"), None);
        assert_eq!(find("/etc/passwd", SERVICE_PATH), None);
        assert_eq!(find("sh", "relative:"), None);
    }

    #[tokio::test]
    async fn answers_complaints_and_deadlines() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        let answer = ask(shell("echo hi; echo a >&2; echo b >&2; exit 3"), Duration::from_secs(10)).await;
        assert_eq!(answer, Ok(Answer { ok: false, text: "hi\n".into(), complaint: "b".into() }));
        assert!(ask(shell("exec tail -f /dev/null"), Duration::from_millis(50)).await.is_err_and(|e| e.contains("has not ended")));
        assert!(ask(Command::new("/does/not/exist"), Duration::from_secs(1)).await.is_err_and(|e| e.contains("cannot run /does/not/exist")));
    }
}
