//! `claudectl doctor` and what the real CLI says of its version and login.

use crate::program;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A user's configuration with that profile, and one instance that has run.
fn home(profile: &str) -> Option<tempfile::TempDir> {
    let program = program::find()?;
    let home = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(home.path().join("config/clauded")).expect("made");
    fs::create_dir_all(home.path().join("state/claude-code/instances/a/claude")).expect("made");
    let text = format!("[profiles.claude]\ncommand = \"{}\"\n{profile}\n", program.display());
    let file = home.path().join("config/clauded/clauded.toml");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("made private");
    Some(home)
}

/// What the doctor says of a subject.
fn check(home: &Path, subject: &str) -> (String, String) {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_claudectl"));
    doctor.args(["--user", "doctor", "-o", "json"]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    doctor.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_STATE_HOME", home.join("state")).env("XDG_RUNTIME_DIR", home.join("run"));
    let output = doctor.stdin(Stdio::null()).output().expect("claudectl runs");
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let found = checks.iter().find(|c| c["subject"] == subject).unwrap_or_else(|| panic!("nothing of the {subject}: {checks:?}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("found"))
}

/// What a login leaves behind, without one: the CLI looks at the time alone.
fn log_in(home: &Path, expires: i64) {
    let login = json!({"claudeAiOauth": {"accessToken": "sk-ant-oat01-dummy", "refreshToken": "sk-ant-ort01-dummy", "expiresAt": expires * 1000,
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max"}});
    let file = home.join("state/claude-code/instances/a/claude/.credentials.json");
    fs::write(&file, login.to_string()).expect("written");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("made private");
}

#[test]
fn the_agents_version_is_found() {
    let Some(home) = home("") else { return };
    let (verdict, found) = check(home.path(), "agent");
    assert!(verdict == "ok" && found.contains("2.1.329"), "{verdict}: {found}");
}

#[test]
fn an_instance_without_a_login_is_named_until_it_has_one() {
    let Some(home) = home("") else { return };
    let (verdict, found) = check(home.path(), "login");
    assert_eq!((verdict.as_str(), found.as_str()), ("problem", "not logged in: a"));
    log_in(home.path(), jiff::Timestamp::now().as_second() + 86_400);
    let (verdict, found) = check(home.path(), "login");
    assert_eq!((verdict.as_str(), found.as_str()), ("ok", "1 instance is logged in"));
}

#[test]
fn a_key_or_token_in_the_profile_counts_as_a_login() {
    for variable in ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"] {
        let Some(home) = home(&format!("environment = {{ {variable} = \"dummy\" }}")) else { return };
        let (verdict, found) = check(home.path(), "login");
        assert!(verdict == "ok" && found.contains(variable), "{variable}: {verdict}: {found}");
    }
}
