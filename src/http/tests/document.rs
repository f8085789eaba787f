//! The OpenAPI document: complete, answered by the server, and the same as the one in `docs/`.

use super::fake::Rig;
use crate::http::auth::AGENTS;
use crate::http::document;
use crate::http::service::Role;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Every route of the API's contract. One that is added or removed is added or removed here, in the CHANGELOG and in `docs/api.md`.
const ROUTES: &[&str] = &[
    "delete /api/v1/pauses",
    "delete /api/v1/schedules/{schedule}",
    "get /",
    "get /agents/status",
    "get /api/agents",
    "get /api/openapi.json",
    "get /api/tasks",
    "get /api/v1/audit",
    "get /api/v1/audit/check",
    "get /api/v1/check",
    "get /api/v1/events",
    "get /api/v1/events/stream",
    "get /api/v1/health",
    "get /api/v1/instances",
    "get /api/v1/instances/{name}",
    "get /api/v1/locks",
    "get /api/v1/messages",
    "get /api/v1/messages/{id}",
    "get /api/v1/pauses",
    "get /api/v1/plans",
    "get /api/v1/plans/{id}",
    "get /api/v1/plans/{id}/export",
    "get /api/v1/schedules",
    "get /api/v1/tasks",
    "get /api/v1/tasks/export",
    "get /api/v1/tasks/{id}",
    "get /api/v1/tasks/{id}/forecast",
    "get /api/v1/tasks/{id}/log",
    "get /api/v1/teams",
    "get /api/v1/teams/{name}",
    "get /api/v1/worktrees",
    "get /health",
    "get /metrics",
    "post /api/tasks",
    "post /api/v1/broadcast",
    "post /api/v1/groups/{group}/cancel",
    "post /api/v1/help",
    "post /api/v1/instances/{name}/restart",
    "post /api/v1/instances/{name}/start",
    "post /api/v1/instances/{name}/stop",
    "post /api/v1/locks",
    "post /api/v1/locks/release",
    "post /api/v1/locks/steal",
    "post /api/v1/locks/{id}/transfer",
    "post /api/v1/messages",
    "post /api/v1/pauses",
    "post /api/v1/plans",
    "post /api/v1/plans/{id}/approve",
    "post /api/v1/plans/{id}/cancel",
    "post /api/v1/plans/{id}/reject",
    "post /api/v1/schedules",
    "post /api/v1/schedules/{schedule}/run",
    "post /api/v1/tasks",
    "post /api/v1/tasks/claim",
    "post /api/v1/tasks/import",
    "post /api/v1/tasks/progress",
    "post /api/v1/tasks/{id}/cancel",
    "post /api/v1/tasks/{id}/claim",
    "post /api/v1/tasks/{id}/complete",
    "post /api/v1/tasks/{id}/release",
    "post /api/v1/tasks/{id}/retry",
    "post /api/v1/teams/{name}/down",
    "post /api/v1/teams/{name}/scale",
    "post /api/v1/teams/{name}/up",
    "post /api/v1/worktrees/gc",
    "post /api/v1/worktrees/{name}/add",
    "post /api/v1/worktrees/{name}/remove",
    "post /broadcast",
    "post /task",
    "put /api/v1/instances/{name}/limits",
    "put /api/v1/repositories/{repository}",
];

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))).collect()
}

#[test]
fn each_route_is_documented_with_its_answers() {
    let document = serde_json::to_value(document()).unwrap();
    let documented: BTreeSet<String> = operations(&document).into_iter().map(|(route, _)| route).collect();
    assert_eq!(documented, ROUTES.iter().map(|r| (*r).to_owned()).collect());
    assert_eq!((&document["info"]["title"], &document["info"]["version"]), (&"clauded".into(), &env!("CARGO_PKG_VERSION").into()));
    let mut ids = BTreeSet::new();
    for (route, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].to_string()), "{route}: its operationId is another's too");
        assert_eq!(operation["responses"]["default"]["$ref"], "#/components/responses/Problem", "{route}");
        assert!(operation["summary"].as_str().or(operation["description"].as_str()).is_some_and(|text| !text.is_empty()), "{route}");
    }
    // No reference leads nowhere.
    let text = document.to_string();
    for reference in text.split("\"#/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(&format!("/{reference}")).is_some(), "#/{reference} does not exist");
    }
}

#[tokio::test]
async fn the_server_takes_each_documented_route() {
    let rig = Rig::new(Role::Agent("a".parse().unwrap())).await;
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        if path.ends_with("/stream") {
            continue;
        }
        let got = rig.unix(&method.to_uppercase(), &path.replace("{name}", "gone").replace("{id}", "2"), None).await;
        let known = match method {
            // What agents may not see of others.
            "get" if path.ends_with("/export") || path.contains("/audit") => got.status == 403,
            "get" => got.status == 200 || got.text.contains("no-such-instance"),
            // What agents may do: with a body, but for giving a task back.
            _ if path.ends_with("/tasks/{id}/release") => got.status == 200,
            _ if AGENTS.contains(&(&method.to_uppercase(), path)) => got.status == 415,
            _ => got.status == 403,
        };
        assert!(known, "{route}: {got:?}");
    }
    let served: Value = serde_json::from_str(&rig.unix("GET", "/api/openapi.json", None).await.text).unwrap();
    assert_eq!(served, serde_json::to_value(document()).unwrap());
}

/// A route that is added with `.route(` would work and be missing from the document.
#[test]
fn routes_are_added_in_one_way() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    for file in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(".route(\"") && !text.contains(".nest("), "{}", file.display());
    }
}

#[test]
fn the_document_in_docs_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let now = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("CLAUDED_WRITE_DOCS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == now, "{} is not in step; run: CLAUDED_WRITE_DOCS=1 cargo test --lib http::tests::document", path.display());
}

/// The codes in a source, with their statuses where these are numbers.
fn codes(source: &str, into: &mut BTreeSet<(String, Option<u16>)>) {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    for call in ["bad_request(", "Problem::new(", "refused(", "=> ("] {
        for rest in code.split(call).skip(1) {
            let (before, text) = rest.split_once('"').unwrap_or((rest, ""));
            // The first string of the call itself, after a status at most.
            if before.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || matches!(c, ':' | '_' | ',')) {
                let status = if call == "bad_request(" { Some(400) } else { before.trim().trim_end_matches(',').parse().ok() };
                into.insert((text.split('"').next().unwrap().to_owned(), status));
            }
        }
    }
}

#[test]
fn each_code_is_in_the_table_of_the_docs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut given = BTreeSet::new();
    for directory in ["src/http", "src/daemon", "src/daemon/verbs"] {
        let files = std::fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file() && !path.ends_with("tests.rs")).for_each(|path| codes(&read(&path), &mut given));
    }
    let docs = read(&root.join("docs/api.md"));
    let table = docs.split("| Code | Status |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows: Vec<(BTreeSet<&str>, &str)> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `").and_then(|line| line.split_once(" | ")))
        .map(|(codes, rest)| (codes.split(['`', ',', ' ']).filter(|code| !code.is_empty()).collect(), rest.split(" | ").next().unwrap()))
        .collect();
    let documented: BTreeSet<&str> = rows.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
    assert_eq!(documented, given.iter().map(|(code, _)| code.as_str()).collect());
    for (code, status) in &given {
        let said = rows.iter().find(|(codes, _)| codes.contains(code.as_str())).unwrap().1;
        assert!(status.is_none_or(|status| said.contains(&status.to_string())), "{code}: {status:?} is not in {said:?}");
    }
}
