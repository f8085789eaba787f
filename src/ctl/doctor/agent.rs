//! The agent of the default profile: found where a service finds it, its version, its login.

use super::{Check, Host, ok, problem, warning};
use crate::config::{Config, ProfileConfig};
use crate::core::ids::UNIT_PREFIX;
use crate::core::profile::AgentKind;
use crate::ctl::program::{SERVICE_PATH, ask, find};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// The agent starts a large program; a loaded host takes its time.
const PATIENCE: Duration = Duration::from_secs(15);
/// Instances whose login is looked at.
const INSTANCES_MAX: usize = 16;
/// What Claude Code takes a login from, beside its own files.
const LOGIN_VARIABLES: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

pub(super) async fn checks(host: &Host<'_>) -> Vec<Check> {
    let Some(config) = &host.config else { return Vec::new() };
    let Some(profile) = config.profiles.get(&config.defaults.profile) else { return Vec::new() };
    let name = profile.profile.command.first().map_or("claude", String::as_str);
    let path = path(host).await;
    let Some(program) = find(name, &path) else {
        let advice = if profile.profile.agent == AgentKind::Claude {
            "install it for all users: sudo npm install -g @anthropic-ai/claude-code, or set [profiles.NAME] command to its absolute path"
        } else {
            "install it there, or set [profiles.NAME] command to its absolute path"
        };
        return vec![problem("agent", format!("no program {name} on {path}, where the service looks"), advice)];
    };
    let mut checks = vec![version(host, &program).await];
    if profile.profile.agent == AgentKind::Claude {
        checks.push(login(host, config, profile, &program).await);
    }
    checks
}

/// The PATH of the instances' units; of this process where there is no systemd, which the daemon then passes on.
async fn path(host: &Host<'_>) -> String {
    if !host.booted {
        return std::env::var("PATH").unwrap_or_else(|_| SERVICE_PATH.to_owned());
    }
    let Some(systemctl) = find("systemctl", SERVICE_PATH) else { return SERVICE_PATH.to_owned() };
    let mut command = Command::new(systemctl);
    command.args(host.user.then_some("--user")).args(["show", "--property=Environment", "--value", "claude-code@doctor.service"]);
    let environment = ask(command, Duration::from_secs(5)).await.map(|a| a.text).unwrap_or_default();
    environment.split_whitespace().find_map(|word| word.strip_prefix("PATH=")).unwrap_or(SERVICE_PATH).to_owned()
}

/// The agent with an environment of nothing. If root asks, it runs as whose the directory is, else as the instances' user:
/// their rights count, not root's, and what it writes there must stay theirs.
fn command(host: &Host<'_>, program: &Path, config_directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SERVICE_PATH).env("HOME", config_directory).env("CLAUDE_CONFIG_DIR", config_directory).current_dir("/");
    command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("DISABLE_AUTOUPDATER", "1").env("DISABLE_TELEMETRY", "1");
    if !host.user && nix::unistd::geteuid().is_root() {
        let owner = fs::metadata(config_directory).ok().map(|data| (data.uid(), data.gid()));
        let user = || nix::unistd::User::from_name(UNIT_PREFIX).ok().flatten().map(|user| (user.uid.as_raw(), user.gid.as_raw()));
        if let Some((uid, gid)) = owner.or_else(user) {
            command.uid(uid).gid(gid);
        }
    }
    command
}

async fn version(host: &Host<'_>, program: &Path) -> Check {
    const SUBJECT: &str = "agent";
    let mut command = command(host, program, Path::new("/nonexistent"));
    command.arg("--version");
    match ask(command, PATIENCE).await {
        Ok(answer) if answer.ok => ok(SUBJECT, format!("{} ({})", answer.text.trim(), program.display())),
        Ok(answer) => problem(SUBJECT, format!("{} --version fails: {}", program.display(), answer.complaint), "run it as the user claude-code to see why"),
        Err(error) => problem(SUBJECT, error, "the user claude-code must be able to read and execute it: install it outside home directories"),
    }
}

/// A credential of the profile, else the logins of the instances that have a state directory. The token itself is not tried.
async fn login(host: &Host<'_>, config: &Config, profile: &ProfileConfig, program: &Path) -> Check {
    const SUBJECT: &str = "login";
    if let Some(file) = &profile.credential_file {
        return credential(file);
    }
    let environment = &profile.profile.environment;
    if let Some(variable) = LOGIN_VARIABLES.into_iter().chain([profile.credential_variable.as_str()]).find(|variable| environment.contains_key(*variable)) {
        return ok(SUBJECT, format!("{variable} is set in the profile {}", profile.profile.name));
    }
    let advice = format!(
        "put an API key or the token of `claude setup-token` into a file of root alone and name it in [profiles.{}] credential-file",
        config.defaults.profile
    );
    let directories = match fs::read_dir(host.paths.instances.join("instances")) {
        Ok(entries) => entries.flatten().map(|e| e.path().join("claude")).filter(|d| d.is_dir()).take(INSTANCES_MAX).collect::<Vec<PathBuf>>(),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return warning(SUBJECT, "you may not see the logins of the instances", "run: sudo claudectl doctor");
        }
        Err(_) => Vec::new(),
    };
    if directories.is_empty() {
        return warning(SUBJECT, "no credential is configured, and no instance has logged in yet", advice);
    }
    let mut out = Vec::new();
    for directory in &directories {
        let mut command = command(host, program, directory);
        command.envs(environment).args(["auth", "status"]);
        let answer = ask(command, PATIENCE).await;
        if !answer.is_ok_and(|a| logged_in(&a.text)) {
            out.push(directory.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    if out.is_empty() {
        ok(SUBJECT, if directories.len() == 1 { "1 instance is logged in".to_owned() } else { format!("{} instances are logged in", directories.len()) })
    } else {
        problem(SUBJECT, format!("not logged in: {}", out.join(", ")), advice)
    }
}

fn logged_in(status: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(status).is_ok_and(|v| v.get("loggedIn").and_then(serde_json::Value::as_bool) == Some(true))
}

fn credential(file: &Path) -> Check {
    const SUBJECT: &str = "login";
    let shown = file.display();
    match fs::metadata(file) {
        Ok(data) if data.len() == 0 => problem(SUBJECT, format!("the credential {shown} is empty"), "put the API key or token into it"),
        Ok(data) if data.permissions().mode() & 0o077 != 0 => {
            warning(SUBJECT, format!("the credential {shown} can be read by others"), format!("run: sudo chown root: {shown} && sudo chmod 600 {shown}"))
        }
        Ok(_) => ok(SUBJECT, format!("the credential {shown} is there")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            warning(SUBJECT, format!("you may not look at the credential {shown}"), "run: sudo claudectl doctor")
        }
        Err(error) => problem(SUBJECT, format!("the credential {shown}: {error}"), "put the API key or token into it, readable by root alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn logins_are_what_the_agent_says() {
        assert!(logged_in(r#"{"loggedIn": true, "authMethod": "api_key"}"#));
        assert!(!logged_in(r#"{"loggedIn": false}"#) && !logged_in("") && !logged_in("error"));
    }

    #[test]
    fn credentials_are_private_and_not_empty() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("key");
        assert_eq!(credential(&file).verdict, Verdict::Problem);
        fs::write(&file, "").expect("write");
        assert_eq!(credential(&file).verdict, Verdict::Problem);
        fs::write(&file, "k").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
        assert_eq!(credential(&file).verdict, Verdict::Warning);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
        assert_eq!(credential(&file).verdict, Verdict::Ok);
    }
}
