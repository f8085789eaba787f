//! Teams as they are written, as people get them wrong, and as `claudectl team` writes them.

use crate::config::{Config, InstanceConfig, Paths, PersistError, Persisted, Problems, TeamChange, persist_limits, persist_team, remove_team};
use crate::core::ids::InstanceName;
use crate::core::limits::{Limits, MemoryLimit};
use crate::core::team::{Budget, Policy, Role};
use crate::core::usage::Usd;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

fn read(text: &str) -> Result<Config, Problems> {
    Config::from_texts(&[("a.toml".into(), text.to_owned())], &Paths::system())
}

fn config(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problem(text: &str) -> String {
    let problems = read(text).expect_err("invalid");
    assert_eq!(problems.all().len(), 1, "{problems}");
    problems.to_string()
}

fn name(text: &str) -> InstanceName {
    text.parse().expect("a name")
}

fn role(text: &str) -> Role {
    text.parse().expect("a role")
}

fn members(config: &Config, team: &str) -> Vec<String> {
    config.members(&name(team)).map(|(name, _)| name.to_string()).collect()
}

#[test]
fn the_built_in_text_is_right_and_changes_nothing_that_is_not_named() {
    let built_in = Config::default_for(&Paths::system());
    assert_eq!(built_in.profiles.keys().collect::<Vec<_>>(), ["claude", "gemini"], "a text that cannot be read counts as none");
    let gemini = &built_in.profiles["gemini"];
    assert_eq!((gemini.profile.command.join(" ").as_str(), gemini.account.as_str()), ("gemini --approval-mode=yolo", "gemini"));
    assert!(built_in.teams.is_empty() && built_in.instances.is_empty());
    let changed = config("[profiles.gemini]\ncommand = \"/opt/gemini\"\n");
    assert_eq!(changed.profiles["gemini"].profile.command, ["/opt/gemini"]);
    assert_eq!(changed.profiles["gemini"].credential_variable, "GEMINI_API_KEY");
}

#[test]
fn one_line_is_the_classic_organisation_on_one_worktree() {
    let config = config("[teams.feature-a]\ntemplate = \"classic\"\n[teams.feature-b]\ntemplate = \"classic\"\n");
    for team in ["feature-a", "feature-b"] {
        let all = ["boss", "gemini", "worker-1", "worker-2", "worker-3"].map(|member| format!("{team}-{member}"));
        assert_eq!(members(&config, team), all);
        let shared = PathBuf::from(format!("/var/lib/claude-code/worktrees/{team}"));
        assert!(config.members(&name(team)).all(|(_, instance)| instance.directory == shared && !instance.autostart));
    }
    let profile = |text: &str| config.profile_of(&name(text)).expect("a profile");
    assert_eq!(profile("feature-a-gemini").command[0], "gemini");
    assert!(profile("feature-a-boss").system_prompt.is_some_and(|prompt| prompt.contains("lead") && !prompt.contains('\n')));
    assert!(profile("feature-a-worker-2").system_prompt.is_some_and(|prompt| prompt.contains("one of several")));
    assert_eq!(profile("another").system_prompt, None);
}

#[test]
fn a_team_is_laid_over_its_template_and_a_table_of_a_member_over_both() {
    let config = config(
        r#"
[defaults.limits]
tasks = 77
[profiles.claude]
system-prompt = "Be brief."
[team-templates.web]
policy = "specialty"
limits = { memory = "20G" }
[team-templates.web.members.dev]
replicas = 2
specialties = ["backend", "frontend", "backend"]
labels = ["linux"]
limits = { memory = "2G" }
role-limits = { memory = "6G" }
max-concurrent-tasks = 1
system-prompt = "You write code."
[team-templates.web.members.ops]
[repositories.shop]
path = "/srv/shop"
[teams.x]
template = "web"
repository = "shop"
autostart = true
max-concurrent-tasks = 4
budget = { day = 10, total = 99.5 }
limits = { cpu = "300%" }
[teams.x.members.dev]
replicas = 3
limits = { swap = "0" }
[teams.x.members.test]
profile = "gemini"
worktree = "shared"
[instances.x-dev-2]
limits = { memory = "3G" }
user = "alice"
"#,
    );
    assert_eq!(members(&config, "x"), ["x-dev-1", "x-dev-2", "x-dev-3", "x-ops", "x-test"]);
    let team = &config.teams[&name("x")];
    assert_eq!((team.policy, team.limits.memory), (Policy::Specialty, Some(MemoryLimit::Bytes(20 << 30))));
    assert_eq!(team.max_concurrent_tasks, Some(4));
    assert_eq!(team.budget, Budget { day: Some(Usd(10_000_000)), total: Some(Usd(99_500_000)) });
    let dev = |number: u32| config.instance(&name(&format!("x-dev-{number}")));
    let limits = |instance: &InstanceConfig| (instance.limits.memory, instance.limits.swap, instance.limits.tasks.map(|tasks| tasks.to_string()));
    let (two, three, none, tasks) = (Some(MemoryLimit::Bytes(2 << 30)), Some(MemoryLimit::Bytes(3 << 30)), Some(MemoryLimit::Bytes(0)), Some("77".to_owned()));
    assert_eq!((limits(&dev(1)), limits(&dev(2))), ((two, none, tasks.clone()), (three, none, tasks)));
    assert_eq!((dev(1).user, dev(2).user.as_deref()), (None, Some("alice")));
    assert!(dev(3).autostart && dev(3).repository.as_deref() == Some("shop") && dev(3).directory.ends_with("worktrees/x-dev-3"));
    let member = dev(3).member.expect("a member");
    assert_eq!((member.specialties.join(" "), member.labels.join(" ")), ("backend frontend".to_owned(), "linux".to_owned()));
    assert_eq!((member.number, member.max_concurrent_tasks, member.shared), (Some(3), Some(1), false));
    assert_eq!(config.profile_of(&name("x-dev-1")).and_then(|p| p.system_prompt).as_deref(), Some("Be brief.\n\nYou write code."));
    let around: Vec<_> = config.around(&name("x-dev-1")).into_iter().map(|(name, limits)| (name, limits.memory.map(|m| m.to_string()))).collect();
    assert_eq!(around, [("x".to_owned(), Some("20G".to_owned())), ("x-dev".to_owned(), Some("6G".to_owned()))]);
    assert_eq!(config.around(&name("x-ops")).len(), 1);
    assert_eq!(config.around(&name("other")), []);
}

#[test]
fn every_mistake_in_a_team_is_refused_with_a_remedy() {
    let classic = "[teams.t]\ntemplate = \"classic\"\n";
    for (text, words) in [
        (format!("{classic}max-concurrent-tasks = 0\n"), "a.toml:3: teams.t.max-concurrent-tasks: must be a whole number from 1 to 10000"),
        ("[teams.t]\n".to_owned(), "a.toml:1: teams.t: has no members; write template = \"classic\""),
        ("[teams.t]\ntemplate = \"clasic\"\n".to_owned(), "a.toml:2: teams.t.template: there is no template \"clasic\"; did you mean \"classic\"?"),
        ("[teams.\"a--b\"]\ntemplate = \"classic\"\n".to_owned(), "a dash stands at an end"),
        ("[teams.t.members.front-end]\n".to_owned(), "teams.t.members.front-end: \"front-end\" is no role"),
        (format!("[teams.{}]\ntemplate = \"classic\"\n", "x".repeat(60)), "its member boss cannot be named: invalid instance name"),
        (format!("{classic}polcy = \"x\"\n"), "a.toml:3: teams.t.polcy: unknown key; did you mean \"policy\"?"),
        (format!("{classic}policy = \"random\"\n"), "\"random\" is none of \"round-robin\", \"specialty\", \"least-loaded\""),
        (format!("{classic}budget = {{ day = 0 }}\n"), "a.toml:3: teams.t.budget.day: 0 is no amount to spend"),
        (format!("{classic}budget = {{ day = \"10\" }}\n"), "is a text, must be a number of US dollars"),
        (format!("{classic}repository = \"shop\"\n"), "a.toml:3: teams.t.repository: there is no [repositories.shop]; add it"),
        (format!("{classic}[teams.t.members.worker]\nreplicas = 101\n"), "members.worker.replicas: must be a whole number from 0 to 100"),
        (format!("{classic}[teams.t.members.worker]\nreplicas = \"3\"\n"), "must be a whole number from 0 to 100, without quotes"),
        (format!("{classic}[teams.t.members.worker]\nworktree = \"mine\"\n"), "\"mine\" is none of \"own\", \"shared\""),
        (format!("{classic}[teams.t.members.worker]\nspecialties = [\"Front End\"]\n"), "\"Front End\" is no such word"),
        (format!("{classic}[teams.t.members.worker]\nlabels = \"x\"\n"), "is a text, must be an array of words"),
        (
            format!("{classic}[teams.t.members.worker]\nprofile = \"cluade\"\n"),
            "a.toml:4: teams.t.members.worker.profile: there is no [profiles.cluade]; did you mean \"claude\"?",
        ),
        (format!("{classic}[teams.t.members.worker]\nuser = \"alice\"\n"), "teams.t.members: its members share a worktree, but not a user"),
        (format!("{classic}[teams.t.members.worker]\nlimits = {{ memory-high = \"5G\" }}\n"), "teams.t.members.worker.limits: memory-high is more than memory"),
        (format!("{classic}[teams.t.members.boss]\nrole-limits = {{ memory = \"5G\" }}\n"), "boss has role-limits, which are those of several together"),
        (format!("{classic}[teams.t.members.gemini]\nsystem-prompt = \"x\"\n"), "means nothing with the profile \"gemini\""),
        (format!("{classic}[teams.t-u]\ntemplate = \"classic\"\n"), "a.toml:3: teams.t-u: its slice would be inside that of the team t,"),
        (
            format!("{classic}[instances.t]\n"),
            "a.toml:3: instances.t: its slice would be in that of the team t, of which it is no member (roles: boss, gemini, worker)",
        ),
        (format!("{classic}[instances.t-helper]\n"), "instances.t-helper: its slice would be in that of the team t"),
        ("[teams.t-u]\ntemplate = \"classic\"\n[instances.t]\n".to_owned(), "teams.t-u: its slice would be inside that of t,"),
        (format!("{classic}[instances.x]\ndirectory = \"/var/lib/claude-code/worktrees/t\"\n"), "two agents in one worktree overwrite each other"),
        ("[team-templates.a.members.b]\nQ = 1\n".to_owned(), "a.toml:2: team-templates.a.members.b.Q: unknown key"),
    ] {
        let told = read(&text).expect_err(&text).to_string();
        assert!(told.contains(words), "{text}\n{told}\nlacks {words}");
    }
    // One mistake of a role is one problem, however many members have it.
    problem(&format!("{classic}[teams.t.members.worker]\nuser = \"root\"\nworktree = \"own\"\n"));
}

#[test]
fn a_table_of_a_member_that_is_away_waits_for_its_return() {
    let of = |replicas: u32| format!("[teams.t.members.w]\nreplicas = {replicas}\n[instances.t-w-2.limits]\nmemory = \"7G\"\n");
    let (one, two) = (config(&of(1)), config(&of(2)));
    assert_eq!(members(&one, "t"), ["t-w-1"]);
    assert!(!one.instances.contains_key(&name("t-w-2")));
    assert_eq!(two.instance(&name("t-w-2")).limits.memory, Some(MemoryLimit::Bytes(7 << 30)));
    assert_eq!(one.surplus_of(&name("t-w-2")), Some(&name("t")));
    for member in ["t-w-1", "t-x-2", "u-w-2", "t-w"] {
        assert_eq!(one.surplus_of(&name(member)), None, "{member}");
    }
    assert_eq!(two.surplus_of(&name("t-w-2")), None);
}

/// A throw-away `/etc/clauded`.
struct Etc(tempfile::TempDir, Paths);

impl Etc {
    fn new(main: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = Paths { config: directory.path().join("clauded.toml"), ..Paths::system() };
        fs::write(&paths.config, main).expect("written");
        Self(directory, paths)
    }

    fn drop_in(&self, file: &str) -> PathBuf {
        self.0.path().join("clauded.toml.d").join(file)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.drop_in(file)).unwrap_or_default()
    }

    fn members(&self, team: &str) -> Vec<String> {
        members(&Config::load(&self.1).expect("valid"), team)
    }

    fn persist(&self, team: &str, change: &TeamChange) -> Result<Persisted, PersistError> {
        persist_team(&self.1, &name(team), change)
    }
}

