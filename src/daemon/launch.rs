//! How the process supervisor starts a runner: what systemd's unit and drop-ins would have said.

use crate::config::{Config, Paths};
use crate::core::ids::InstanceName;
use crate::platform::process::Launch;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the package puts the runner.
const INSTALLED: &str = "/usr/lib/clauded/clauded-runner";

/// What is passed on from the daemon's environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// The runner's program: beside this one (a build tree, `/usr/local`), else where the package puts it.
pub(super) fn runner_program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|dir| dir.join("clauded-runner")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| INSTALLED.into())
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
    if let Some(profile) = config.profiles.get(&instance.profile)
        && let Some(file) = &profile.credential_file
    {
        set("CLAUDED_CREDENTIAL_FILE", file.display().to_string());
        set("CLAUDED_CREDENTIAL_VARIABLE", profile.credential_variable.clone());
    }
    if let Some(user) = &instance.user {
        tracing::warn!(instance = %name, "the process supervisor runs every instance as its own user; user = {user:?} is not in force");
    }
    Launch { program: vec![runner_program().display().to_string()], environment, limits: instance.limits }
}
