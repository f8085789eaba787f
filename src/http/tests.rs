//! The server from the outside: who may, what is refused and how, feeds, the end, the document.

mod document;
mod fake;
mod feeds;

use super::server::READERS_MAX;
use super::service::Role;
use super::{Access, BODY_MAX};
use fake::{Rig, TOKEN};
use hyper::Request;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn agents_and_readers_may_read_and_operators_may_act() {
    for (role, word) in [(Role::Agent("feature-x".parse().unwrap()), "feature-x"), (Role::Reader, "uid ")] {
        let rig = Rig::new(role).await;
        assert_eq!(rig.unix("GET", "/api/v1/instances", None).await.status, 200);
        for (method, path) in
            [("POST", "/api/v1/instances/a/start"), ("POST", "/api/v1/tasks/import"), ("PUT", "/api/v1/instances/a/limits"), ("POST", "/task")]
        {
            let got = rig.unix(method, path, Some("{\"prompt\":\"x\"}")).await;
            let problem = got.problem();
            assert_eq!((got.status, problem.code.as_str()), (403, "forbidden"), "{path}");
            assert!(problem.detail.contains(word) && problem.detail.contains("needs an operator") && problem.detail.contains("pid "), "{problem:?}");
        }
        assert_eq!(*rig.fake.calls.lock().unwrap(), [""; 0]);
    }
    let rig = Rig::new(Role::Operator).await;
    assert_eq!(rig.unix("POST", "/api/v1/instances/a/start", None).await.status, 200);
    assert!(rig.fake.calls.lock().unwrap()[0].starts_with("start a by uid "));
}

#[tokio::test]
async fn agents_take_locks_and_steal_none() {
    let rig = Rig::new(Role::Agent("feature-x".parse().unwrap())).await;
    for (path, status) in [("/api/v1/locks", 200), ("/api/v1/locks/release", 200), ("/api/v1/locks/steal", 403)] {
        assert_eq!(rig.unix("POST", path, Some("{\"path\":\"x\"}")).await.status, status, "{path}");
    }
    assert_eq!(rig.unix("POST", "/api/v1/locks/3/transfer", Some("{\"instance\":\"b\"}")).await.status, 200);
    let wrong = rig.unix("POST", "/api/v1/locks/x/transfer", Some("{\"instance\":\"b\"}")).await;
    assert_eq!((wrong.status, wrong.problem().code.as_str()), (400, "invalid-lock-id"));
    assert_eq!(rig.unix("GET", "/api/v1/locks?ticket=00000000-0000-4000-8000-000000000000", None).await.status, 200);
    for (method, path, body, status) in
        [("GET", "/api/v1/locks?ticket=7", None, 400), ("POST", "/api/v1/locks", Some("{\"path\":\"x\",\"ticket\":\"7\"}"), 422)]
    {
        let wrong = rig.unix(method, path, body).await;
        assert!(wrong.status == status && wrong.problem().detail.contains("ticket"), "{method}: {:?}", wrong.problem());
    }
    let reader = Rig::new(Role::Reader).await;
    assert_eq!(reader.unix("POST", "/api/v1/locks", Some("{\"path\":\"x\"}")).await.status, 403);
    assert_eq!(reader.unix("GET", "/api/v1/locks", None).await.status, 403);
}

#[tokio::test]
async fn who_waits_for_a_lock_is_seen_to_hang_up() {
    let rig = Rig::new(Role::Operator).await;
    {
        let wait = rig.unix("POST", "/api/v1/locks", Some("{\"path\":\"x\",\"wait_seconds\":60}"));
        tokio::pin!(wait);
        tokio::select! {
            _ = &mut wait => panic!("it waits"),
            () = rig.fake.entered.notified() => {}
        }
        assert_eq!(*rig.fake.calls.lock().unwrap(), [""; 0]);
    }
    tokio::time::timeout(std::time::Duration::from_secs(30), rig.fake.entered.notified()).await.expect("it was told");
    assert_eq!(rig.fake.calls.lock().unwrap()[0], "hung up");
}

