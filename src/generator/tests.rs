//! What is compiled, what a broken configuration does, and whether systemd itself reads back what was meant.

use super::output::Content;
use super::*;
use crate::config::Config;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const CONFIG: &str = r#"
[fleet]
worktree-root = "/srv/100% of trees"
limits = { memory = "80%", tasks = 5000 }

[defaults]
limits = { memory = "2G", cpu = "150%" }

[profiles.claude]
credential-file = "/etc/clauded/key 100%"

[profiles.script]
agent = "command"
command = "make"

[instances.feature-x]
directory = "/srv/a b/100%/q\"uo\\te/$HOME/'s"
user = "alice"
autostart = true
limits = { memory = "6G" }

[instances.script]
profile = "script"
"#;

fn compiled(text: &str) -> BTreeMap<String, Content> {
    let config = Config::from_texts(&[("a.toml".into(), text.to_owned())], &Paths::system()).expect("valid");
    let outputs = compile::compile(&config, Path::new("/lib/systemd/system/claude-code@.service"));
    outputs.into_iter().map(|output| (output.path.to_string_lossy().into_owned(), output.content)).collect()
}

fn text<'c>(outputs: &'c BTreeMap<String, Content>, unit: &str) -> &'c str {
    match &outputs[&format!("{unit}.d/40-clauded.conf")] {
        Content::Text(text) => text.split_once('\n').expect("a heading").1,
        Content::Link(_) => panic!("{unit} is a link"),
    }
}

#[test]
fn the_configuration_becomes_drop_ins() {
    let outputs = compiled(CONFIG);
    assert_eq!(text(&outputs, "claude-code.slice"), "[Slice]\nMemoryMax=80%\nMemoryHigh=70%\nTasksMax=5000\n");
    assert_eq!(
        text(&outputs, "claude-code@.service"),
        "[Unit]\nRequiresMountsFor=\"/srv/100%% of trees\"\n[Service]\nEnvironment=\"CLAUDED_WORKTREE_ROOT=/srv/100%% of trees\"\n\
         LoadCredential=agent-credential:/etc/clauded/key 100%%\nEnvironment=\"CLAUDED_CREDENTIAL_VARIABLE=ANTHROPIC_API_KEY\"\n\
         MemoryMax=2G\nMemoryHigh=1792M\nMemorySwapMax=1G\nCPUQuota=150%\nTasksMax=1024\n"
    );
    assert_eq!(text(&outputs, "claude-code-feature-x.slice"), "[Slice]\nMemoryMax=6G\nMemoryHigh=5376M\nMemorySwapMax=1G\nCPUQuota=150%\nTasksMax=1024\n");
    let service = text(&outputs, "claude-code@feature-x.service");
    assert!(service.contains("\nUser=alice\n") && service.contains("\nMemoryMax=infinity\n") && service.contains("\nLoadCredential=agent-credential:"));
    let script = text(&outputs, "claude-code@script.service");
    assert!(script.contains("\"CLAUDED_DIRECTORY=/srv/100%% of trees/script\"") && !script.contains("Credential") && !script.contains("User="), "{script}");
    let link = &outputs["multi-user.target.wants/claude-code@feature-x.service"];
    assert_eq!(*link, Content::Link("/lib/systemd/system/claude-code@.service".into()));
    assert_eq!(text(&outputs, "clauded-tcp.socket"), "[Socket]\nListenStream=\nListenStream=127.0.0.1:8888\n");
    assert_eq!(outputs.len(), 8, "{:?}", outputs.keys());
    assert_eq!(compiled("[api]\nlisten = \"off\"\n")["clauded-tcp.socket"], Content::Link("/dev/null".into()));
    assert!(text(&compiled("[api]\nlisten = \"[::1]:99\"\n"), "clauded-tcp.socket").ends_with("\nListenStream=[::1]:99\n"));
}

const TEAMS: &str = r#"
[teams.feature-a]
template = "classic"
autostart = true
limits = { memory = "20G", cpu = "600%" }
[teams.feature-a.members.worker]
replicas = 2
limits = { memory = "6G" }
role-limits = { memory = "8G" }

[teams.b.members.solo]
[instances.b-solo]
autostart = true
user = "alice"

[teams.none.members.worker]
replicas = 0
"#;

