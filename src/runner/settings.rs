//! What the runner is told: its argument and its environment, checked once, at the start.

use super::hooks;
use crate::config::Paths;
use crate::core::checkout::Origin;
use crate::core::ids::{InstanceName, InvalidName, InvocationId};
use crate::platform::durable::{self, FileError};
use nix::unistd::{AccessFlags, access};
use secrecy::SecretString;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The variable that carries the credential when `CLAUDED_CREDENTIAL_VARIABLE` does not say.
const CREDENTIAL_VARIABLE: &str = "ANTHROPIC_API_KEY";
/// The credential's name in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL_FILE: &str = "agent-credential";

/// Where things are and who this is.
#[derive(Debug)]
pub(super) struct Settings {
    /// The instance.
    pub(super) name: InstanceName,
    /// Its working directory: it exists and can be entered, or is a worktree that is made when the runner runs.
    pub(super) directory: PathBuf,
    /// The repository that it is a worktree of.
    pub(super) origin: Option<Origin>,
    /// The instance's own state.
    pub(super) state: PathBuf,
    /// The daemon's socket.
    pub(super) link: PathBuf,
    /// This start of the unit.
    pub(super) invocation: InvocationId,
    /// The agent's credential and the variable that it goes into.
    pub(super) credential: Option<(String, SecretString)>,
    /// claudectl, which is also the agents' MCP server; `None` where it is not found.
    pub(super) ctl: Option<PathBuf>,
    /// What Claude Code is given beside its own settings; `None` where there is no claudectl.
    pub(super) hooks: Option<PathBuf>,
    /// A cgroup delegated by the process supervisor.
    pub(super) cgroup: Option<PathBuf>,
}

/// Why the runner does not start. A restart mends none of it, but for [`SettingsError::File`].
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// No argument, or more than one.
    #[error("usage: clauded-runner [--user] NAME")]
    Usage,
    /// The argument is no instance name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The configuration was refused when the units were made.
    #[error("the configuration is refused: {0}")]
    Config(String),
    /// The working directory cannot be used.
    #[error("directory {path} of instance {name} {why}; {advice}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The instance.
        name: InstanceName,
        /// What is wrong with it.
        why: String,
        /// What to do.
        advice: String,
    },
    /// A variable with a value that means nothing.
    #[error("{variable}={value:?} {why}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: OsString,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The credential cannot be read.
    #[error("the credential cannot be read: {0}")]
    Credential(FileError),
    /// The state directory cannot be made.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Settings {
    /// The API's socket, beside the link's.
    pub(super) fn api(&self) -> PathBuf {
        self.link.with_file_name("api.sock")
    }

    /// The agents' MCP server, as Claude Code's `--mcp-config` has it.
    pub(super) fn mcp(&self) -> Option<String> {
        let ctl = self.ctl.as_ref()?.to_str()?;
        let server = serde_json::json!({"type": "stdio", "command": ctl, "args": ["mcp"], "env": {"CLAUDED_SOCKET": self.api().to_str()?}});
        Some(serde_json::json!({"mcpServers": {"clauded": server}}).to_string())
    }

    /// From the arguments after the program's name and a look-up of environment variables. Makes the state directories.
    ///
    /// # Errors
    /// The first thing that is wrong, in one line.
    pub(super) fn load(arguments: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let (usual, name) = match arguments {
            [name] => (Paths::system(), name),
            [option, name] if option == "--user" => (Paths::of_user(&variable), name),
            _ => return Err(SettingsError::Usage),
        };
        let name: InstanceName = name.to_string_lossy().parse()?;
        if let Some(text) = variable("CLAUDED_CONFIG_ERROR").filter(|t| !t.is_empty()) {
            return Err(SettingsError::Config(text.to_string_lossy().into_owned()));
        }
        let path = |key: &str, default: PathBuf| variable(key).filter(|v| !v.is_empty()).map_or(default, PathBuf::from);
        let root = path("CLAUDED_WORKTREE_ROOT", usual.instances.join("worktrees"));
        let directory = path("CLAUDED_DIRECTORY", root.join(name.as_str()));
        let said = [variable("CLAUDED_REPOSITORY"), variable("CLAUDED_REPOSITORY_SOURCE"), variable("CLAUDED_REPOSITORY_STORE"), variable("CLAUDED_BASE")];
        let origin = Origin::from_values(said.map(|value| value.and_then(|value| value.into_string().ok())));
        let origin = origin.map_err(|(key, why)| SettingsError::Variable { variable: key, value: variable(key).unwrap_or_default(), why })?;
        // git is told it as text.
        let text = directory.to_str().is_some();
        match &origin {
            Some(_) if text => {}
            Some(_) => return Err(SettingsError::Variable { variable: "CLAUDED_DIRECTORY", value: directory.into(), why: "is not UTF-8" }),
            None => usable(&directory, &name)?,
        }
        let invocation = match variable("INVOCATION_ID").filter(|v| !v.is_empty()) {
            Some(id) => id.to_str().and_then(|t| t.parse().ok()).ok_or(SettingsError::Variable {
                variable: "INVOCATION_ID",
                value: id,
                why: "is not 32 hexadecimal digits",
            })?,
            None => fresh_invocation(),
        };
        let state = path("STATE_DIRECTORY", usual.instances.join("instances").join(name.as_str()));
        for part in ["claude", "home", "tmp", "attempts", "spool", "logs"] {
            durable::directory(&state.join(part))?;
        }
        let path_of_programs = variable("PATH").unwrap_or_default();
        let claudectl = hooks::claudectl(std::env::current_exe().ok().as_deref(), &path_of_programs.to_string_lossy());
        Ok(Self {
            hooks: claudectl.as_ref().map(|claudectl| hooks::write(&state, claudectl)).transpose()?,
            ctl: claudectl,
            credential: credential(&variable)?,
            link: path("CLAUDED_LINK", usual.link_socket()),
            cgroup: variable("CLAUDED_CGROUP").filter(|v| !v.is_empty()).map(PathBuf::from),
            name,
            directory,
            origin,
            state,
            invocation,
        })
    }
}

