//! The agent of the default profile: found where a service finds it, its version, its login.

use super::{Check, Host, ok, problem, warning};
use crate::config::{Config, ProfileConfig};
use crate::core::ids::{InstanceName, UNIT_PREFIX};
use crate::core::profile::{AgentKind, credential_advice};
use crate::ctl::program::{SERVICE_PATH, ask, find};
use nix::unistd::{Uid, User};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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

/// Whose rights the agent is given: those of the caller (`None`), or where root asks, of the user that the instance has.
///
/// # Errors
/// Why it is not run: never as root, and never as whoever owns what is found on disk, since agents can move that about.
fn rights(root_asks: bool, user: Option<&str>) -> Result<Option<(u32, u32)>, String> {
    if !root_asks {
        return Ok(None);
    }
    let name = user.unwrap_or(UNIT_PREFIX);
    let found = match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    match found {
        Ok(Some(user)) if user.uid.is_root() => Err(format!("it would run as root, being that of the user {name}")),
        Ok(Some(user)) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        Ok(None) => Err(format!("there is no user {name}")),
        Err(error) => Err(format!("the user {name} cannot be looked up: {error}")),
    }
}

/// The agent with an environment of nothing, and these rights.
fn command(program: &Path, config_directory: &Path, rights: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SERVICE_PATH).env("HOME", config_directory).env("CLAUDE_CONFIG_DIR", config_directory).current_dir("/");
    command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("DISABLE_AUTOUPDATER", "1").env("DISABLE_TELEMETRY", "1");
    if let Some((uid, gid)) = rights {
        // The standard library drops the supplementary groups with the user.
        command.uid(uid).gid(gid);
    }
    command
}

fn root_asks(host: &Host<'_>) -> bool {
    !host.user && nix::unistd::geteuid().is_root()
}

async fn version(host: &Host<'_>, program: &Path) -> Check {
    const SUBJECT: &str = "agent";
    let rights = match rights(root_asks(host), None) {
        Ok(rights) => rights,
        Err(why) => {
            return warning(SUBJECT, format!("{} is there; its version is not known, since {why}", program.display()), "make the user: sudo systemd-sysusers");
        }
    };
    let mut command = command(program, Path::new("/nonexistent"), rights);
    command.arg("--version");
    match ask(command, PATIENCE).await {
        Ok(answer) if answer.ok => ok(SUBJECT, format!("{} ({})", answer.text.trim(), program.display())),
        Ok(answer) => problem(SUBJECT, format!("{} --version fails: {}", program.display(), answer.complaint), "run it as the user claude-code to see why"),
        Err(error) => problem(SUBJECT, error, "the user claude-code must be able to read and execute it: install it outside home directories"),
    }
}

/// The instances below that directory whose agent has a directory of its own. Links are not followed: agents may have made them.
fn started(instances: &Path) -> io::Result<Vec<InstanceName>> {
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
    let entries = fs::read_dir(instances)?.flatten().filter(|entry| is_directory(&entry.path()) && is_directory(&entry.path().join("claude")));
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(INSTANCES_MAX).collect())
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
    let advice = credential_advice(&config.defaults.profile);
    let root = host.paths.instances.join("instances");
    let instances: Vec<_> = match started(&root) {
        // Those of other profiles have other agents, or none that logs in.
        Ok(instances) => instances.into_iter().filter(|name| config.instance(name).profile == config.defaults.profile).collect(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return warning(SUBJECT, "you may not see the logins of the instances", "run: sudo claudectl doctor");
        }
        Err(_) => Vec::new(),
    };
    if instances.is_empty() {
        return warning(SUBJECT, "no credential is configured, and no instance has logged in yet", advice);
    }
    let mut out = Vec::new();
    for name in &instances {
        let rights = match rights(root_asks(host), config.instance(name).user.as_deref()) {
            Ok(rights) => rights,
            Err(why) => return warning(SUBJECT, format!("the agent of {name} was not asked, since {why}"), advice),
        };
        let mut command = command(program, &root.join(name.as_str()).join("claude"), rights);
        command.envs(environment).args(["auth", "status"]);
        let answer = ask(command, PATIENCE).await;
        if !answer.is_ok_and(|a| logged_in(&a.text)) {
            out.push(name.as_str());
        }
    }
    if out.is_empty() {
        ok(SUBJECT, if instances.len() == 1 { "1 instance is logged in".to_owned() } else { format!("{} instances are logged in", instances.len()) })
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
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
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
    fn root_asks_as_the_instances_user_and_never_as_root() {
        assert_eq!(rights(false, Some("root")), Ok(None));
        let nobody = User::from_name("nobody").expect("looked up").expect("every host has it");
        assert_eq!(rights(true, Some("nobody")), Ok(Some((nobody.uid.as_raw(), nobody.gid.as_raw()))));
        for root in ["root", "0"] {
            assert!(rights(true, Some(root)).is_err_and(|why| why.contains("as root")));
        }
        assert!(rights(true, Some("nobody-of-that-name")).is_err_and(|why| why.contains("there is no user")));
    }

    #[tokio::test]
    async fn the_agent_gets_these_rights() {
        if !nix::unistd::geteuid().is_root() {
            return crate::skip::skip("doctor as root: only root can be another user");
        }
        let mut id = command(Path::new("/bin/sh"), Path::new("/nonexistent"), Some((65_534, 65_534)));
        id.args(["-c", "id -u; id -G"]);
        assert_eq!(ask(id, PATIENCE).await.map(|answer| answer.text), Ok("65534\n65534\n".to_owned()));
    }

    #[test]
    fn links_that_agents_made_are_no_instances() {
        let root = tempfile::tempdir().expect("directory");
        let path = |name: &str| root.path().join(name);
        for name in ["a/claude", "b", "elsewhere/claude", "a--b/claude"] {
            fs::create_dir_all(path(name)).expect("made");
        }
        std::os::unix::fs::symlink(path("elsewhere/claude"), path("b/claude")).expect("linked");
        std::os::unix::fs::symlink(path("elsewhere"), path("c")).expect("linked");
        let mut names: Vec<String> = started(root.path()).expect("listed").iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["a", "elsewhere"]);
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
