//! What a Prometheus server finds, over both sockets of the API.

use crate::world::{DEADLINE, World};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

/// The status and the body of `GET path`.
fn get(mut stream: impl Read + Write, path: &str, token: Option<&str>) -> (u16, String) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"));
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[test]
fn the_finished_task_is_on_the_page_over_both_sockets() {
    let mut world = World::without_daemon("");
    // The daemon binds it a moment later; nothing else on this machine asks for a certain one.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let serve = |world: &World, require: bool| {
        let text = format!("[api]\nlisten = \"{address}\"\n[metrics]\nrequire-token = {require}\n");
        fs::write(world.path("clauded.toml.d/api.toml"), text).expect("configured");
    };
    let tcp = |path: &str, token: Option<&str>| {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        get(stream, path, token)
    };
    let finished = |page: &str| {
        let line = page.lines().find(|line| line.starts_with("clauded_tasks_finished_total{") && line.contains("instance=\"a\""));
        line.is_some_and(|line| line.contains("outcome=\"succeeded\"") && line.ends_with(" 1"))
    };

    serve(&world, true);
    world.start_daemon();
    world.instance("a");
    assert_eq!(world.wait(&world.add("a", "say counted"))["state"], "succeeded");
    let (status, page) = get(UnixStream::connect(world.path("run/api.sock")).expect("connected"), "/metrics", None);
    assert!(status == 200 && finished(&page), "{status}\n{page}");
    let token = fs::read_to_string(world.path("state/token")).expect("a token");
    let (status, page) = tcp("/metrics", Some(token.trim()));
    assert!(status == 200 && finished(&page), "{status}\n{page}");
    for wrong in [None, Some("guessed")] {
        let (status, problem) = tcp("/metrics", wrong);
        assert!(status == 401 && problem.contains("unauthorized") && !problem.contains("clauded_"), "{status}\n{problem}");
    }

    world.end_daemon("TERM");
    serve(&world, false);
    world.start_daemon();
    let (status, page) = tcp("/metrics", None);
    assert!(status == 200 && page.contains("clauded_build_info"), "after a restart, without a token: {status}\n{page}");
    assert_eq!(tcp("/api/v1/tasks", None).0, 401, "the page is open, and with it everything else");
}