/// An ID of our own, where no service manager gave one.
fn fresh_invocation() -> InvocationId {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    loop {
        match InvocationId::from_bytes(&bytes) {
            Some(id) => return id,
            // A version 4 UUID is never all zero; this only satisfies the type.
            None => bytes.fill(1),
        }
    }
}

fn usable(path: &Path, name: &InstanceName) -> Result<(), SettingsError> {
    let advice = format!("create it or set [instances.{name}] directory");
    let refuse = |why: String, advice: String| Err(SettingsError::Directory { path: path.to_owned(), name: name.clone(), why, advice });
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => refuse("does not exist".to_owned(), advice),
        Err(error) => refuse(format!("cannot be looked at ({error})"), advice),
        Ok(meta) if !meta.is_dir() => refuse("is not a directory".to_owned(), advice),
        Ok(_) => match access(path, AccessFlags::X_OK | AccessFlags::R_OK) {
            Ok(()) => Ok(()),
            Err(error) => refuse(format!("cannot be entered ({})", error.desc()), format!("give user id {} access to it", nix::unistd::geteuid())),
        },
    }
}

/// systemd hands it over in a directory of its own. The process supervisor, whose runners are its own user, names the file.
fn credential(variable: &impl Fn(&str) -> Option<OsString>) -> Result<Option<(String, SecretString)>, SettingsError> {
    let handed = variable("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(CREDENTIAL_FILE));
    let named = variable("CLAUDED_CREDENTIAL_FILE").map(PathBuf::from);
    let Some(path) = handed.or_else(|| named.clone()) else { return Ok(None) };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.as_ref() != Some(&path) => return Ok(None),
        Err(error) => return Err(SettingsError::Credential(FileError::of("read", &path)(error))),
    };
    let key = variable("CLAUDED_CREDENTIAL_VARIABLE").filter(|v| !v.is_empty()).unwrap_or_else(|| CREDENTIAL_VARIABLE.into());
    match key.to_str().filter(|k| is_variable_name(k)) {
        Some(key) => Ok(Some((key.to_owned(), SecretString::from(text.trim_end_matches(['\n', '\r']).to_owned())))),
        None => Err(SettingsError::Variable { variable: "CLAUDED_CREDENTIAL_VARIABLE", value: key, why: "is not the name of a variable" }),
    }
}

