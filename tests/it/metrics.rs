//! What a Prometheus server finds, over both sockets of the API.

use crate::world::{DEADLINE, World, get};
use jiff::Timestamp;
use std::fs;
use std::net::{TcpListener, TcpStream};

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
    let page = world.get("/metrics");
    assert!(finished(&page), "{page}");
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

#[test]
fn the_page_says_of_a_task_what_the_task_says_of_itself() {
    let world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "cost 0.05\nturns 3\nawait go\nsay counted");
    world.running(&task);
    fs::write(directory.join("go"), "").expect("written");
    let shown = world.wait(&task);
    let attempt = &shown["history"][0];
    let page = world.get("/metrics");
    let value = |series: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().expect("a number")
    };
    let close = |series: &str, expected: f64| {
        let value = value(series);
        assert!((value - expected).abs() < 1e-6, "{series} is {value} and should be {expected}");
    };
    let tokens = attempt["tokens"].as_object().expect("tokens by model");
    assert_eq!(tokens.len(), 1, "{attempt:#}");
    for (model, counts) in tokens {
        for (kind, count) in counts.as_object().expect("counts by kind") {
            let count = count.as_f64().expect("a number");
            assert!(count > 0.0, "nothing to tell {kind} by: {attempt:#}");
            close(&format!("clauded_tokens_total{{instance=\"a\",kind=\"{kind}\",model=\"{model}\"}}"), count);
        }
    }
    close("clauded_cost_usd_total{instance=\"a\"}", attempt["cost_usd"].as_f64().expect("a cost"));
    close("clauded_turns_total{instance=\"a\"}", attempt["turns"].as_f64().expect("turns"));

    let at = |time: &serde_json::Value| time.as_str().and_then(|text| text.parse::<Timestamp>().ok()).expect("a time");
    let kind = shown["type"].as_str().expect("a type");
    let ran = at(&attempt["finished"]).duration_since(at(&attempt["started"])).as_secs_f64();
    close(&format!("clauded_task_duration_seconds_count{{type=\"{kind}\"}}"), 1.0);
    close(&format!("clauded_task_duration_seconds_sum{{type=\"{kind}\"}}"), ran);
    close("clauded_dispatch_latency_seconds_count", 1.0);
    // The daemon had its start before the agent could end.
    let latency = value("clauded_dispatch_latency_seconds_sum");
    let all = at(&attempt["finished"]).duration_since(at(&shown["created"])).as_secs_f64();
    assert!(latency > 0.0 && latency < all, "{latency} s of {all} s");
}
