//! The one place that runs git: its environment built anew, the repository's hooks off, bounded in time and output, ended with
//! all that it started.

mod error;

pub(in crate::runner) use error::GitError;

use crate::core::checkout::{Origin, Source};
use crate::platform::child::{self, Program};
use crate::platform::sys::BeforeExec;
use crate::runner::confine::Cell;
use crate::runner::environment;
use crate::runner::settings::{self, Settings};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest time of what needs no network: a checkout of a very large tree.
const LOCAL: Duration = Duration::from_secs(15 * 60);
/// Longest time of a clone, a fetch, a push.
const NETWORK: Duration = Duration::from_secs(60 * 60);
/// Most that is taken of an answer.
const ANSWER_MAX: usize = 16 << 20;
/// What is kept of its complaints: their end.
const WORDS_MAX: usize = 4 << 10;

/// What of the runner's own environment git's network needs.
const INHERITED: [&str; 12] = [
    "PATH",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TZ",
];

/// Settings that go over the repository's own in every call.
const ALWAYS: [&str; 10] = [
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "core.pager=cat",
    "core.editor=:",
    "sequence.editor=:",
    "core.askPass=",
    "log.showSignature=false",
    "advice.addEmbeddedRepo=false",
];

/// Programs that a repository's settings name, and that run only if it is trusted.
const UNTRUSTED: [&str; 5] = ["core.hooksPath=/dev/null", "core.fsmonitor=false", "commit.gpgSign=false", "tag.gpgSign=false", "push.gpgSign=false"];

/// Commands that are called again when somebody has killed them: they only look, or do the same however often. Without an answer of
/// theirs work would seem to be none, or a branch no branch.
const QUESTIONS: [&str; 11] =
    ["cat-file", "config", "diff", "for-each-ref", "ls-files", "merge-base", "rev-list", "rev-parse", "show-ref", "status", "symbolic-ref"];
/// How often.
const AGAIN: u32 = 2;
/// git, for one directory.
#[derive(Clone)]
pub(in crate::runner) struct Git<'a> {
    program: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    trusted: bool,
    directory: PathBuf,
    cell: Option<&'a Cell>,
    progress: Option<mpsc::UnboundedSender<String>>,
}

impl<'a> Git<'a> {
    /// git for the instance's directory, a worktree of that repository. `marks` tell its processes from others'; `trusted` lets
    /// the repository's hooks run.
    ///
    /// # Errors
    /// There is no git, or it must not run there.
    pub(in crate::runner) fn new(settings: &Settings, origin: &Origin, marks: &[(&'static str, OsString)], trusted: bool) -> Result<Self, String> {
        as_its_owner(&settings.directory, origin)?;
        let path = std::env::var("PATH").unwrap_or_else(|_| environment::PATH.to_owned());
        let program = environment::program("git", &path).map_err(|why| format!("{why}; install git"))?;
        let mut variables: BTreeMap<OsString, OsString> =
            INHERITED.iter().filter_map(|key| Some(((*key).into(), std::env::var_os(key).filter(|v| !v.is_empty())?))).collect();
        let home = settings::home(std::env::var_os("HOME").as_deref(), &settings.state);
        let fixed: [(&str, &OsStr); 10] = [
            ("HOME", home.as_os_str()),
            ("LC_ALL", OsStr::new("C")),
            ("GIT_TERMINAL_PROMPT", OsStr::new("0")),
            ("GIT_CONFIG_NOSYSTEM", OsStr::new("1")),
            ("GIT_OPTIONAL_LOCKS", OsStr::new("0")),
            // Goes before core.sshCommand; never asks.
            ("GIT_SSH_COMMAND", OsStr::new("ssh -oBatchMode=yes")),
            // Goes before core.gitProxy; empty is none.
            ("GIT_PROXY_COMMAND", OsStr::new("")),
            // Without `ext`, which runs any program.
            ("GIT_ALLOW_PROTOCOL", OsStr::new("file:git:http:https:ssh")),
            ("GIT_PAGER", OsStr::new("cat")),
            ("GIT_EDITOR", OsStr::new(":")),
        ];
        variables.extend(fixed.map(|(key, value)| (key.into(), value.into())));
        variables.extend(marks.iter().map(|(key, value)| ((*key).into(), value.clone())));
        // What is not at the directory itself is none of ours: git looks no further up.
        if let Some(parent) = settings.directory.parent() {
            variables.insert("GIT_CEILING_DIRECTORIES".into(), parent.into());
        }
        Ok(Self { program, variables, trusted, directory: settings.directory.clone(), cell: None, progress: None })
    }

    /// The same, its processes in a task's cell.
    pub(in crate::runner) fn within(mut self, cell: &'a Cell) -> Self {
        self.cell = Some(cell);
        self
    }

    /// The same, telling how far it is.
    pub(in crate::runner) fn telling(mut self, progress: mpsc::UnboundedSender<String>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The same, in another directory.
    pub(super) fn at(&self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self.clone() }
    }

    /// The same, looking for a repository no further up than below that directory.
    pub(super) fn within_ceiling(mut self, above: &Path) -> Self {
        self.variables.insert("GIT_CEILING_DIRECTORIES".into(), above.into());
        self
    }

    /// Whether the repository's hooks run.
    pub(super) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// What the other end of a fetch or a push runs, where the repository's settings do not count (`remote.NAME.uploadpack`, and
    /// `receivepack`): with a path for a remote, the other end is here.
    pub(super) fn other_end(&self, option: &'static str) -> Option<&'static str> {
        (!self.trusted).then_some(option)
    }

    /// Where it runs.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A call with these arguments.
    pub(super) fn call<'c>(&'c self, arguments: &'c [&'c str]) -> Call<'c, 'a> {
        Call { git: self, arguments, input: Vec::new(), variables: Vec::new(), settings: Vec::new(), network: false, strict: false }
    }

    /// What it answers, without the newline at its end.
    ///
    /// # Errors
    /// It failed.
    pub(super) async fn text(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.call(arguments).text().await
    }

    /// Does it.
    ///
    /// # Errors
    /// It failed.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<(), GitError> {
        self.call(arguments).bytes().await.map(drop)
    }