fn replicas(count: u32) -> TeamChange {
    TeamChange { replicas: [(role("worker"), count)].into(), ..TeamChange::default() }
}

#[test]
fn a_team_is_written_changed_and_taken_away_again() {
    let etc = Etc::new("[repositories.shop]\npath = \"/srv/shop\"\n");
    assert_eq!(etc.persist("a", &TeamChange { repository: Some("shop".into()), ..replicas(2) }).expect("written"), Persisted::Created);
    let file = "team-a.toml";
    assert!(
        etc.text(file).starts_with("# The team a, written by")
            && etc.text(file).ends_with("[teams.a]\ntemplate = \"classic\"\nrepository = \"shop\"\n\n[teams.a.members.worker]\nreplicas = 2\n"),
        "{}",
        etc.text(file)
    );
    assert_eq!(etc.members("a").len(), 4);
    fs::write(etc.drop_in(file), etc.text(file).replace("replicas = 2", "replicas = 2 # enough")).expect("written");
    let before = etc.text(file);
    for same in [TeamChange::default(), replicas(2), TeamChange { template: Some("classic".into()), repository: Some("shop".into()), ..replicas(2) }] {
        assert_eq!(etc.persist("a", &same).expect("the same"), Persisted::Unchanged, "{same:?}");
    }
    assert_eq!(etc.text(file), before);
    assert_eq!(etc.persist("a", &replicas(5)).expect("written"), Persisted::Changed);
    assert_eq!(etc.members("a").len(), 7);
    assert_eq!(etc.persist("b", &TeamChange::default()).expect("a second beside it"), Persisted::Created);
    persist_limits(&etc.1, &name("a-worker-5"), &Limits { memory: "6G".parse().ok(), ..Limits::default() }).expect("written");
    persist_limits(&etc.1, &name("other"), &Limits { memory: "6G".parse().ok(), ..Limits::default() }).expect("written");
    etc.persist("a", &replicas(0)).expect("what is said of a-worker-5 does not hinder it");
    assert_eq!(etc.members("a"), ["a-boss", "a-gemini"]);
    assert!(remove_team(&etc.1, &name("a")).expect("removed"));
    assert!(!etc.drop_in(file).exists() && !etc.text("90-claudectl.toml").contains("a-worker-5") && etc.text("90-claudectl.toml").contains("other"));
    assert!(!remove_team(&etc.1, &name("a")).expect("gone already"));
    assert_eq!(etc.members("b").len(), 5);
    let left: Vec<_> = fs::read_dir(etc.drop_in("")).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_team_that_would_be_wrong_is_not_written() {
    let etc = Etc::new("[instances.one]\n[teams.hand]\ntemplate = \"classic\"\n[teams.hand.members.worker]\nreplicas = 2\n");
    fs::create_dir(etc.drop_in("")).expect("made");
    fs::write(etc.drop_in("zz.toml"), "[teams.last]\ntemplate = \"classic\"\n[teams.last.members.worker]\nreplicas = 9\n").expect("written");
    let boss = TeamChange { replicas: [(role("boss"), 2)].into(), ..TeamChange::default() };
    let template = |template: &str| TeamChange { template: Some(template.into()), ..TeamChange::default() };
    for (team, change, words) in [
        ("one", TeamChange::default(), "its slice would be in that of the team one"),
        ("one-more", TeamChange::default(), "its slice would be inside that of one,"),
        ("hand-more", TeamChange::default(), "its slice would be inside that of the team hand"),
        ("x", template("none"), "there is no template \"none\""),
        ("x", TeamChange { repository: Some("shop".into()), ..TeamChange::default() }, "there is no [repositories.shop]"),
        ("x", replicas(101), "from 0 to 100"),
        ("x", TeamChange { replicas: [(role("wroker"), 2)].into(), ..TeamChange::default() }, "has no role wroker; it has boss, gemini, worker;"),
        ("hand", TeamChange { replicas: [(role("wroker"), 2)].into(), ..TeamChange::default() }, "has no role wroker"),
        ("hand", boss, "the role boss of the team hand is one member, named hand-boss;"),
        ("hand", template("other"), "is there already, with template = \"classic\", not \"other\"; take it down first"),
        ("last", replicas(3), "are set to something else by a file that comes after"),
    ] {
        let told = etc.persist(team, &change).expect_err(words).to_string();
        assert!(told.contains(words), "{told}\nlacks {words}");
    }
    let elsewhere = remove_team(&etc.1, &name("last")).expect_err("by hand").to_string();
    assert!(elsewhere.contains("zz.toml says [teams.last]; take it out there"), "{elsewhere}");
    assert!(remove_team(&etc.1, &name("hand")).expect_err("by hand").to_string().contains("/clauded.toml says [teams.hand]"));
    let left: Vec<_> = fs::read_dir(etc.drop_in("")).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left, ["zz.toml"]);
    assert_eq!(etc.persist("hand", &replicas(4)).expect("laid over what was written by hand"), Persisted::Changed);
    assert_eq!(etc.members("hand").len(), 6);
    fs::write(&etc.1.config, "nonsense").expect("written");
    assert!(etc.persist("x", &TeamChange::default()).expect_err("wrong before").to_string().contains("not valid TOML"));
}

