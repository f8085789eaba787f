//! Exit codes: each reason for not doing as asked has its own, with a message that says what to do.

use crate::fake::{Fake, answer, ctl, finish};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

#[test]
fn refusals_of_the_daemon() {
    let cases = [(404, 3), (401, 4), (403, 4), (400, 7), (409, 7), (422, 7), (500, 7), (507, 7)];
    for (status, code) in cases {
        let body = format!(r#"{{"type":"about:blank","title":"T","status":{status},"detail":"no task 9; see claudectl task list","code":"c"}}"#);
        let fake = Fake::new(move |_, out| answer(out, status, &body));
        let ran = fake.run(&["task", "show", "9"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "HTTP {status}: {ran:?}");
        assert!(ran.err.starts_with("claudectl: no task 9; see claudectl task list"), "{ran:?}");
        let json: serde_json::Value = serde_json::from_str(&fake.run(&["task", "show", "9", "-o", "json"]).err).expect("JSON on standard error");
        assert_eq!((json["exit_code"].as_i64(), json["problem"]["status"].as_u64()), (Some(i64::from(code)), Some(u64::from(status))));
    }
}

#[test]
fn wrong_command_lines_ask_nothing() {
    let fake = Fake::answering(200, "[]");
    for (line, expected) in [
        (vec!["staus"], "'status'"),
        (vec!["status", "a--b"], "joined by single dashes"),
        (vec!["start", "fine", "../etc"], "joined by single dashes"),
        (vec!["limit", "a", "--memory", "4GB"], "an amount of memory such as"),
        (vec!["task", "add", "  "], "the prompt is empty"),
        (vec!["task", "show", "x"], "invalid"),
        (vec!["logs", "a", "-o", "yaml"], "ask for -o json"),
    ] {
        let ran = fake.run(&line);
        assert!(ran.code == Some(2) && ran.err.contains(expected) && ran.out.is_empty(), "{line:?}: {ran:?}");
    }
    assert_eq!(fake.asked().len(), 0);
}

#[test]
fn no_daemon() {
    let directory = tempfile::tempdir().expect("directory");
    let missing = directory.path().join("none.sock");
    let stale = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("socket"));
    for socket in [missing, stale] {
        let ran = finish(ctl(&["status", "--socket", socket.to_str().expect("UTF-8")]));
        assert!(ran.code == Some(5) && ran.err.contains("clauded is not running at"), "{ran:?}");
    }
    let mut user = ctl(&["--user", "status"]);
    user.env("XDG_RUNTIME_DIR", directory.path()).env_remove("CLAUDED_SOCKET");
    let ran = finish(user);
    assert!(ran.code == Some(5) && ran.err.contains("systemctl --user start clauded"), "{ran:?}");
}

#[test]
fn a_daemon_that_goes_away_in_the_middle() {
    let fake = Fake::new(|_, out| {
        let _ = write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[");
    });
    let ran = fake.run(&["task", "list"]);
    assert!(ran.code == Some(5) && ran.err.contains("ended the connection"), "{ran:?}");
    let ran = Fake::answering(200, "<html>").run(&["task", "list"]);
    assert!(ran.code == Some(1) && ran.err.contains("claudectl version"), "{ran:?}");
}

/// The kernel refuses a caller without rights on the socket; as root the test becomes nobody for that.
#[test]
fn no_right_to_the_socket() {
    let fake = Fake::answering(200, "[]");
    let mode = |path: &std::path::Path, bits| std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).expect("mode");
    // The program is copied, since nobody may not be able to reach it where it was built; and by another process, for a child of
    // some other test could inherit the open file, which then cannot be executed (ETXTBSY, execve(2)).
    let program = fake.directory.path().join("claudectl");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_claudectl")).arg(&program).status().expect("cp runs").success());
    mode(fake.directory.path(), 0o755);
    mode(&program, 0o755);
    let mut command = Command::new(&program);
    command.arg("status").env("CLAUDED_SOCKET", fake.socket()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if nix::unistd::geteuid().is_root() {
        mode(&fake.socket(), 0o660);
        command.uid(65534).gid(65534);
    } else {
        mode(&fake.socket(), 0o000);
    }
    let ran = finish(command);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.err.contains("(uid ") && ran.err.contains("claude-code"), "{ran:?}");
    assert_eq!(fake.asked().len(), 0);
}

/// `claudectl … | head`
#[test]
fn a_reader_that_goes_is_no_error() {
    let list: String = (1..=20_000).map(|n| crate::fake::event(n, 1)).collect::<Vec<_>>().join(",");
    let first = format!("[{list}]");
    let fake = Fake::new(move |asked, out| answer(out, 200, if asked.number("after") == 0 { &first } else { "[]" }));
    let socket = fake.socket();
    for arguments in [vec!["events"], vec!["events", "-o", "json"], vec!["--help"], vec!["completions", "bash"]] {
        let mut command = ctl(&arguments);
        command.env("CLAUDED_SOCKET", &socket);
        let mut child = command.spawn().expect("spawn");
        drop(child.stdout.take());
        let ran = crate::fake::wait(child);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
