//! What is shipped beside the code says what the code does: the default file, the examples, the man page.

use super::*;
use std::collections::BTreeSet;

const DEFAULT: &str = include_str!("../../config/clauded.toml");
const MANUAL: &str = include_str!("../../packaging/man/clauded.toml.5");
const EXAMPLES: [(&str, &str); 3] = [
    ("classic-team.toml", include_str!("../../config/examples/classic-team.toml")),
    ("three-agents.toml", include_str!("../../config/examples/three-agents.toml")),
    ("team-of-projects.toml", include_str!("../../config/examples/team-of-projects.toml")),
];

fn read(file: &str, text: &str) -> Result<Config, Problems> {
    Config::from_texts(&[(file.into(), text.to_owned())], &Paths::system())
}

/// The default file with every default in force.
fn uncommented() -> String {
    DEFAULT.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Every key that the reader knows, with its table: it lists them all where it meets one that is like none of them.
fn keys() -> BTreeSet<(String, String)> {
    let tables = [
        "fleet",
        "fleet.limits",
        "defaults",
        "defaults.limits",
        "repositories.r",
        "repositories.r.verify",
        "profiles.p",
        "team-templates.t",
        "team-templates.t.limits",
        "team-templates.t.budget",
        "team-templates.t.members.m",
        "team-templates.t.members.m.limits",
        "team-templates.t.members.m.role-limits",
        "teams.t",
        "teams.t.limits",
        "teams.t.budget",
        "teams.t.members.m",
        "teams.t.members.m.limits",
        "teams.t.members.m.role-limits",
        "instances.i",
        "instances.i.limits",
        "instances.i.budget",
        "queue",
        "queue.groups.g",
        "locks",
        "api",
        "metrics",
        "store",
        "audit",
    ];
    let text: String = tables.iter().map(|table| format!("[{table}]\nQQQQ = 0\n")).collect();
    let problems = read("keys", &format!("QQQQ = 0\n{text}")).expect_err("unknown keys");
    let known = problems.all().iter().filter_map(|problem| {
        let table = problem.key.strip_suffix("QQQQ")?.trim_end_matches('.').to_owned();
        let keys = problem.message.strip_prefix("unknown key; known here: ")?;
        Some(keys.split(", ").map(|key| (table.clone(), key.to_owned())).collect::<Vec<_>>())
    });
    let known: BTreeSet<_> = known.flatten().collect();
    assert_eq!(known.iter().map(|(table, _)| table).collect::<BTreeSet<_>>().len(), tables.len() + 1, "{problems}");
    known
}

#[test]
fn the_default_file_holds_the_defaults() {
    let defaults = Config::default_for(&Paths::system());
    assert_eq!(read("clauded.toml", DEFAULT), Ok(defaults.clone()));
    let uncommented = uncommented();
    assert_eq!(read("clauded.toml", &uncommented).unwrap_or_else(|problems| panic!("{problems}")), defaults);
    // Each line must count: that none is said twice and none is empty is TOML's and the reader's to tell.
    assert!(uncommented.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count() > 20);
}

/// The part of the manual on a table.
fn section(table: &str) -> &'static str {
    let heading = match table {
        "repositories.r" => "[repositories.NAME]",
        "repositories.r.verify" => "[repositories.NAME.verify]",
        "profiles.p" => "[profiles.NAME]",
        "instances.i" => "[instances.NAME]",
        "instances.i.budget" => "[instances.NAME.budget]",
        "queue.groups.g" => "[queue.groups.NAME]",
        "teams.t" => "[teams.NAME]",
        "team-templates.t" => "[team-templates.NAME]",
        table if table.ends_with(".members.m") => "[teams.NAME.members.ROLE]",
        table if table.ends_with(".budget") => "[teams.NAME.budget]",
        table if table.ends_with("limits") => "[*.limits]",
        table => &format!("[{table}]"),
    };
    let (_, rest) = MANUAL.split_once(&format!("\n.Ss {heading}\n")).unwrap_or_else(|| panic!("clauded.toml.5 lacks {heading}"));
    let end = rest.find("\n.Ss ").into_iter().chain(rest.find("\n.Sh ")).min();
    &rest[..end.unwrap_or(rest.len())]
}

#[test]
fn every_key_is_in_the_default_file_and_in_the_manual() {
    // `key = …`, or the heading of a table.
    let says = |key: &str, line: &str| line.trim_start_matches(['#', ' ', '[']).strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', ']']));
    for (table, key) in keys() {
        let said = DEFAULT.lines().any(|line| says(&key, line))
            || DEFAULT.contains(&format!("[{table}.{key}]"))
            || DEFAULT.contains(&format!(".{key}."))
            || DEFAULT.contains(&format!(".{key}]"));
        assert!(said, "config/clauded.toml lacks {table}.{key}");
        let told = if table.is_empty() { MANUAL.contains(&format!("\n.Ss [{key}")) } else { section(&table).contains(&format!(".It Ic {key}\n")) };
        assert!(told, "clauded.toml.5 lacks {table}.{key}");
    }
}

#[test]
fn the_manual_has_no_key_that_is_none() {
    let known: BTreeSet<String> = keys().into_iter().map(|(_, key)| key).collect();
    for key in MANUAL.lines().filter_map(|line| line.strip_prefix(".It Ic ")) {
        assert!(known.contains(key), "clauded.toml.5 tells of {key}, which is no key");
    }
}

#[test]
fn the_examples_are_valid() {
    for (file, text) in EXAMPLES {
        let config = read(file, text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.instances.len() >= 3, "{file}");
    }
    let shipped = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples")).expect("listed").count();
    assert_eq!(shipped, EXAMPLES.len(), "an example is not tested");
}