#[tokio::test]
async fn what_is_asked_of_a_team_arrives_and_what_is_misspelt_does_not() {
    let rig = Rig::new(Role::Operator).await;
    for (verb, body, told) in [
        ("up", "{}", "up t TeamUp { template: None, repository: None, replicas: {} } by uid "),
        (
            "up",
            "{\"template\":\"pair\",\"replicas\":{\"dev\":2}}",
            "up t TeamUp { template: Some(\"pair\"), repository: None, replicas: {\"dev\": 2} } by uid ",
        ),
        ("down", "{\"remove\":true}", "down t true"),
        ("scale", "{\"replicas\":{\"worker\":0},\"now\":true}", "scale t {\"worker\": 0} true"),
    ] {
        assert_eq!(rig.unix("POST", &format!("/api/v1/teams/t/{verb}"), Some(body)).await.status, 200, "{verb} {body}");
        assert!(rig.fake.calls.lock().unwrap().pop().unwrap().starts_with(told), "{verb} {body}");
    }
    for (path, body) in [("t/up", "{\"worker\":3}"), ("t/scale", "{}"), ("t/scale", "{\"replicas\":{\"worker\":-1}}"), ("t/down", "{\"removed\":true}")] {
        assert_eq!(rig.unix("POST", &format!("/api/v1/teams/{path}"), Some(body)).await.problem().code, "invalid-body", "{path} {body}");
    }
    assert_eq!(rig.unix("POST", "/api/v1/teams/a--b/up", Some("{}")).await.problem().code, "invalid-name");
    assert_eq!(*rig.fake.calls.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_process_that_has_gone_is_told_from_one_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (_ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    assert!(super::is_there(&theirs), "this process");
    // A program of util-linux that connects to a stream socket, writes and ends.
    let mut child = std::process::Command::new("logger").args(["--tcp", "--socket"]).arg(&path).arg("hello").spawn().unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    child.wait().unwrap();
    let known = nix::sys::socket::getsockopt(&theirs, nix::sys::socket::sockopt::PeerPidfd).is_ok();
    assert_eq!(super::is_there(&stream), !known);
}

#[tokio::test]
async fn an_agent_sees_the_work_of_its_own_instance_and_a_reader_none() {
    for (role, own) in [(Role::Agent("a".parse().unwrap()), true), (Role::Reader, false)] {
        let rig = Rig::new(role).await;
        // The fake's task 2 is on `a`, and every other one for anyone.
        let paths = ["/api/v1/tasks", "/api/tasks?instance=a", "/api/v1/tasks/2", "/api/v1/tasks/2/log", "/api/v1/events"];
        for path in paths {
            assert_eq!(rig.unix("GET", path, None).await.status, if own { 200 } else { 403 }, "{path}");
        }
        for path in ["/api/v1/tasks?instance=b", "/api/tasks?instance=b", "/api/v1/tasks/1", "/api/v1/tasks/1/log", "/api/v1/tasks/1/log?wait=true"] {
            let got = rig.unix("GET", path, None).await;
            assert_eq!((got.status, got.problem().code.as_str()), (403, "forbidden"), "{path}");
        }
        let asked = ["tasks None Some(\"a\") None 100"; 2];
        assert_eq!(rig.fake.calls.lock().unwrap().iter().filter(|call| call.starts_with("tasks")).collect::<Vec<_>>(), if own { &asked[..] } else { &[] });
    }
}

#[tokio::test]
async fn tcp_needs_the_token_but_for_the_open_routes() {
    let rig = Rig::new(Role::Operator).await;
    for path in ["/", "/health", "/metrics"] {
        assert_eq!(rig.over_tcp("GET", path, &[]).await.status, 200, "{path}");
    }
    let right = format!("Bearer {TOKEN}");
    for (method, path, authorization) in [
        ("GET", "/api/v1/tasks", None),
        ("GET", "/api/v1/health", None),
        ("GET", "/nowhere", None),
        ("POST", "/", None),
        ("GET", "/api/v1/tasks", Some("Bearer wrong")),
        ("GET", "/api/v1/tasks", Some("Bearer ")),
        ("GET", "/api/v1/tasks", Some("Basic Og==")),
        ("GET", "/metrics", Some("Bearer wrong")),
    ] {
        let headers: Vec<_> = authorization.map(|a| ("authorization", a)).into_iter().collect();
        let got = rig.over_tcp(method, path, &headers).await;
        assert_eq!((got.status, got.problem().code.as_str(), got.header("www-authenticate")), (401, "unauthorized", "Bearer realm=\"clauded\""), "{path}");
        assert!(!got.text.contains(TOKEN));
    }
    assert_eq!(rig.over_tcp("POST", "/api/v1/instances/a/start", &[("authorization", &right)]).await.status, 200);
    assert_eq!(*rig.fake.calls.lock().unwrap(), ["start a by holder of the API token, over TCP"]);
    let access = Access { token: Some(TOKEN.to_owned().into()), ..Access::default() };
    assert!(!format!("{access:?}").contains(TOKEN), "Debug shows the token");
}

#[tokio::test]
async fn metrics_can_be_closed_and_no_token_opens_nothing() {
    let access = Access { token: Some(String::new().into()), require_token: Arc::new(true.into()) };
    let closed = access.require_token.clone();
    let rig = Rig::with(Role::Operator, access).await;
    assert_eq!(rig.over_tcp("GET", "/", &[]).await.status, 200);
    for path in ["/metrics", "/health", "/api/v1/tasks"] {
        assert_eq!(rig.over_tcp("GET", path, &[]).await.status, 401, "{path}");
        assert_eq!(rig.over_tcp("GET", path, &[("authorization", "Bearer ")]).await.status, 401, "{path}: an empty token is no token");
    }
    closed.store(false, Ordering::Relaxed);
    assert_eq!(rig.over_tcp("GET", "/metrics", &[]).await.status, 200, "a reload has opened it");
}

#[tokio::test]
async fn readers_cannot_take_the_connections_of_operators() {
    let rig = Rig::new(Role::Agent("a".parse().unwrap())).await;
    let mut held = Vec::new();
    for _ in 0..READERS_MAX {
        held.push(rig.connect().await);
    }
    let mut one_more = rig.connect().await;
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), one_more.read(&mut [0])).await;
    assert_eq!(answer.expect("hung up on").unwrap(), 0);
    rig.calls_as(Role::Operator);
    assert_eq!(rig.unix("GET", "/api/v1/tasks", None).await.status, 200);
    assert_eq!(held.len(), READERS_MAX);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let rig = Rig::new(Role::Operator).await;
    let port = rig.tcp.port();
    let right = ("authorization", &*format!("Bearer {TOKEN}"));
    for host in ["evil.example", "evil.example:8888", "127.0.0.1.evil.example", "", "[::2]", "10.0.0.1"] {
        let got = rig.over_tcp("GET", "/health", &[("host", host), right]).await;
        assert_eq!((got.status, got.problem().code.as_str()), (403, "forbidden-host"), "{host}");
    }
    for host in ["localhost", "LOCALHOST:1", "[::1]:8888", "127.0.0.9"] {
        assert_eq!(rig.over_tcp("GET", "/health", &[("host", host)]).await.status, 200, "{host}");
    }
    for origin in ["http://evil.example", "null", "http://localhost:3000", &format!("https://127.0.0.1:{port}")] {
        let got = rig.over_tcp("GET", "/health", &[("origin", origin), right]).await;
        assert_eq!((got.status, got.problem().code.as_str()), (403, "forbidden-origin"), "{origin}");
    }
    assert_eq!(rig.over_tcp("GET", "/health", &[("origin", &format!("http://127.0.0.1:{port}"))]).await.status, 200);
    assert_eq!(rig.over_tcp("GET", "http://evil.example/health", &[]).await.status, 403, "the absolute form counts too");
}

