//! The configuration as people get it wrong, as files get it wrong, and as it is laid over itself.

use super::*;
use crate::core::limits::{CpuQuota, MemoryLimit, TasksMax};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn paths() -> Paths {
    Paths::system()
}

fn config(text: &str) -> Config {
    Config::from_texts(&[("a.toml".into(), text.to_owned())], &paths()).expect("valid")
}

fn problems(text: &str) -> Vec<String> {
    let problems = Config::from_texts(&[("a.toml".into(), text.to_owned())], &paths()).expect_err("invalid");
    problems.all().iter().map(ToString::to_string).collect()
}

/// The only problem of a text.
fn problem(text: &str) -> String {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn name(text: &str) -> InstanceName {
    text.parse().expect("a name")
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let text = r#"
[fleet]
supervisor = "sytemd"
worktre-root = "/srv"

[defaults]
limits = { memory = "4GB", tasks = 0 }
profile = "cluade"

[instances."a--b"]
directory = "relative"
autostart = "yes"

[api]
listen = "0.0.0.0:8888"
"#;
    let all = problems(text);
    let expected = [
        ("a.toml:3: fleet.supervisor: ", "\"sytemd\" is none of \"auto\", \"systemd\""),
        ("a.toml:4: fleet.worktre-root: ", "unknown key; did you mean \"worktree-root\"?"),
        ("a.toml:7: defaults.limits.memory: ", "\"4GB\" is not an amount of memory"),
        ("a.toml:7: defaults.limits.tasks: ", "\"0\" is not a number of processes"),
        ("a.toml:8: defaults.profile: ", "there is no [profiles.cluade]; did you mean \"claude\"?"),
        ("a.toml:10: instances.a--b: ", "a dash stands at an end or beside another dash"),
        ("a.toml:11: instances.a--b.directory: ", "\"relative\" is not absolute"),
        ("a.toml:12: instances.a--b.autostart: ", "is a text, must be true or false"),
        ("a.toml:15: api.listen: ", "0.0.0.0 is not a loopback address"),
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (line, (place, words)) in all.iter().zip(expected) {
        assert!(line.starts_with(place) && line.contains(words) && !line.contains('\n'), "{line}\nis not {place}{words}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_line() {
    let line = problem("[fleet]\nsupervisor = \n");
    assert!(line.starts_with("a.toml:2: not valid TOML: "), "{line}");
    assert!(problem("[api]\nlisten = \"off\"\nlisten = \"off\"\n").starts_with("a.toml:3: not valid TOML: duplicate key"));
}

#[test]
fn every_kind_of_bad_value_is_refused_with_a_remedy() {
    for (text, words) in [
        ("[defaults]\ntask-timeout = 30", "has no unit; write a span of time in quotes, such as \"30s\""),
        ("[defaults]\ntask-timeout = \"0s\"", "is not a span of time"),
        ("[defaults.limits]\nmemory = 4", "4 has no unit; write a text in quotes, such as \"4G\""),
        ("[defaults.limits]\nmemory = \"4\"", "less than a megabyte; write the unit"),
        ("[defaults.limits]\nswap = \"10%\"", "is not an amount of swap"),
        ("[defaults.limits]\ncpu = 1.5", "is a number with a point, must be a text"),
        ("[defaults.limits]\nio-weight = 0", "is not a weight"),
        ("[defaults]\nlimits = \"4G\"", "is a text, must be a table; write it as [defaults.limits]"),
        ("[defaults.limits]\nmemory = \"2G\"\nmemory-high = \"3G\"", "3G is more than memory = \"2G\""),
        ("[instances.a.limits]\nmemory-high = \"5G\"", "5G is more than memory = \"4G\""),
        ("[repositories.a]", "repositories.a.path: is missing"),
        ("[repositories.\"a b\"]\npath = \"/a\"", "is no name"),
        ("[repositories.a]\npath = \"/a\"\ndefault-branch = \"--upload-pack=x\"", "cannot be a branch"),
        ("[repositories.a]\npath = \"~/a\"", "'~' is not expanded"),
        ("[repositories.a]\npath = \"/a\"\nurl = \"https://a/b\"", "repositories.a.url: stands beside path"),
        ("[repositories.a]\nurl = \"ext::sh -c x\"", "is no URL"),
        ("[repositories.a]\nurl = \"/srv/a\"", "is a path; write it as path"),
        ("[repositories.a]\nurl = \"https://me:secret@a/b\"", "has a password in it"),
        ("[repositories.a]\npath = \"/a\"\nbranch = \"x/{name}\"", "{name}; known are"),
        ("[repositories.a]\npath = \"/a\"\nbranch = \"-{slug}\"", "cannot be the name of a branch: it begins with '-'"),
        ("[repositories.a]\npath = \"/a\"\npush = \"--force\"", "cannot be the name of a remote"),
        ("[repositories.a]\npath = \"/a\"\nverify = \"make test\"", "no shell takes"),
        ("[repositories.a]\npath = \"/a\"\nverify = { timeout = \"1min\" }", "repositories.a.verify.command: is missing"),
        ("[repositories.a]\npath = \"/a\"\nverify = [\"./../x\"]", "names no program of the worktree"),
        ("[repositories.a]\npath = \"/a\"\ncaches = [\"cargo\", \"maven\"]", "is none of \"cargo\""),
        ("[repositories.a]\npath = \"/a\"\nauthor-name = \"A <a@b>\"", "'<' or '>'"),
        ("[repositories.\"a.git\"]\npath = \"/a\"", "ends with '.' or \".git\""),
        (
            "[repositories.r]\npath = \"/a\"\n[instances.a]\nrepository = \"r\"\nuser = \"root\"\nprofile = \"p\"\n[profiles.p]\npermission-mode = \"plan\"",
            "git does not run as root",
        ),
        ("[repositories.r]\npath = \"/a\"\n[instances.a]\nrepository = \"r\"\ndirectory = \"/a/x\"", "is inside of /a"),
        ("[profiles.p]\nverify-attempts = 11", "must be a number from 0 to 10"),
        ("[profiles.p]\nagent = \"command\"", "profiles.p.command: is missing"),
        ("[profiles.p]\nagent = \"command\"\ncommand = \"gemini --yolo\"", "no shell takes"),
        ("[profiles.p]\nagent = \"command\"\ncommand = []", "names no program"),
        ("[profiles.p]\nagent = \"command\"\ncommand = \"bin/x\"", "is relative"),
        ("[profiles.p]\nagent = \"command\"\ncommand = \"x\"\nmodel = \"opus\"", "profiles.p.model: means nothing"),
        ("[profiles.p]\npermission-mode = \"yolo\"", "is none of \"acceptEdits\""),
        ("[profiles.p]\nenvironment = { \"A=B\" = \"c\" }", "cannot be an environment variable"),
        ("[profiles.p]\nenvironment = { A = 1 }", "A is a number, must be a text"),
        ("[profiles.p]\nkill-grace = \"41s\"", "is more than 40s"),
        ("[profiles.p]\nlog-max = \"50%\"", "must be a size such as"),
        ("[profiles.p]\npressure-percent = 101", "must be a number from 1 to 100"),
        ("[profiles.p]\ncredential-variable = \"1A\"", "cannot be an environment variable"),
        ("[profiles.p]\ncredential-file = \"/a\\\\\"", "ends in white space or a backslash"),
        ("[instances.a]\nprofile = \"b\"", "there is no [profiles.b]; there are claude, gemini; add it"),
        ("[instances.a]\nrepository = \"b\"", "there is no [repositories.b]; add it"),
        ("[instances.a]\nuser = \"root\"", "root may not use permission-mode"),
        ("[instances.a]\nuser = \"a b\"", "cannot be a user's name"),
        ("[instances.a]\ndirectory = \"/srv/../etc\"", "has \"..\" in it"),
        ("[instances.a]\ndirectory = \"/srv/\\n\"", "control characters"),
        ("[instances.\"../a\"]", "invalid instance name"),
        ("[api]\nlisten = \"localhost:8888\"", "is not an address with a port"),
        ("[store]\nkeep = true", "is true or false, must be a text"),
        ("[queue]\nsize-classes = [\"4G\", \"2G\"]", "the size classes have to rise"),
        ("[queue]\nsize-classes = [\"infinity\"]", "infinity is no size class"),
        ("[queue]\nsize-classes = \"2G\"", "must be an array of amounts of memory"),
        ("QQ = 3", "unknown key; known here: fleet, defaults, repositories, profiles, team-templates, teams, instances, queue, locks, api, metrics, store"),
        ("[metrics]\nrequire_token = true", "did you mean \"require-token\"?"),
    ] {
        let line = problem(text);
        assert!(line.contains(words), "{text}\n{line}\nlacks {words}");
    }
}

#[test]
fn slices_that_would_nest_are_refused() {
    let line = problem("[instances.feature]\n[instances.feature-a]\n[instances.featured]\n");
    assert!(line.starts_with("a.toml:2: instances.feature-a: its slice would be inside that of feature,"), "{line}");
    assert_eq!(problems("[instances.a]\n[instances.a-b]\n[instances.a-b-c]\n").len(), 3);
}

#[test]
fn two_agents_in_one_worktree_are_refused() {
    let line = problem("[instances.a]\ndirectory = \"/srv//w/\"\n[instances.b]\ndirectory = \"/srv/w\"\n");
    assert!(line.starts_with("a.toml:4: instances.b.directory: /srv/w is also the directory of a;"), "{line}");
    let implied = problem("[instances.a]\n[instances.b]\ndirectory = \"/var/lib/claude-code/worktrees/a\"\n");
    assert!(implied.contains("also the directory of a"), "{implied}");
}

#[test]
fn limits_come_from_the_instance_then_the_defaults() {
    let config = config(
        "[defaults.limits]\nmemory = \"8G\"\ncpu = \"200%\"\n[instances.a]\n[instances.b.limits]\nmemory = \"2G\"\nswap = \"0\"\n[instances.c.limits]\nmemory = \"50%\"\ntasks = \"infinity\"\n",
    );
    let limits = |text: &str| config.instance(&name(text)).limits;
    assert_eq!(limits("a"), config.defaults.limits);
    assert_eq!(limits("unconfigured"), config.defaults.limits);
    assert_eq!(limits("a").memory_high, Some(MemoryLimit::Bytes(7 << 30)));
    assert_eq!((limits("b").memory_high, limits("b").swap), (Some(MemoryLimit::Bytes(7 << 28)), Some(MemoryLimit::Bytes(0))));
    assert_eq!(limits("b").cpu, Some(CpuQuota::Percent(200)));
    assert_eq!((limits("c").memory, limits("c").tasks), (Some(MemoryLimit::PercentOfHost(50)), Some(TasksMax::Infinity)));
}

#[test]
fn the_built_in_profile_is_there_and_can_be_changed() {
    let built_in = &Config::default_for(&paths()).profiles["claude"];
    assert_eq!((built_in.profile.command.as_slice(), built_in.account.as_str()), (["claude".to_owned()].as_slice(), "claude"));
    assert!(!built_in.profile.trust_repository);
    let changed = config("[profiles.claude]\nmodel = \"opus\"\n[profiles.g]\nagent = \"command\"\ncommand = [\"gemini\", \"-y\"]\n");
    assert_eq!(changed.profiles["claude"].profile.model.as_deref(), Some("opus"));
    assert_eq!(changed.profiles["claude"].profile.stall_timeout, built_in.profile.stall_timeout);
    assert_eq!((changed.profiles["g"].profile.permission_mode.as_deref(), changed.profiles["g"].account.as_str()), (None, "command"));
}

#[test]
fn later_files_override_key_by_key() {
    let texts = [
        ("a.toml", "[api]\nlisten = \"off\"\ntoken-file = \"/t\"\n[instances.a]\nautostart = true\n"),
        ("b.toml", "[api]\nlisten = \"127.0.0.1:1\"\n[instances.a.limits]\nmemory = \"1G\"\n[instances.b]\n"),
    ];
    let texts = texts.map(|(file, text)| (PathBuf::from(file), text.to_owned()));
    let config = Config::from_texts(&texts, &paths()).expect("valid");
    assert_eq!(config.api, Api { listen: "127.0.0.1:1".parse().ok(), token_file: "/t".into() });
    let a = config.instance(&name("a"));
    assert!(a.autostart && a.limits.memory == Some(MemoryLimit::Bytes(1 << 30)) && config.instances.len() == 2);
}

#[test]
fn a_problem_names_the_file_that_has_the_last_word() {
    let texts = [("a.toml", "[api]\nlisten = 1\n"), ("b.toml", "[api]\n\nlisten = 2\n")].map(|(file, text)| (PathBuf::from(file), text.to_owned()));
    let problems = Config::from_texts(&texts, &paths()).expect_err("invalid");
    assert!(problems.to_string().starts_with("b.toml:3: api.listen: "), "{problems}");
}

/// A throw-away `/etc/clauded`.
struct Etc(tempfile::TempDir, Paths);

impl Etc {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = Paths { config: directory.path().join("clauded.toml"), ..Paths::system() };
        Self(directory, paths)
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.path().join(file);
        fs::create_dir_all(file.parent().expect("a parent")).and_then(|()| fs::write(&file, text)).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
        file
    }

    fn refused(&self) -> String {
        Config::load(&self.1).expect_err("refused").to_string()
    }
}

#[test]
fn no_file_means_defaults() {
    let etc = Etc::new();
    assert_eq!(Config::load(&etc.1), Ok(Config::default_for(&etc.1)));
}

#[test]
fn files_are_read_in_lexical_order() {
    let etc = Etc::new();
    etc.write("clauded.toml", "[store]\nkeep = \"1d\"\npath = \"/a\"\n");
    etc.write("clauded.toml.d/20-b.toml", "[store]\nkeep = \"3d\"\n");
    etc.write("clauded.toml.d/10-a.toml", "[store]\nkeep = \"2d\"\npath = \"/b\"\n");
    etc.write("clauded.toml.d/30-c.toml.orig", "nonsense");
    etc.write("clauded.toml.d/.40.toml", "nonsense");
    let store = Config::load(&etc.1).expect("valid").store;
    assert_eq!(store, Store { path: "/b".into(), keep: Duration::from_secs(3 * 86_400) });
}

#[test]
fn what_others_could_have_written_is_refused() {
    let etc = Etc::new();
    let main = etc.write("clauded.toml", "");
    let drop_in = etc.write("clauded.toml.d/a.toml", "");
    for file in [&main, &drop_in] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o666)).expect("changed");
    }
    assert_eq!(etc.refused().matches("everyone may write to it (mode 0666); chmod o-w it").count(), 2);
    fs::set_permissions(&main, fs::Permissions::from_mode(0o644)).expect("changed");
    fs::set_permissions(&drop_in, fs::Permissions::from_mode(0o644)).expect("changed");
    assert!(Config::load(&etc.1).is_ok());
    fs::set_permissions(drop_in.parent().expect("a parent"), fs::Permissions::from_mode(0o777)).expect("changed");
    assert!(etc.refused().contains("clauded.toml.d: everyone may write to it"));
    fs::set_permissions(drop_in.parent().expect("a parent"), fs::Permissions::from_mode(0o1777)).expect("changed");
    assert!(Config::load(&etc.1).is_ok(), "as in /tmp: nobody can replace what is there");
}