#[test]
fn a_team_becomes_a_target_and_nested_slices() {
    let outputs = compiled(TEAMS);
    let whole = |path: &str| match &outputs[path] {
        Content::Text(text) => text.split_once('\n').expect("a heading").1,
        Content::Link(_) => panic!("{path} is a link"),
    };
    let wants = ["boss", "gemini", "worker-1", "worker-2"].map(|member| format!("claude-code@feature-a-{member}.service")).join(" ");
    assert_eq!(
        whole("claude-code-feature-a.target"),
        format!("[Unit]\nDescription=Claude Code team feature-a\nDocumentation=man:clauded.toml(5)\nWants={wants}\n")
    );
    assert_eq!(outputs["multi-user.target.wants/claude-code-feature-a.target"], Content::Link("../claude-code-feature-a.target".into()));
    assert_eq!(text(&outputs, "claude-code-feature-a.slice"), "[Slice]\nMemoryMax=20G\nMemoryHigh=17920M\nCPUQuota=600%\n");
    assert_eq!(text(&outputs, "claude-code-feature-a-worker.slice"), "[Slice]\nMemoryMax=8G\nMemoryHigh=7G\n");
    assert!(text(&outputs, "claude-code-feature-a-worker-1.slice").starts_with("[Slice]\nMemoryMax=6G\n"));
    assert!(
        !outputs.contains_key("claude-code-feature-a-boss.slice.d/40-clauded.conf")
            || text(&outputs, "claude-code-feature-a-boss.slice").contains("MemoryMax=4G")
    );
    for member in ["boss", "worker-2"] {
        let service = text(&outputs, &format!("claude-code@feature-a-{member}.service"));
        assert!(service.contains("]\nRequiresMountsFor=") && service.contains("\nPartOf=claude-code-feature-a.target\n[Service]\n"), "{service}");
        assert!(service.contains("\"CLAUDED_DIRECTORY=/var/lib/claude-code/worktrees/feature-a\""), "{service}");
    }
    let at_boot: Vec<_> = outputs.keys().filter(|path| path.starts_with("multi-user")).collect();
    assert_eq!(at_boot, ["multi-user.target.wants/claude-code-feature-a.target", "multi-user.target.wants/claude-code@b-solo.service"]);
    let solo = text(&outputs, "claude-code@b-solo.service");
    assert!(solo.contains("/worktrees/b-solo\"") && solo.contains("\nUser=alice\n") && solo.contains("PartOf=claude-code-b.target"), "{solo}");
    assert!(!whole("claude-code-none.target").contains("Wants="));
    assert!(!compiled(CONFIG).keys().any(|path| path.ends_with(".target")));
}

#[test]
fn systemd_reads_a_team_as_it_was_meant() {
    let root = tempfile::tempdir().expect("a directory");
    let places = places(root.path(), TEAMS);
    generate(&places).expect("written");
    let template = "[Service]\nExecStart=/bin/true %i\nSlice=claude-code-%i.slice\n";
    fs::write(places.normal.join("claude-code@.service"), template).expect("written");
    let Some(target) = as_systemd_reads(&places.normal, "claude-code-feature-a.target") else { return };
    for member in ["boss", "gemini", "worker-1", "worker-2"] {
        let unit = format!("claude-code@feature-a-{member}.service");
        for relation in ["Wants", "After", "ConsistsOf"] {
            assert!(target.contains(&format!("{relation}: {unit} ")), "{relation} {unit} is not in\n{target}");
        }
    }
    let slice = as_systemd_reads(&places.normal, "claude-code-feature-a-worker-1.slice").expect("still there");
    assert!(slice.contains("Slice: claude-code-feature-a-worker.slice\n") && slice.contains("MemoryMax: 6442450944"), "{slice}");
    let around = as_systemd_reads(&places.normal, "claude-code-feature-a-worker.slice").expect("still there");
    assert!(around.contains("Slice: claude-code-feature-a.slice\n") && around.contains("MemoryMax: 8589934592"), "{around}");
}

/// A host's directories for one generator.
fn places(root: &Path, config: &str) -> Places {
    let paths = Paths { config: root.join("clauded.toml"), ..Paths::system() };
    fs::write(&paths.config, config).expect("written");
    fs::write(root.join("kmsg"), "").expect("written");
    let normal = root.join("normal");
    let _ = fs::remove_dir_all(&normal);
    fs::create_dir(&normal).expect("made");
    Places { paths, normal, kept: root.join("run/kept"), kmsg: root.join("kmsg") }
}

/// Every file and link below a directory, with its content.
fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        match fs::read_link(&path) {
            Ok(target) => drop(all.insert(path, target.to_string_lossy().into_owned())),
            Err(_) if path.is_dir() => all.extend(tree(&path)),
            Err(_) => drop(all.insert(path.clone(), fs::read_to_string(path).expect("read"))),
        }
    }
    all
}

#[test]
fn a_broken_configuration_leaves_the_last_good_one_in_force() {
    let root = tempfile::tempdir().expect("a directory");
    let good = places(root.path(), CONFIG);
    generate(&good).expect("written");
    let before = tree(&good.normal);
    assert_eq!(before.len(), 8);
    let broken = places(root.path(), "[fleet]\nlimts = 3\n");
    generate(&broken).expect("written");
    assert_eq!(tree(&broken.normal), before);
    let kmsg = fs::read_to_string(&broken.kmsg).expect("read");
    assert!(kmsg.contains("clauded.toml:2: fleet.limts: unknown key") && kmsg.contains("the last good one stays in force"), "{kmsg}");
    assert!(kmsg.lines().all(|line| line.starts_with("<3>clauded-generator: ") || line.starts_with("<4>clauded-generator: ")), "{kmsg}");
}