    /// Writes files of the worktree. A disk that is full makes git complain and exit with 0 all the same (seen of switch and
    /// reset with 2.47), so its complaints count.
    ///
    /// # Errors
    /// It failed, or did not write every file.
    pub(super) async fn write(&self, arguments: &[&str]) -> Result<(), GitError> {
        let mut call = self.call(arguments);
        call.strict = true;
        call.bytes().await.map(drop)
    }

    /// Asks a question that is answered by the exit status: 0 is yes, 1 no.
    ///
    /// # Errors
    /// Any other status.
    pub(super) async fn asks(&self, arguments: &[&str]) -> Result<bool, GitError> {
        match self.call(arguments).bytes().await {
            Ok(_) => Ok(true),
            Err(error) if error.code == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What it answers, if it has an answer.
    pub(super) async fn maybe(&self, arguments: &[&str]) -> Option<String> {
        self.text(arguments).await.ok().filter(|text| !text.is_empty())
    }
}

/// One call.
pub(super) struct Call<'c, 'a> {
    git: &'c Git<'a>,
    arguments: &'c [&'c str],
    input: Vec<u8>,
    variables: Vec<(&'static str, OsString)>,
    settings: Vec<String>,
    network: bool,
    /// Whether a complaint is a failure whatever the exit status.
    strict: bool,
}

impl Call<'_, '_> {
    /// Gives it that on its standard input.
    pub(super) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Adds a variable.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((key, value.into()));
        self
    }

    /// Adds settings, `key=value`.
    pub(super) fn settings(mut self, settings: &[String]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// It talks with another end, and has the time that a network takes.
    pub(super) fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// What it answers as text, without the newline at its end.
    ///
    /// # Errors
    /// It failed.
    pub(super) async fn text(self) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.bytes().await?).trim_end_matches('\n').to_owned())
    }

    /// What it answers.
    ///
    /// # Errors
    /// It could not be started, failed, took too long or answered too much.
    pub(super) async fn bytes(self) -> Result<Vec<u8>, GitError> {
        self.answers(0).await.map(|(_, answer)| answer)
    }

    /// Its exit status and what it answers, where another status than 0 is an answer too.
    ///
    /// # Errors
    /// It could not be started, failed with another status, took too long or answered too much.
    pub(super) async fn answers(self, other: i32) -> Result<(i32, Vec<u8>), GitError> {
        let asks = self.arguments.first().is_some_and(|command| QUESTIONS.contains(command));
        let mut again = if asks { AGAIN } else { 0 };
        loop {
            match self.once(other).await {
                Err(error) if error.killed && again > 0 => again -= 1,
                done => return done,
            }
        }
    }

    async fn once(&self, other: i32) -> Result<(i32, Vec<u8>), GitError> {
        let git = self.git;
        let failed = |why: String, code: Option<i32>| GitError {
            command: self.arguments.first().copied().unwrap_or_default().to_owned(),
            directory: git.directory.clone(),
            why,
            code,
            killed: false,
            network: self.network,
        };
        let settings = ALWAYS.into_iter().chain(UNTRUSTED.into_iter().filter(|_| !git.trusted)).chain(self.settings.iter().map(String::as_str));
        let arguments = settings.flat_map(|setting| ["-c", setting]).chain(self.arguments.iter().copied()).map(OsString::from).collect();
        let mut environment = git.variables.clone();
        environment.extend(self.variables.iter().map(|(key, value)| ((*key).into(), value.clone())));
        let program = Program { path: git.program.clone(), arguments, environment, directory: Some(git.directory.clone()) };
        let spawned = (|| {
            let setup = BeforeExec { cgroup: git.cell.map(Cell::entrance).transpose()?.flatten(), new_session: true, ..BeforeExec::default() };
            let ((stdin, its_stdin), (stdout, its_stdout), (stderr, its_stderr)) = (child::input()?, child::output()?, child::output()?);
            Ok((child::spawn(&program, [its_stdin, its_stdout, its_stderr], setup)?, stdin, stdout, stderr))
        })();
        let (mut child, mut stdin, stdout, stderr) = spawned.map_err(|error: io::Error| failed(error.to_string(), None))?;
        // Whatever happens below, it leaves no process of its session behind.
        let _group = Group(child.id());
        let feed = async move {
            // One that does not read all of it says itself what it thinks of it.
            let _ = stdin.write_all(&self.input).await;
        };
        let work = async {
            let ((), answer, words) = tokio::join!(feed, all(stdout), complaints(stderr, git.progress.as_ref()));
            (child.wait().await, answer, words)
        };
        let most = if self.network { NETWORK } else { LOCAL };
        let Ok((status, answer, words)) = timeout(most, work).await else {
            return Err(failed(format!("it timed out after {} min", most.as_secs() / 60), None));
        };
        let status = status.map_err(|error| failed(format!("wait: {error}"), None))?;
        let code = status.code().filter(|code| *code == 0 || *code == other);
        if code.is_none() || (self.strict && (words.contains("error: ") || words.contains("fatal: "))) {
            let said = if words.is_empty() { status.to_string() } else { words };
            return Err(GitError { killed: status.signal().is_some(), ..failed(said, status.code()) });
        }
        answer.map(|answer| (code.unwrap_or_default(), answer)).ok_or_else(|| failed(format!("it answered more than {} MiB", ANSWER_MAX >> 20), None))
    }
}