#[test]
fn foreign_owners_and_groups_are_refused() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("foreign owners of the configuration: only root can give files away");
    }
    let etc = Etc::new();
    let file = etc.write("clauded.toml", "");
    std::os::unix::fs::chown(&file, Some(12_345), None).expect("given away");
    assert!(etc.refused().contains("belongs to user 12345"));
    std::os::unix::fs::chown(&file, Some(0), Some(12_345)).expect("taken back");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).expect("changed");
    assert!(etc.refused().contains("group 12345 may write to it (mode 0664)"));
    std::os::unix::fs::chown(&file, Some(0), Some(0)).expect("taken back");
    assert!(Config::load(&etc.1).is_ok());
}

#[test]
fn what_cannot_be_read_is_refused_and_never_taken_for_nothing() {
    let etc = Etc::new();
    fs::create_dir(&etc.1.config).expect("made");
    assert!(etc.refused().contains("clauded.toml: is not a regular file"));
    fs::remove_dir(&etc.1.config).expect("removed");
    std::os::unix::fs::symlink("nowhere", &etc.1.config).expect("linked");
    assert!(etc.refused().contains("clauded.toml: cannot open it: No such file"));
    fs::remove_file(&etc.1.config).expect("removed");
    nix::unistd::mkfifo(&etc.1.config, nix::sys::stat::Mode::S_IRUSR).expect("made");
    assert!(etc.refused().contains("is not a regular file"));
    fs::remove_file(&etc.1.config).expect("removed");
    etc.write("clauded.toml", b"[api]\n\xff\n");
    assert!(etc.refused().contains("clauded.toml:2: is not UTF-8 here"));
    etc.write("clauded.toml", vec![b'#'; (1 << 20) + 1]);
    assert!(etc.refused().contains("longer than a megabyte"));
    etc.write("clauded.toml", "");
    etc.write("clauded.toml.d", "");
    assert!(etc.refused().contains("clauded.toml.d: is not a directory"));
}