#[tokio::test]
async fn bad_input_is_named_with_the_rule() {
    let rig = Rig::new(Role::Operator).await;
    let long = format!("/api/v1/instances/{}", "x".repeat(300));
    for (method, path, body, status, code, word) in [
        ("GET", "/api/v1/instances/a--b", None, 400, "invalid-name", "joined by single dashes"),
        ("GET", "/api/v1/instances/..", None, 400, "invalid-name", "joined by single dashes"),
        ("GET", "/api/v1/instances/a%2Fb", None, 400, "invalid-name", "joined by single dashes"),
        ("GET", "/api/v1/instances/na%C3%AFve", None, 400, "invalid-name", "joined by single dashes"),
        ("GET", "/api/v1/instances/%ff", None, 400, "invalid-name", "UTF-8"),
        ("GET", &long, None, 400, "invalid-name", "longer than 64"),
        ("GET", "/api/v1/instances/gone", None, 404, "no-such-instance", "gone"),
        ("GET", "/api/v1/tasks/x", None, 400, "invalid-task-id", "such as 42"),
        ("GET", "/api/v1/tasks/99999999999999999999", None, 400, "invalid-task-id", "such as 42"),
        ("GET", "/api/v1/tasks?state=done", None, 400, "invalid-query", "succeeded"),
        ("GET", "/api/v1/tasks?instance=a--b", None, 400, "invalid-name", "single dashes"),
        ("GET", "/api/v1/tasks?limit=0", None, 400, "invalid-query", "1 to 1000"),
        ("GET", "/api/v1/tasks?limit=many", None, 400, "invalid-query", "limit"),
        ("GET", "/api/v1/tasks?colour=red", None, 400, "invalid-query", "colour"),
        ("GET", "/api/v1/tasks/1/log?offset=-1", None, 400, "invalid-query", "offset"),
        ("POST", "/api/v1/tasks", Some("{"), 400, "invalid-json", "EOF"),
        ("POST", "/api/v1/tasks", Some("{}"), 422, "invalid-body", "prompt"),
        ("POST", "/api/v1/tasks", Some("{\"prompt\":\"x\",\"instnace\":\"a\"}"), 422, "invalid-body", "instnace"),
        ("POST", "/api/v1/tasks", Some("{\"prompt\":\"x\",\"max_turns\":-1}"), 422, "invalid-body", "max_turns"),
        ("POST", "/api/v1/tasks", Some("{\"prompt\":\"x\",\"instance\":\"../a\"}"), 400, "invalid-name", "single dashes"),
        ("POST", "/api/v1/tasks", None, 415, "unsupported-media-type", "application/json"),
        ("PUT", "/api/v1/instances/a/limits", Some("{\"persist\":true}"), 400, "no-limits", "memory"),
        ("GET", "/api/v2/tasks", None, 404, "no-such-route", "/api/openapi.json"),
        ("DELETE", "/api/v1/tasks", None, 405, "method-not-allowed", "Allow"),
    ] {
        let got = rig.unix(method, path, body).await;
        let problem = got.problem();
        assert_eq!((got.status, problem.code.as_str()), (status, code), "{method} {path} {body:?}: {problem:?}");
        assert!(problem.detail.contains(word), "{method} {path} {body:?}: {problem:?}");
    }
    assert_eq!(*rig.fake.calls.lock().unwrap(), [""; 0]);
    let refused = rig.unix("DELETE", "/api/v1/tasks", None).await;
    assert_eq!(refused.header("allow"), "GET,HEAD,POST");
}

