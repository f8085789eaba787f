//! What is printed: the API's JSON unchanged, tables, and what needs no daemon.

use crate::fake::{Fake, answer, ctl, finish};

const INSTANCE: &str = r#"{"name":"a","configured":true,"active":"active","sub":"running","connected":true,"status":"idle","task":null,"since":null,"restarts":0,"memory_bytes":1073741824,"memory_limit_bytes":null,"cpu_seconds":1.5,"pids":3,"unit":"claude-code@a.service","directory":"/srv/a","profile":"claude","user":null,"invocation":null,"main_pid":7,"caps":[],"history":[]}"#;
const HEALTH: &str = r#"{"status":"ok","version":"9.9.9","supervisor":"process","problems":[],"tasks":{"pending":2},"connected":1,"holds":{},"pauses":[],"spent_today_usd":{"a":1.5,"b":0.25}}"#;

#[test]
fn json_is_the_answer_unchanged() {
    // Spaces, the order of keys, an unknown field and a number that a float would change: all of it must survive.
    const BODY: &str = r#"[ {"z": 1, "a": 0.10000000000000000001, "new": true} ]"#;
    for line in [vec!["status"], vec!["status", "a"], vec!["task", "show", "1"]] {
        let ran = Fake::answering(200, BODY).run(&[line.as_slice(), &["-o", "json"]].concat());
        assert_eq!((ran.code, ran.out), (Some(0), format!("{BODY}\n")), "{line:?}");
    }
    let body = format!("[ {}]", crate::fake::task(1, "pending", 0));
    let expected = format!("{body}\n");
    let fake = Fake::new(move |_, out| answer(out, 200, &body));
    assert_eq!(fake.run(&["task", "list", "-o", "json"]).out, expected);
    assert_eq!(fake.asked()[0].line, "GET /api/v1/tasks?limit=50");
}