fn limit(memory: &str) -> Limits {
    Limits { memory: memory.parse().ok(), ..Limits::default() }
}

#[test]
fn persisted_limits_hold_and_comments_stay() {
    let etc = Etc::new();
    etc.write("clauded.toml", "[instances.a.limits]\nmemory = \"1G\"\ncpu = \"150%\"\n");
    let text = "# mine\n[instances.b] # also mine\nautostart = true\n\n[instances.b.limits]\nmemory = \"2G\" # why\n";
    let file = etc.write("clauded.toml.d/90-claudectl.toml", text);
    assert!(persist_limits(&etc.1, &name("b"), &limit("3G")).expect("written"));
    assert_eq!(fs::read_to_string(&file).expect("read"), text.replace("2G", "3G"));
    assert!(!persist_limits(&etc.1, &name("b"), &limit("3G")).expect("the same"));
    let swap = Limits { swap: Some(MemoryLimit::Bytes(0)), tasks: Some(TasksMax::Count(9)), ..limit("6G") };
    assert!(persist_limits(&etc.1, &name("a"), &swap).expect("written"));
    let config = Config::load(&etc.1).expect("valid");
    assert_eq!(swap.or(config.instance(&name("a")).limits), config.instance(&name("a")).limits);
    assert_eq!(config.instance(&name("a")).limits.cpu, Some(CpuQuota::Percent(150)));
    assert!(config.instance(&name("b")).autostart);
    assert!(fs::read_to_string(&file).expect("read").starts_with("# mine\n"));
    assert_eq!(fs::read_dir(file.parent().expect("a parent")).expect("listed").count(), 1);
}