#[tokio::test]
async fn a_body_may_be_two_mebibytes_and_no_more() {
    let rig = Rig::new(Role::Operator).await;
    let body = |size: usize| format!("{{\"prompt\":\"{}\"}}", "x".repeat(size - 13));
    let got = rig.unix("POST", "/api/v1/tasks", Some(&body(BODY_MAX + 1))).await;
    assert_eq!((got.status, got.problem().code.as_str()), (413, "too-large"));
    assert_eq!(rig.fake.calls.lock().unwrap().len(), 0);
    assert_eq!(rig.unix("POST", "/api/v1/tasks", Some(&body(BODY_MAX))).await.status, 201);
}

#[tokio::test]
async fn answers_have_their_types_and_are_counted_by_template() {
    let rig = Rig::new(Role::Operator).await;
    assert_eq!(rig.unix("GET", "/metrics", None).await.header("content-type"), "text/plain; version=0.0.4");
    assert_eq!(rig.unix("GET", "/api/v1/instances", None).await.header("content-type"), "application/json");
    let added = rig.unix("POST", "/api/v1/tasks", Some("{\"prompt\":\"x\"}")).await;
    assert_eq!((added.status, added.header("location")), (201, "/api/v1/tasks/7"));
    let head = rig.unix("HEAD", "/api/v1/tasks/12", None).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    rig.unix("GET", "/api/v1/instances/a%20b", None).await;
    rig.unix("GET", "/../etc/passwd", None).await;
    rig.unix_request(Request::builder().method("BREW").uri("/health").header("host", "localhost").body(String::new()).unwrap()).await;
    let counted = rig.fake.requests.lock().unwrap().clone();
    let counted: Vec<_> = counted.iter().map(|(route, method, status)| (route.as_str(), method.as_str(), *status)).collect();
    assert_eq!(
        counted,
        [
            ("/metrics", "GET", 200),
            ("/api/v1/instances", "GET", 200),
            ("/api/v1/tasks", "POST", 201),
            ("/api/v1/tasks/{id}", "HEAD", 200),
            ("/api/v1/instances/{name}", "GET", 400),
            ("unmatched", "GET", 404),
            ("/health", "other", 405),
        ]
    );
}