#[test]
fn a_broken_configuration_at_boot_lets_nothing_start() {
    let root = tempfile::tempdir().expect("a directory");
    let broken = places(root.path(), "[fleet]\n\"a\\\\b 100%\" = 3\n");
    generate(&broken).expect("written");
    let written = tree(&broken.normal);
    assert_eq!(written.keys().collect::<Vec<_>>(), [&broken.normal.join("claude-code@.service.d/40-clauded.conf")]);
    let text = written.values().next().expect("one");
    assert!(text.contains("\n[Service]\nEnvironment=\"CLAUDED_CONFIG_ERROR=the configuration is broken: "), "{text}");
    assert!(text.contains("clauded.toml:2: fleet.\\\"a\\\\\\\\b 100%%\\\": unknown key") && text.ends_with("; run: claudectl config check\"\n"), "{text}");
    assert!(!broken.kept.exists());
}

#[test]
fn what_was_kept_and_is_damaged_is_not_used() {
    let root = tempfile::tempdir().expect("a directory");
    let broken = places(root.path(), "nonsense");
    fs::create_dir_all(&broken.kept).and_then(|()| fs::write(broken.kept.join("last-good.json"), "[{\"path\":")).expect("written");
    generate(&broken).expect("written");
    assert!(tree(&broken.normal).values().all(|text| text.contains("CLAUDED_CONFIG_ERROR")));
    assert!(fs::read_to_string(&broken.kmsg).expect("read").contains("decode "));
}

#[test]
fn what_cannot_be_written_is_an_error_with_the_path() {
    let root = tempfile::tempdir().expect("a directory");
    let places = places(root.path(), CONFIG);
    fs::write(places.normal.join("claude-code.slice.d"), "in the way").expect("written");
    let error = generate(&places).expect_err("refused").to_string();
    assert!(error.starts_with("create ") && error.contains("claude-code.slice.d"), "{error}");
}

#[test]
fn running_twice_changes_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let places = places(root.path(), CONFIG);
    generate(&places).expect("written");
    let before = tree(root.path());
    generate(&places).expect("written again");
    assert_eq!(tree(root.path()), before);
}

/// What systemd makes of a unit: the dump that `systemd-analyze verify` prints. `None` where there is no systemd-analyze.
fn as_systemd_reads(directory: &Path, unit: &str) -> Option<String> {
    let analyze = Path::new("/usr/bin/systemd-analyze");
    if !analyze.exists() {
        crate::skip::skip(&format!("drop-ins as systemd reads them: {} is not here; install systemd", analyze.display()));
        return None;
    }
    let load_path = format!("{}:/usr/lib/systemd/system:/lib/systemd/system", directory.display());
    let output =
        Command::new(analyze).args(["verify", "--man=no", unit]).env("SYSTEMD_UNIT_PATH", load_path).env("SYSTEMD_LOG_LEVEL", "debug").output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    let start = log.find(&format!("-> Unit {unit}:")).unwrap_or_else(|| panic!("{unit} was not loaded:\n{log}"));
    Some(log[start..].split("\n\t-> Unit ").next().unwrap_or_default().to_owned())
}

#[test]
fn systemd_reads_back_what_was_meant() {
    let root = tempfile::tempdir().expect("a directory");
    let places = places(root.path(), CONFIG);
    generate(&places).expect("written");
    let template = "[Service]\nExecStart=/bin/true %i\nSlice=claude-code-%i.slice\nMemoryMax=4G\nCPUQuota=50%\nTasksMax=99\n";
    fs::write(places.normal.join("claude-code@.service"), template).expect("written");

    let Some(service) = as_systemd_reads(&places.normal, "claude-code@feature-x.service") else { return };
    for line in [
        "CLAUDED_DIRECTORY=/srv/a b/100%/q\"uo\\te/$HOME/'s\n",
        "CLAUDED_WORKTREE_ROOT=/srv/100% of trees\n",
        "RequiresMountsFor: /srv/a b/100%/q\"uo\\te/$HOME/'s ",
        "Slice: claude-code-feature-x.slice\n",
        "MemoryMax: 18446744073709551615",
        "TasksMax: 18446744073709551615",
        "CPUQuotaPerSecSec: infinity",
        "User: alice",
    ] {
        assert!(service.contains(line), "{line} is not in\n{service}");
    }
    assert_eq!(service.matches("DropIn Path: ").count(), 1, "the drop-in of the instance is to stand in for that of the template\n{service}");

    let unconfigured = as_systemd_reads(&places.normal, "claude-code@other.service").expect("still there");
    for line in ["MemoryMax: 2147483648", "TasksMax: 1024", "CPUQuotaPerSecSec: 1.5", "CLAUDED_WORKTREE_ROOT=/srv/100% of trees\n"] {
        assert!(unconfigured.contains(line), "{line} is not in\n{unconfigured}");
    }
}