#[test]
fn the_first_persisted_limit_makes_the_file() {
    let etc = Etc::new();
    assert!(!persist_limits(&etc.1, &name("x.y"), &Limits::default()).expect("nothing to do"));
    assert!(persist_limits(&etc.1, &name("x.y"), &limit("3G")).expect("written"));
    let text = fs::read_to_string(etc.0.path().join("clauded.toml.d/90-claudectl.toml")).expect("read");
    assert!(text.starts_with("# Written by") && text.ends_with("\n\n[instances.\"x.y\".limits]\nmemory = \"3G\"\n"), "{text}");
}

#[test]
fn every_limit_that_is_persisted_is_read_again() {
    let etc = Etc::new();
    let limits = Limits {
        memory: "3G".parse().ok(),
        memory_high: "2560M".parse().ok(),
        swap: MemoryLimit::from_swap("0").ok(),
        cpu: "150%".parse().ok(),
        cpu_weight: "70".parse().ok(),
        io_weight: "80".parse().ok(),
        tasks: "90".parse().ok(),
    };
    assert!(persist_limits(&etc.1, &name("x"), &limits).expect("written"));
    assert_eq!(Config::load(&etc.1).expect("valid").instance(&name("x")).limits, limits);
    assert!(!persist_limits(&etc.1, &name("x"), &limits).expect("the same again"));
}

