//! What the scripted agent prints has the keys that real runs printed.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Keys = BTreeMap<String, BTreeSet<String>>;

fn collect(keys: &mut Keys, lines: impl Iterator<Item = String>) {
    for line in lines {
        let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
        let (Some(kind), Some(object)) = (value["type"].as_str(), value.as_object()) else { continue };
        let kind = match value["subtype"].as_str() {
            Some(subtype) => format!("{kind}/{subtype}"),
            None => kind.to_owned(),
        };
        keys.entry(kind).or_default().extend(object.keys().cloned());
    }
}

fn recorded() -> Keys {
    let mut keys = Keys::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    for entry in std::fs::read_dir(directory).expect("samples").map(|e| e.expect("an entry")) {
        collect(&mut keys, std::fs::read_to_string(entry.path()).expect("a sample").lines().map(str::to_owned));
    }
    keys
}

/// Runs the program itself: what counts is what comes out of it.
fn printed(prompt: &str, more: &[&str]) -> Keys {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let config = tempfile::tempdir().expect("tempdir");
    let mut child = Command::new(env!("CARGO_BIN_EXE_scripted-agent"))
        .args(["-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose", "--session-id", "7"])
        .args(more)
        .env("CLAUDE_CONFIG_DIR", config.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the scripted agent");
    let message = serde_json::json!({"type":"user","message":{"role":"user","content":[{"type":"text","text":prompt}]}});
    writeln!(child.stdin.take().expect("stdin"), "{message}").expect("write");
    let output = child.wait_with_output().expect("wait");
    let mut keys = Keys::new();
    collect(&mut keys, String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
    keys
}

#[test]
fn every_key_is_one_that_real_runs_printed() {
    let real = recorded();
    let plays = [
        ("say hello\nturns 1", &[][..]),
        ("output {\"name\": \"bob\"}", &["--json-schema", "{\"type\": \"object\"}"]),
        ("fail auth", &[]),
        ("fail limit 1795252704", &[]),
        ("fail server", &[]),
        ("turns 2\nsay x", &["--max-turns", "2"]),
        ("cost 1\nsay x", &["--max-budget-usd", "0.5"]),
    ];
    let mut kinds = BTreeSet::new();
    for (prompt, more) in plays {
        for (kind, keys) in printed(prompt, more) {
            let known = real.get(&kind).unwrap_or_else(|| panic!("{kind} was never recorded"));
            let unknown: Vec<_> = keys.difference(known).collect();
            assert!(unknown.is_empty(), "{kind}: {unknown:?}");
            kinds.insert(kind);
        }
    }
    for kind in
        ["system/init", "system/api_retry", "assistant", "user", "rate_limit_event", "result/success", "result/error_max_turns", "result/error_max_budget_usd"]
    {
        assert!(kinds.contains(kind), "{kind} was not printed");
    }
}