#[test]
fn status_is_a_table_without_escape_sequences_in_a_pipe() {
    let fake = Fake::new(|asked, out| match asked.line.as_str() {
        "GET /api/v1/health" => answer(out, 200, HEALTH),
        "GET /api/v1/instances" => answer(out, 200, &format!("[{INSTANCE}]")),
        "GET /api/v1/instances/a" => answer(out, 200, INSTANCE),
        _ => answer(out, 404, "{}"),
    });
    let ran = fake.run(&["status"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.out,
        "clauded 9.9.9 ok, process, 1 connected, tasks: 2 pending\n  spent today: $1.75\n\nNAME  STATE   SINCE  TASK  MEMORY  PIDS  RESTARTS  DOING\na     active  -      -     1G      3     0         idle\n"
    );
    let one = fake.run(&["status", "a"]).out;
    assert!(one.contains("claude-code@a.service") && one.contains("1G, no limit"), "{one}");
}

#[test]
fn verbs_try_every_instance_and_limits_go_as_they_are_written() {
    let fake = Fake::new(|asked, out| match asked.line.as_str() {
        "POST /api/v1/instances/b/start" => answer(out, 404, r#"{"type":"","title":"","status":404,"detail":"no instance b","code":"c"}"#),
        _ => answer(out, 200, r#"{"result":"changed","message":"it resumes task 3"}"#),
    });
    let ran = fake.run(&["start", "b", "a"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(3), "a: started; it resumes task 3\n", "claudectl: no instance b\n"));
    let ran = fake.run(&["limit", "a", "--memory", "1536M", "--cpu", "150%", "--persist"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "a: limited; it resumes task 3\n"));
    let last = fake.asked().pop().expect("request");
    assert_eq!((last.line.as_str(), last.body.as_str()), ("PUT /api/v1/instances/a/limits", r#"{"memory":"1536M","cpu":"150%","persist":true}"#));
}

#[test]
fn over_tcp_with_a_token() {
    let (fake, address) = Fake::tcp(|asked, out| {
        let known = asked.head.contains("authorization: Bearer s3cret\r\n");
        answer(out, if known { 200 } else { 401 }, if known { "[]" } else { r#"{"type":"","title":"","status":401,"detail":"no token","code":"c"}"# })
    });
    let file = fake.directory.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("write");
    let host = format!("http://{address}");
    let ran = finish(ctl(&["task", "list", "--host", &host, "--token-file", file.to_str().expect("UTF-8")]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = finish(ctl(&["task", "list", "--host", &host]));
    assert!(ran.code == Some(4) && ran.err.contains("no token; give the token with --token-file"), "{ran:?}");
}

#[test]
fn versions_with_and_without_a_daemon() {
    let ran = Fake::answering(200, HEALTH).run(&["version"]);
    assert!(ran.code == Some(0) && ran.out.contains("clauded   9.9.9") && ran.err.contains("the versions differ"), "{ran:?}");
    let ran = finish(ctl(&["version", "--socket", "/nonexistent/api.sock", "-o", "json"]));
    assert_eq!((ran.code, ran.out), (Some(0), format!("{{\"claudectl\":\"{}\",\"clauded\":null}}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn logs_without_a_journal_say_where_they_are() {
    let ran = Fake::answering(200, HEALTH).run(&["logs", "a"]);
    assert!(ran.code == Some(1) && ran.err.contains("standard error of clauded"), "{ran:?}");
}

#[test]
fn configurations_are_checked_without_a_daemon() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("clauded.toml");
    let path = file.to_str().expect("UTF-8");
    let check = |extra: &[&str]| finish(ctl(&[&["config", "check", path], extra].concat()));
    let ran = check(&[]);
    assert!(ran.code == Some(1) && ran.err.contains("cannot read"), "{ran:?}");
    std::fs::write(&file, "[defaults]\nprofile = \"claude\"\n").expect("write");
    let ran = check(&[]);
    assert_eq!((ran.code, ran.out), (Some(0), format!("{path}: no problems\n")), "{}", ran.err);
    std::fs::write(&file, "[defaults]\nprofil = \"claude\"\n[flet]\n").expect("write");
    let ran = check(&[]);
    assert!(ran.code == Some(1) && ran.out.contains(&format!("{path}:2:")) && ran.out.contains("profile") && ran.out.ends_with("2 problems\n"), "{ran:?}");
    let ran = check(&["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, json["problems"].as_array().map(Vec::len)), (Some(1), Some(2)));
}

#[test]
fn doctor_looks_at_everything_and_says_what_to_do() {
    let ran = Fake::answering(200, HEALTH).run(&["doctor", "-o", "json"]);
    let checks: Vec<serde_json::Value> = serde_json::from_str(&ran.out).expect("JSON");
    let find = |subject: &str| checks.iter().find(|c| c["subject"] == subject).unwrap_or_else(|| panic!("no {subject} in {checks:?}"));
    for subject in ["systemd", "cgroups", "configuration", "account", "agent", "git", "disk: state", "disk: worktrees"] {
        find(subject);
    }
    assert_eq!(find("API")["verdict"], "ok");
    assert!(checks.iter().all(|c| (c["verdict"] == "ok") == (c["advice"] == "")), "{checks:?}");
    let problems = checks.iter().any(|c| c["verdict"] == "problem");
    assert_eq!(ran.code, Some(i32::from(problems)));
    let ran = finish(ctl(&["doctor", "--socket", "/nonexistent/api.sock"]));
    assert!(ran.code == Some(1) && ran.out.contains("clauded is not running") && ran.out.contains("→"), "{ran:?}");
}

#[test]
fn completions_and_man_pages_come_from_the_command_line() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = finish(ctl(&["completions", shell]));
        assert!(ran.code == Some(0) && ran.out.contains("claudectl") && ran.out.contains("token-file"), "{shell}");
    }
    let directory = tempfile::tempdir().expect("directory");
    let ran = finish(ctl(&["man", directory.path().to_str().expect("UTF-8")]));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    assert!(directory.path().join("claudectl-task-add.1").exists() && directory.path().join("clauded-runner.1").exists());
    let help = finish(ctl(&["--help"])).out;
    assert!(help.contains("Exit status:") && help.contains("clauded is not running"), "{help}");
}