#[test]
fn limits_that_would_not_hold_are_not_written() {
    let etc = Etc::new();
    etc.write("clauded.toml", "[instances.a-b]\n[instances.c.limits]\nmemory-high = \"2G\"\n");
    etc.write("clauded.toml.d/99-last.toml", "[instances.c.limits]\nmemory = \"3G\"\n");
    let refused = |instance: &str, memory: &str| persist_limits(&etc.1, &name(instance), &limit(memory)).expect_err("refused").to_string();
    assert!(refused("a", "1G").contains("its slice would be inside that of a"));
    assert!(refused("c", "1G").contains("a file that comes after"));
    etc.write("clauded.toml.d/99-last.toml", "");
    assert!(refused("c", "1G").contains("2G is more than memory"));
    let file = etc.write("clauded.toml.d/90-claudectl.toml", "[instances]\n");
    etc.write("clauded.toml.d/99-last.toml", "[instances.c]\nlimits = 3\n");
    assert!(refused("c", "3G").contains("must be a table"));
    assert_eq!(fs::read_to_string(file).expect("read"), "[instances]\n");
}

/// Words of which nearly valid configurations are made.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "[fleet]",
        "[defaults.limits]",
        "[instances.a]",
        "[instances.a-b]",
        "[[profiles]]",
        "[profiles.claude]",
        "[teams.a]",
        "[team-templates.classic.members.boss]",
        "members",
        "replicas",
        "memory",
        "limits",
        "directory",
        "=",
        "\"4G\"",
        "\"/srv\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ".",
        "\n",
        "\"",
        "'''",
        "#",
        "0x",
        "1e9",
        "true",
        "1979-05-27",
        "\\u0000",
        "\u{feff}",
        "é",
        "\r",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof!["\\PC{0,200}", "(?s).{0,200}", fragment()]) {
        let read = Config::from_texts(&[("a.toml".into(), text)], &paths());
        if let Err(problems) = read {
            prop_assert!(!problems.all().is_empty());
            prop_assert!(problems.all().iter().all(|p| !p.to_string().contains('\n')), "{}", problems);
        }
    }

    #[test]
    fn the_last_file_that_says_a_key_wins(values in prop::collection::vec((any::<bool>(), 1u8..=100, any::<bool>(), 1u16..1000), 1..6)) {
        let texts: Vec<_> = values.iter().enumerate().map(|(at, (percent, p, tasks, t))| {
            let percent = if *percent { format!("[profiles.claude]\npressure-percent = {p}\n") } else { String::new() };
            let tasks = if *tasks { format!("[instances.a.limits]\ntasks = {t}\n") } else { String::new() };
            (PathBuf::from(format!("{at}.toml")), percent + &tasks)
        }).collect();
        let config = Config::from_texts(&texts, &paths()).expect("valid");
        let percent = values.iter().rev().find(|v| v.0).map_or(60, |v| v.1);
        let tasks = values.iter().rev().find(|v| v.2).map_or(1024, |v| u64::from(v.3));
        prop_assert_eq!(config.profiles["claude"].profile.pressure_percent, percent);
        prop_assert_eq!(config.instance(&name("a")).limits.tasks, Some(TasksMax::Count(tasks)));
    }
}

#[test]
fn nesting_as_deep_as_it_goes_does_not_overflow_the_stack() {
    for text in [format!("{}a = 1", "a.".repeat(200_000)), format!("a = {}", "[".repeat(200_000)), format!("[{}a]", "a.".repeat(200_000))] {
        assert!(!problems(&text).is_empty());
    }
}
