//! Holds the modules of `src` to the layers of `lib.rs`: a module uses those below it, never those beside or above it, and
//! each outside party (SQL, D-Bus, HTTP, the clock) stays behind the one module that speaks to it.
#![allow(clippy::expect_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module's layer; a higher number may use a lower one.
const LAYERS: &[(&str, u8)] = &[
    ("daemon", 2),
    ("runner", 2),
    ("ctl", 2),
    ("generator", 2),
    ("http", 1),
    ("metrics", 1),
    ("platform", 1),
    ("config", 1),
    ("proto", 1),
    ("core", 0),
    ("skip", 0),
];

/// The imports within a layer that are allowed: who, whom, why.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("ctl", "daemon", "clauded(1) is made from the daemon's own command line"),
    ("http", "proto", "the API's types are what it carries"),
    ("metrics", "platform", "it reads the instances' cgroups at scrape time"),
];

/// Words that must not stand in the code below a path: the path, the words, why.
const FENCES: &[(&str, &[&str], &str)] = &[
    (
        "core",
        &["tokio::", "zbus", "sqlx", "axum", "std::fs", "std::process", "std::env", "std::net", "SystemTime", "Instant::now", "Timestamp::now", "Zoned::now"],
        "the domain is pure: time and the world are arguments",
    ),
    ("proto", &["tokio::", "zbus", "sqlx", "axum", "std::fs", "std::process", "std::env"], "wire types have no logic"),
    ("http", &["zbus", "sqlx", "platform::store", "platform::systemd"], "the API sees no SQL and no D-Bus"),
    ("metrics", &["zbus", "sqlx", "axum"], "families know numbers, not where they are kept or how they travel"),
    ("config", &["zbus", "sqlx", "axum", "tokio::"], "reading the configuration needs no runtime: the generator does it at boot"),
    ("generator", &["zbus", "sqlx", "axum", "tokio::"], "it runs before there is a bus, in milliseconds"),
    ("runner", &["zbus", "sqlx", "axum", "platform::store", "platform::systemd", "platform::units"], "the runner is small and holds nothing of the daemon's"),
    ("ctl", &["zbus", "sqlx", "platform::store", "crate::http"], "claudectl is a client of the API"),
    ("daemon", &["zbus", "sqlx"], "the daemon speaks to ports, not to adapters"),
];

/// The files that may name a party that is fenced off elsewhere: zbus and sqlx each have one home.
const HOMES: &[(&str, &str)] = &[("zbus", "platform/systemd"), ("sqlx", "platform/store")];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<(String, String)>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(dir).expect("src is readable").map(|e| e.expect("entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).expect("below src").to_string_lossy().into_owned();
                found.push((name, code(&fs::read_to_string(&path).expect("source is text"))));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found
}

/// The text without its comments: what is named in a comment is not used.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split_once("//").map_or(line, |(before, _)| if before.ends_with(':') { line } else { before })).collect::<Vec<_>>().join("\n")
}

/// The top-level modules that a text names as `crate::m`, also in groups: `crate::{a, b::{c, d}}`.
fn used(text: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (1, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == ',' && depth == 1) || depth == 0 {
                modules.insert(word(group[start..i].trim()));
                start = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    modules.remove("");
    modules
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn module(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// What is wrong with one file.
fn breaches(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let own = module(file);
    if let Some(height) = layer(own) {
        for other in used(text).iter().filter(|o| *o != own) {
            let allowed = match layer(other) {
                None => false,
                Some(below) if below < height => true,
                Some(beside) => beside == height && SIDEWAYS.iter().any(|(from, to, _)| *from == own && to == other),
            };
            if !allowed {
                wrong.push(format!("src/{file} uses crate::{other}, which is not below {own}"));
            }
        }
    }
    for (path, words, why) in FENCES {
        if own == *path {
            wrong.extend(words.iter().filter(|w| text.contains(**w)).map(|w| format!("src/{file} names {w}: {why}")));
        }
    }
    for (party, home) in HOMES {
        if own == "platform" && !file.starts_with(home) && text.contains(party) {
            wrong.push(format!("src/{file} names {party}, whose home is src/{home}"));
        }
    }
    wrong
}

#[test]
fn every_module_keeps_to_its_layer() {
    let wrong: Vec<String> = sources().iter().flat_map(|(file, text)| breaches(file, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let known: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).chain(["lib", "bin"]).collect();
    let strangers: BTreeSet<String> = sources().iter().map(|(file, _)| module(file).to_owned()).filter(|m| !known.contains(m.as_str())).collect();
    assert!(strangers.is_empty(), "no layer for {strangers:?}: say it in lib.rs and here");
}

#[test]
fn the_test_sees_what_it_forbids() {
    for (file, text) in [
        ("core/task.rs", "use crate::proto::api;"),
        ("http/tasks.rs", "use crate::{core::ids, daemon::Handle};"),
        ("proto/link.rs", "fn f() { crate::config::load() }"),
        ("runner/mod.rs", "use crate::ctl::output;"),
        ("runner/mod.rs", "use crate::platform::store::Store;"),
        ("core/queue.rs", "let now = jiff::Timestamp::now();"),
        ("platform/process.rs", "use sqlx::Row;"),
    ] {
        assert!(!breaches(file, &code(text)).is_empty(), "{file}: {text:?} was let through");
    }
    for (file, text) in [
        ("http/tasks.rs", "use crate::{core::{ids, task}, http::auth, proto::api};"),
        ("core/task.rs", "// crate::proto has the wire's side of it"),
        ("daemon/mod.rs", "use crate::platform::units::Units; use crate::http;"),
        ("platform/store/sqlite.rs", "use sqlx::Row;"),
    ] {
        assert_eq!(breaches(file, &code(text)), Vec::<String>::new(), "{file}: {text:?}");
    }
}