fn is_variable_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The home directory of the agent: the user's own where it can be written, else one in the instance's state.
pub(super) fn home(own: Option<&OsStr>, state: &Path) -> PathBuf {
    let usable = |path: &Path| path != Path::new("/") && path.is_dir() && access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    own.map(Path::new).filter(|p| p.is_absolute() && usable(p)).map_or_else(|| state.join("home"), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;

    fn load(dir: &Path, name: &str, more: &[(&str, &str)]) -> Result<Settings, String> {
        let mut set: HashMap<String, OsString> = more.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        set.entry("CLAUDED_DIRECTORY".into()).or_insert_with(|| dir.into());
        set.insert("STATE_DIRECTORY".into(), dir.join("state").into());
        Settings::load(&[name.into()], |k| set.get(k).cloned()).map_err(|e| e.to_string())
    }

    #[test]
    fn state_is_made_for_the_owner_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let settings = load(dir.path(), "a", &[]).expect("good");
        let mode = fs::metadata(settings.state.join("spool")).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(settings.link, Path::new("/run/clauded/runner.sock"));
        assert!(settings.credential.is_none() && settings.invocation.as_str().len() == 32);
    }

    #[test]
    fn a_user_has_everything_where_clauded_of_that_user_looks() {
        let home = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(home.path().join(".local/state/claude-code/worktrees/a")).expect("made");
        let variable = |key: &str| match key {
            "HOME" => Some(home.path().into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            _ => None,
        };
        let settings = Settings::load(&["--user".into(), "a".into()], variable).expect("good");
        assert_eq!(settings.state, home.path().join(".local/state/claude-code/instances/a"));
        assert_eq!(settings.directory, home.path().join(".local/state/claude-code/worktrees/a"));
        assert_eq!(settings.link, Path::new("/run/user/7/clauded/runner.sock"));
    }

    #[test]
    fn refusals_are_one_line_that_says_what_to_do() {
        let dir = tempfile::tempdir().expect("tempdir");
        let refused = |name, more: &[(&str, &str)]| load(dir.path(), name, more).expect_err("refused");
        assert!(refused("a--b", &[]).contains("joined by single dashes"));
        assert_eq!(
            refused("a", &[("CLAUDED_DIRECTORY", "/nonexistent/x")]),
            "directory /nonexistent/x of instance a does not exist; create it or set [instances.a] directory"
        );
        fs::write(dir.path().join("file"), "").expect("write");
        assert!(refused("a", &[("CLAUDED_DIRECTORY", &dir.path().join("file").to_string_lossy())]).contains("is not a directory"));
        assert!(refused("a", &[("CLAUDED_CONFIG_ERROR", "line 3: unknown key")]).ends_with("line 3: unknown key"));
        assert!(refused("a", &[("INVOCATION_ID", "xyz")]).contains("INVOCATION_ID=\"xyz\""));
        assert!(Settings::load(&[], |_| None).is_err());
    }

    #[test]
    fn the_credential_is_read_and_never_shown() {
        let dir = tempfile::tempdir().expect("tempdir");
        let credentials = dir.path().to_string_lossy().into_owned();
        assert!(load(dir.path(), "a", &[("CREDENTIALS_DIRECTORY", &credentials)]).expect("none there").credential.is_none());
        fs::write(dir.path().join(CREDENTIAL_FILE), "sk-very-secret\n").expect("write");
        let settings = load(dir.path(), "a", &[("CREDENTIALS_DIRECTORY", &credentials)]).expect("good");
        assert!(!format!("{settings:?}").contains("very-secret"));
        let (key, secret) = settings.credential.expect("read");
        assert_eq!((key.as_str(), secret.expose_secret()), ("ANTHROPIC_API_KEY", "sk-very-secret"));
        assert!(load(dir.path(), "a", &[("CREDENTIALS_DIRECTORY", &credentials), ("CLAUDED_CREDENTIAL_VARIABLE", "A=B")]).is_err());
    }

    #[test]
    fn a_credential_named_by_its_file_must_be_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("key");
        let named = [("CLAUDED_CREDENTIAL_FILE", &*file.to_string_lossy())];
        assert!(load(dir.path(), "a", &named).is_err_and(|e| e.contains("the credential cannot be read") && e.contains("key")));
        fs::write(&file, "sk-named\n").expect("write");
        let (_, secret) = load(dir.path(), "a", &named).expect("good").credential.expect("read");
        assert_eq!(secret.expose_secret(), "sk-named");
    }

    #[test]
    fn a_home_that_cannot_be_used_is_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(home(Some(dir.path().as_os_str()), Path::new("/s")), dir.path());
        for bad in [None, Some(OsStr::new("/")), Some(OsStr::new("/nonexistent")), Some(OsStr::new("relative"))] {
            assert_eq!(home(bad, Path::new("/s")), Path::new("/s/home"), "{bad:?}");
        }
    }
}