proptest! {
    #[test]
    fn no_configuration_that_is_taken_lets_slices_nest_or_worktrees_be_shared_unasked(
        teams in prop::collection::btree_map("[ab](-[ab]){0,2}", prop::collection::btree_map("[abc1]", (prop::option::of(0u32..4), any::<bool>()), 1..3), 0..3),
        instances in prop::collection::btree_set("[ab](-[abc1]){0,3}", 0..3),
    ) {
        let mut text = String::new();
        for (team, roles) in &teams {
            for (role, (replicas, shared)) in roles {
                text += &format!("[teams.{team}.members.{role}]\nworktree = \"{}\"\n", if *shared { "shared" } else { "own" });
                if let Some(replicas) = replicas {
                    text += &format!("replicas = {replicas}\n");
                }
            }
        }
        for instance in &instances {
            text += &format!("[instances.{instance}]\n");
        }
        let Ok(config) = read(&text) else { return Ok(()) };
        for (one, of_one) in &config.instances {
            for (other, of_other) in &config.instances {
                prop_assert!(!one.contains(other), "{} is around {}\n{}", one, other, text);
                let team = |of: &InstanceConfig| of.member.as_ref().filter(|member| member.shared).map(|member| member.team.clone());
                let shared = team(of_one).is_some() && team(of_one) == team(of_other);
                prop_assert!(one == other || shared || of_one.directory != of_other.directory, "{} and {}\n{}", one, other, text);
            }
            let inside: Vec<_> = config.teams.keys().filter(|team| team.contains(one) || *team == one).collect();
            prop_assert_eq!(inside, of_one.member.as_ref().map(|member| &member.team).into_iter().collect::<Vec<_>>(), "{}", text);
        }
    }
}
