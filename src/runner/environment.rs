//! The agent's program and its environment, built anew: nothing of the service manager's or the runner's own leaks into it.

use super::settings::{self, Settings};
use crate::core::ids::AttemptId;
use crate::proto::link::Work;
use nix::unistd::{AccessFlags, User, access, geteuid};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where programs are looked for when the runner has no PATH itself.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All variables of the agent. The profile's go over the agent's own, those over ours, but for the marks.
pub(super) fn variables(settings: &Settings, work: &Work, agent: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
    let (profile, attempt) = (&work.profile, work.attempt);
    let user = User::from_uid(geteuid()).ok().flatten().map_or_else(|| geteuid().to_string(), |u| u.name);
    let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|s| Path::new(s).exists()).unwrap_or("/bin/sh");
    let inherited = |key: &str, default: &str| std::env::var_os(key).filter(|v| !v.is_empty()).unwrap_or_else(|| default.into());
    let mut set: BTreeMap<OsString, OsString> = BTreeMap::new();
    let mut add = |key: &str, value: OsString| set.insert(key.into(), value);
    add("PATH", inherited("PATH", PATH));
    add("LANG", inherited("LANG", "C.UTF-8"));
    add("HOME", settings::home(std::env::var_os("HOME").as_deref(), &settings.state).into());
    add("USER", user.clone().into());
    add("LOGNAME", user.into());
    add("TERM", "dumb".into());
    add("SHELL", shell.into());
    add("TMPDIR", settings.state.join("tmp").into());
    add("CLAUDE_CONFIG_DIR", settings.state.join("claude").into());
    if let Some(checkout) = &work.checkout {
        for (key, value) in checkout.caches.iter().flat_map(|cache| cache.variables(&checkout.caches_directory)) {
            add(key, value.into());
        }
    }
    if let Some((key, secret)) = &settings.credential {
        add(key, secret.expose_secret().into());
    }
    for (key, value) in agent {
        add(key, value.into());
    }
    for (key, value) in &profile.environment {
        add(key, value.into());
    }
    add("CLAUDED_SOCKET", settings.api().into());
    add("CLAUDED_TASK", attempt.task.to_string().into());
    // For claudectl: where clauded is, and which files are the instance's.
    add("CLAUDED_WORKTREE", settings.directory.clone().into());
    for (key, value) in marks(settings, attempt) {
        add(key, value);
    }
    set
}

/// The variables of the check of its work: the same, but for the agent's login, which is nothing to the repository's tests.
pub(super) fn of_check(settings: &Settings, work: &Work) -> BTreeMap<OsString, OsString> {
    let mut set = variables(settings, work, &[]);
    if let Some((key, _)) = &settings.credential {
        set.remove(&OsString::from(key));
    }
    set
}

/// The variables that tell an attempt's processes from all others, those of another clauded with an instance of that name
/// included. A profile cannot change them.
pub(super) fn marks(settings: &Settings, attempt: AttemptId) -> [(&'static str, OsString); 3] {
    [("CLAUDED_INSTANCE", settings.name.as_str().into()), ("CLAUDED_ATTEMPT", attempt.to_string().into()), ("CLAUDED_STATE", settings.state.clone().into())]
}

/// The program's file: as it is if the name has a slash, else the first executable of that name on `path`.
///
/// # Errors
/// Says what was looked for where.
pub(super) fn program(name: &str, path: &str) -> Result<PathBuf, String> {
    let executable = |file: &Path| -> Result<(), String> {
        match std::fs::metadata(file) {
            Err(error) => Err(error.to_string()),
            Ok(meta) if !meta.is_file() => Err("it is not a file".to_owned()),
            Ok(_) => access(file, AccessFlags::X_OK).map_err(|_| "it is not executable".to_owned()),
        }
    };
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| PathBuf::from(name)).map_err(|why| format!("{name}: {why}"));
    }
    let absolute = path.split(':').map(Path::new).filter(|d| d.is_absolute());
    absolute.map(|d| d.join(name)).find(|file| executable(file).is_ok()).ok_or_else(|| format!("{name}: no such program on PATH {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TaskId;
    use crate::core::profile::Profile;
    use crate::runner::task::tests::{profile, work};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_found_or_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("agent");
        std::fs::write(&file, "#!/bin/sh\n").expect("write");
        let path = format!("relative:/nonexistent:{}", dir.path().display());
        assert_eq!(program("agent", &path), Err(format!("agent: no such program on PATH {path}")));
        assert_eq!(program(&file.to_string_lossy(), ""), Err(format!("{}: it is not executable", file.display())));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("chmod");
        assert_eq!(program("agent", &path), Ok(file));
        assert!(program("/nonexistent/agent", &path).is_err_and(|e| e.starts_with("/nonexistent/agent: No such file")));
        assert!(program("/tmp", &path).is_err_and(|e| e.contains("not a file")));
    }

    #[test]
    fn the_environment_is_ours_and_the_profile_wins() {
        let dir = tempfile::tempdir().expect("tempdir");
        let given = |key: &str| match key {
            "CLAUDED_DIRECTORY" | "STATE_DIRECTORY" => Some(dir.path().into()),
            _ => None,
        };
        let settings = Settings::load(&["a-b".into()], given).expect("settings");
        let profile = Profile { environment: [("TERM".to_owned(), "xterm".to_owned())].into(), ..profile(&["x"]) };
        let work = Work { attempt: AttemptId { task: TaskId(3), number: 2 }, ..work(profile, "x") };
        let set = variables(&settings, &work, &[("TERM", "vt100"), ("QUIET", "1")]);
        let get = |key: &str| set.get(&OsString::from(key)).and_then(|v| v.to_str());
        assert_eq!((get("TERM"), get("QUIET"), get("CLAUDED_ATTEMPT"), get("CLAUDED_TASK")), (Some("xterm"), Some("1"), Some("3.2"), Some("3")));
        assert_eq!((get("CLAUDED_INSTANCE"), get("CARGO_MANIFEST_DIR")), (Some("a-b"), None));
    }
}
