//! How the process supervisor starts a runner: what systemd's unit and drop-ins would have said.

use crate::config::{Config, Paths};
use crate::core::ids::InstanceName;
use crate::platform::process::Launch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the package puts the runner.
const INSTALLED: &str = "/usr/lib/clauded/clauded-runner";

/// What is passed on from the daemon's environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// The runner of the clauded that is at `own`: beside it (a build tree), or where `make install` puts the two, whatever its
/// PREFIX; else where the package puts it, also if it is not there, since a start of it then says so.
fn runner_of(own: Option<&Path>) -> PathBuf {
    let directory = own.and_then(Path::parent);
    let beside = directory.map(|directory| directory.join("clauded-runner"));
    let prefix = directory.and_then(Path::parent).map(|prefix| prefix.join("lib/clauded/clauded-runner"));
    [beside, prefix].into_iter().flatten().find(|path| path.is_file()).unwrap_or_else(|| INSTALLED.into())
}

/// How to start an instance now.
pub(super) fn launch(config: &Config, paths: &Paths, name: &InstanceName) -> Launch {
    let instance = config.instance(name);
    let mut environment: BTreeMap<String, String> =
        INHERITED.iter().filter_map(|key| std::env::var(key).ok().map(|value| ((*key).to_owned(), value))).collect();
    let mut set = |key: &str, value: String| environment.insert(key.to_owned(), value);
    set("CLAUDED_DIRECTORY", instance.directory.display().to_string());
    set("STATE_DIRECTORY", paths.instances.join("instances").join(name.as_str()).display().to_string());
    set("CLAUDED_LINK", paths.link_socket().display().to_string());
    if let Some(origin) = config.origin(&instance) {
        for (key, value) in origin.variables() {
            set(key, value);
        }
    }
    if let Some(profile) = config.profiles.get(&instance.profile)
        && let Some(file) = &profile.credential_file
    {
        set("CLAUDED_CREDENTIAL_FILE", file.display().to_string());
        set("CLAUDED_CREDENTIAL_VARIABLE", profile.credential_variable.clone());
    }
    if let Some(user) = &instance.user {
        tracing::warn!(instance = %name, "the process supervisor runs every instance as its own user; user = {user:?} is not in force");
    }
    let program = vec![runner_of(std::env::current_exe().ok().as_deref()).display().to_string()];
    Launch { program, environment, limits: instance.limits, around: config.around(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_runner_is_found_beside_clauded_and_below_the_same_prefix() {
        let prefix = tempfile::tempdir().expect("a directory");
        let (own, installed, beside) =
            (prefix.path().join("bin/clauded"), prefix.path().join("lib/clauded/clauded-runner"), prefix.path().join("bin/clauded-runner"));
        for directory in ["bin", "lib/clauded"] {
            fs::create_dir_all(prefix.path().join(directory)).expect("made");
        }
        assert_eq!(runner_of(Some(&own)), Path::new(INSTALLED));
        for program in [installed, beside] {
            fs::write(&program, "").expect("written");
            assert_eq!(runner_of(Some(&own)), program);
        }
    }
}