#[tokio::test]
async fn the_routes_of_the_field_reach_the_same_service() {
    let rig = Rig::new(Role::Operator).await;
    let status: serde_json::Value = serde_json::from_str(&rig.unix("GET", "/agents/status", None).await.text).unwrap();
    assert_eq!((&status["total"], &status["busy"], &status["idle"], &status["agents"][2]["status"]), (&3.into(), &1.into(), &1.into(), &"failed".into()));
    for (path, body) in [("/task", "{\"description\":\"x\",\"agent\":\"a\"}"), ("/api/tasks", "{\"prompt\":\"x\",\"assigned_to\":\"a\"}")] {
        assert_eq!(rig.unix("POST", path, Some(body)).await.status, 201, "{path}");
    }
    rig.unix("GET", "/api/tasks?state=failed&instance=a&before=9&limit=3", None).await;
    assert_eq!(*rig.fake.calls.lock().unwrap(), ["add x for Some(\"a\")", "add x for Some(\"a\")", "tasks Some(\"failed\") Some(\"a\") Some(TaskId(9)) 3"]);
}

#[tokio::test]
async fn a_verb_runs_to_its_end_though_its_caller_hangs_up() {
    let rig = Rig::new(Role::Operator).await;
    let request = Request::post("/api/v1/instances/a/stop").header("host", "localhost").body(String::new()).unwrap();
    tokio::select! {
        _ = rig.open(request) => panic!("it cannot have answered"),
        () = rig.fake.entered.notified() => {}
    }
    // The connection is closed now, and the server has seen it: it answers the next request on another one.
    assert_eq!(rig.unix("GET", "/health", None).await.status, 200);
    rig.fake.go_on.notify_one();
    rig.fake.entered.notified().await;
    assert_eq!(*rig.fake.calls.lock().unwrap(), ["stopped a"]);
}

#[tokio::test]
async fn a_handler_that_breaks_off_is_a_problem_and_not_the_end() {
    let rig = Rig::new(Role::Operator).await;
    let got = rig.unix("POST", "/api/v1/instances/a/restart", None).await;
    assert_eq!((got.status, got.problem().code.as_str()), (500, "internal"));
    assert_eq!(rig.unix("GET", "/health", None).await.status, 200);
}

#[tokio::test]
async fn a_check_is_of_all_repositories_or_of_one_and_what_is_misspelt_is_refused() {
    let rig = Rig::new(Role::Operator).await;
    for (path, told) in
        [("/api/v1/check", "check  by uid "), ("/api/v1/check?repository=shop", "check shop by uid "), ("/api/v1/tasks/3/forecast", "forecast 3 by uid ")]
    {
        assert_eq!(rig.unix("GET", path, None).await.status, 200, "{path}");
        assert!(rig.fake.calls.lock().unwrap().pop().unwrap().starts_with(told), "{path}");
    }
    for path in ["/api/v1/check?repository=a%20b", "/api/v1/check?repo=shop", "/api/v1/tasks/x/forecast"] {
        assert_eq!(rig.unix("GET", path, None).await.status, 400, "{path}");
    }
    assert_eq!(*rig.fake.calls.lock().unwrap(), [""; 0]);
    // An agent's own, and nothing of a reader's.
    let rig = Rig::new(Role::Agent("a".parse().unwrap())).await;
    assert_eq!(rig.unix("GET", "/api/v1/tasks/2/forecast", None).await.status, 200);
    assert_eq!(rig.unix("GET", "/api/v1/tasks/3/forecast", None).await.problem().code, "forbidden");
    let rig = Rig::new(Role::Reader).await;
    for path in ["/api/v1/check", "/api/v1/tasks/2/forecast"] {
        assert_eq!(rig.unix("GET", path, None).await.problem().code, "forbidden", "{path}");
    }
}