/// root may work in what is root's only: a repository's settings can name programs. git's own `safe.directory` would say the same,
/// unless root has set it aside.
fn as_its_owner(directory: &Path, origin: &Origin) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let place = match &origin.source {
        Source::Path(path) => path,
        // Its clone is made by us, so it is ours; one that is there may be anyone's.
        Source::Url(_) => &origin.store,
    };
    for part in [place.clone(), place.join(".git"), directory.join(".git")] {
        // What is not there names no program.
        if let Ok(owner @ 1..) = fs::metadata(&part).map(|data| data.uid()) {
            return Err(format!(
                "{} belongs to user {owner}, and this runner is root's: git does not run as root in a repository of others; run the instance as that user ([instances.NAME] user)",
                part.display()
            ));
        }
    }
    Ok(())
}

/// A session that is killed when this is dropped. git's own helpers stay in it.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // A group without a process is as wanted. The number is not given anew while anyone of the session lives.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// All that comes, read to its end; `None` if it is too much.
async fn all(mut from: impl AsyncRead + Unpin) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer, mut whole) = (Vec::new(), vec![0; 64 << 10], true);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        whole &= bytes.len() + n <= ANSWER_MAX;
        if whole {
            bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
        }
    }
    whole.then_some(bytes)
}

/// The end of what it complains of, on one line; what says how far it is goes to who wants to know.
async fn complaints(mut from: impl AsyncRead + Unpin, progress: Option<&mpsc::UnboundedSender<String>>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if kept.len() > 2 * WORDS_MAX {
            kept.drain(..kept.len() - WORDS_MAX);
        }
        if let Some(progress) = progress {
            let last = kept.split(|b| matches!(b, b'\r' | b'\n')).rev().find(|line| line.contains(&b'%'));
            let _ = last.map(|line| progress.send(String::from_utf8_lossy(line).trim().to_owned()));
        }
    }
    let text = String::from_utf8_lossy(&kept);
    // A progress line is overwritten by the next: only the last of each counts, and none of them in an error.
    let lines = text.split('\n').map(|line| line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default().trim());
    let words = lines.filter(|line| !line.is_empty() && !line.starts_with("hint: ") && !line.contains("% (")).collect::<Vec<_>>().join("; ");
    words.chars().filter(|c| !c.is_control()).collect()
}
