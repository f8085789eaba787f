//! What could check the work on a repository, from the files at its root. Only what is certain is proposed.

use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Most of a file that is looked at.
const READ_MAX: u64 = 1 << 20;

/// A command, or why there is none, in words.
pub(super) fn verify(root: &Path) -> Result<Vec<String>, String> {
    let found = |file: &str| text(&root.join(file));
    // What the project itself calls its test goes before what its language usually does.
    if let Some(target) = ["Makefile", "makefile", "GNUmakefile"].into_iter().find_map(|file| found(file).and_then(|text| target(&text))) {
        return Ok(words(&["make", target]));
    }
    let candidates: Vec<(&str, Option<Vec<String>>)> = [
        found("Cargo.toml").map(|_| ("Cargo.toml", Some(words(&["cargo", "test"])))),
        found("go.mod").map(|_| ("go.mod", Some(words(&["go", "test", "./..."])))),
        found("package.json").map(|text| ("package.json", npm(&text, root.join("package-lock.json").is_file()))),
        found("pyproject.toml").map(|text| ("pyproject.toml", text.contains("[tool.pytest").then(|| words(&["python3", "-m", "pytest"])))),
    ]
    .into_iter()
    .flatten()
    .collect();
    match candidates.as_slice() {
        [] => Err("nothing here says how it is tested".to_owned()),
        [(_, Some(command))] => Ok(command.clone()),
        [(file, None)] => Err(format!("{file} does not say how it is tested")),
        several => Err(format!("there is more than one way: {}", several.iter().map(|(file, _)| *file).collect::<Vec<_>>().join(", "))),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A regular file's text; a link may lead anywhere.
fn text(path: &Path) -> Option<String> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(READ_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The target of a makefile that tests.
fn target(text: &str) -> Option<&'static str> {
    let is = |name: &str| text.lines().filter_map(|line| line.strip_prefix(name)).any(|rest| rest.trim_start().starts_with(':') && !rest.contains(":="));
    ["test", "check"].into_iter().find(|name| is(name))
}

/// Dependencies are not in a fresh worktree: they are installed first, which only a lock file makes the same each time.
fn npm(text: &str, locked: bool) -> Option<Vec<String>> {
    let package: Value = serde_json::from_str(text).ok()?;
    let test = package.get("scripts")?.get("test")?.as_str()?;
    // What `npm init` writes.
    (locked && !test.contains("no test specified")).then(|| words(&["sh", "-c", "npm ci && npm test"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(files: &[(&str, &str)]) -> Result<String, String> {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("written");
        }
        verify(directory.path()).map(|words| words.join(" "))
    }

    #[test]
    fn only_what_is_certain_is_proposed() {
        let script = r#"{"scripts": {"test": "node --test"}}"#;
        for (files, command) in [
            (&[("Cargo.toml", "")] as &[_], Ok("cargo test")),
            (&[("go.mod", "module x")], Ok("go test ./...")),
            (&[("Makefile", "all:\n\ntest: all\n\tgo test\n"), ("go.mod", "")], Ok("make test")),
            (&[("GNUmakefile", "check :\n\ttrue\n")], Ok("make check")),
            (&[("package.json", script), ("package-lock.json", "{}")], Ok("sh -c npm ci && npm test")),
            (&[("pyproject.toml", "[tool.pytest.ini_options]\n")], Ok("python3 -m pytest")),
            (&[], Err("nothing here says")),
            (&[("Makefile", "tests:\n\ttrue\ntest := 1\n")], Err("nothing here says")),
            (&[("package.json", script)], Err("package.json does not say")),
            (
                &[("package.json", r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#), ("package-lock.json", "")],
                Err("package.json does not say"),
            ),
            (&[("package.json", "{"), ("package-lock.json", "")], Err("package.json does not say")),
            (&[("pyproject.toml", "[project]\n")], Err("pyproject.toml does not say")),
            (&[("Cargo.toml", ""), ("package.json", script)], Err("there is more than one way: Cargo.toml, package.json")),
        ] {
            match (proposed(files), command) {
                (Ok(is), Ok(wanted)) => assert_eq!(is, wanted, "{files:?}"),
                (Err(is), Err(wanted)) => assert!(is.starts_with(wanted), "{files:?}: {is}"),
                (is, _) => panic!("{files:?}: {is:?}"),
            }
        }
    }
}
