//! Tasks: adding, listing, waiting for and watching them.

use crate::fake::{Fake, answer, begin_stream, finish, send_event, task, until, wait};
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A task that a test moves on, with the events that say so.
#[derive(Default)]
pub(crate) struct Life {
    state: Mutex<(&'static str, u32, i64)>,
    moved: Condvar,
}

impl Life {
    pub(crate) fn new(state: &'static str, attempts: u32) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((state, attempts, 0)), moved: Condvar::new() })
    }

    pub(crate) fn set(&self, state: &'static str, attempts: u32) {
        let mut now = self.state.lock().expect("lock");
        *now = (state, attempts, now.2 + 1);
        self.moved.notify_all();
    }

    fn task(&self) -> String {
        let now = self.state.lock().expect("lock");
        task(12, now.0, now.1)
    }

    /// Sends an event for every move until the reader has gone.
    fn stream(&self, out: &mut dyn Write, mut after: i64) {
        begin_stream(out);
        loop {
            let now = self.state.lock().expect("lock");
            let (now, _) = self.moved.wait_timeout_while(now, Duration::from_millis(50), |now| now.2 <= after).expect("lock");
            let last = now.2;
            drop(now);
            while after < last {
                after += 1;
                send_event(out, after, 12);
            }
            if write!(out, ": still here\n\n").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    }

    /// The routes that waiting and following use.
    fn serve(&self, line: &str, after: i64, out: &mut dyn Write) {
        match line.split('?').next().unwrap_or_default() {
            "GET /api/v1/tasks/12" => answer(out, 200, &self.task()),
            "GET /api/v1/events" => answer(out, 200, "[]"),
            "GET /api/v1/events/stream" => self.stream(out, after),
            _ => answer(out, 404, r#"{"type":"","title":"","status":404,"detail":"nothing there","code":"c"}"#),
        }
    }

    pub(crate) fn fake(self: &Arc<Self>) -> Fake {
        let life = self.clone();
        Fake::new(move |asked, out| life.serve(&asked.line, asked.number("after"), out))
    }
}

pub(crate) fn looked(fake: &Fake) -> usize {
    fake.asked().iter().filter(|a| a.line == "GET /api/v1/tasks/12").count()
}

#[test]
fn adding_prints_the_number() {
    let fake = Fake::new(|_, out| answer(out, 201, &task(12, "pending", 0)));
    let ran = fake.run(&[
        "task",
        "add",
        "--instance",
        "a-b",
        "--type",
        "bugfix",
        "--title",
        "T",
        "--timeout",
        "30min",
        "--budget-usd",
        "2.50",
        "--max-turns",
        "9",
        "do it",
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "12\n"), "{ran:?}");
    let mut child = fake.ctl(&["task", "add", "-"]).stdin(Stdio::piped()).spawn().expect("spawn");
    child.stdin.take().expect("stdin").write_all("from\nstdin ä".as_bytes()).expect("write");
    assert_eq!(wait(child).out, "12\n");
    let bodies: Vec<String> = fake.asked().into_iter().map(|a| a.body).collect();
    assert_eq!(
        bodies,
        [
            r#"{"instance":"a-b","type":"bugfix","title":"T","prompt":"do it","timeout_seconds":1800,"budget_usd":2.5,"max_turns":9}"#,
            r#"{"prompt":"from\nstdin ä"}"#
        ]
    );
    let mut child = fake.ctl(&["task", "add", "-"]).stdin(Stdio::piped()).spawn().expect("spawn");
    child.stdin.take().expect("stdin").write_all(b"\xff").expect("write");
    assert_eq!(wait(child).code, Some(2));
}

#[test]
fn lists_are_as_long_as_asked() {
    let fake = Fake::new(|asked, out| {
        let before = if asked.number("before") == 0 { 251 } else { asked.number("before") };
        let tasks: Vec<String> = (1..before).rev().take(usize::try_from(asked.number("limit")).expect("limit")).map(|id| task(id, "failed", 1)).collect();
        answer(out, 200, &format!("[{}]", tasks.join(",")));
    });
    assert_eq!(fake.run(&["task", "list"]).out.lines().count(), 51);
    assert_eq!(fake.run(&["task", "list", "--limit", "150"]).out.lines().count(), 151);
    assert_eq!(fake.run(&["task", "list", "--all"]).out.lines().count(), 251);
    let all: Vec<serde_json::Value> = serde_json::from_str(&fake.run(&["task", "list", "--all", "-o", "json"]).out).expect("one array");
    assert_eq!((all.len(), all[249]["id"].as_i64()), (250, Some(1)));
    fake.run(&["task", "list", "--state", "failed", "--instance", "a"]);
    assert_eq!(fake.asked().pop().map(|a| a.line), Some("GET /api/v1/tasks?limit=50&state=failed&instance=a".to_owned()));
}

#[test]
fn cancel_and_retry_try_every_task() {
    let fake = Fake::new(|asked, out| match asked.line.as_str() {
        "POST /api/v1/tasks/1/cancel" => answer(out, 409, r#"{"type":"","title":"","status":409,"detail":"task 1 has ended","code":"c"}"#),
        _ => answer(out, 200, &task(2, "cancelled", 1)),
    });
    let ran = fake.run(&["task", "cancel", "1", "2"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(7), "task 2 cancelled\n", "claudectl: task 1 has ended\n"));
    fake.run(&["task", "retry", "2"]);
    assert_eq!(fake.asked().pop().map(|a| a.line), Some("POST /api/v1/tasks/2/retry".to_owned()));
}

/// Standard output of whom nobody reads any more, as in `claudectl … | true`.
fn unread(fake: &Fake, arguments: &[&str]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = fake.ctl(arguments);
    command.stdout(writer);
    finish(command).code
}

#[test]
fn what_nobody_reads_is_done_all_the_same() {
    let fake = Fake::new(|_, out| answer(out, 200, &task(2, "cancelled", 1)));
    assert_eq!(unread(&fake, &["task", "cancel", "1", "2", "3"]), Some(0));
    assert_eq!(fake.asked().len(), 3);
    let life = Life::new("failed", 1);
    assert_eq!(unread(&life.fake(), &["task", "wait", "12"]), Some(1));
    let fake = Fake::new(move |asked, out| match asked.line.as_str() {
        "POST /api/v1/tasks" => answer(out, 201, &life.task()),
        line => life.serve(line, asked.number("after"), out),
    });
    assert_eq!(unread(&fake, &["task", "add", "--wait", "do it"]), Some(1));
}

#[test]
fn waiting_goes_on_without_a_feed() {
    let life = Life::new("running", 1);
    let server = life.clone();
    let fake = Fake::new(move |asked, out| match asked.line.split('?').next().unwrap_or_default() {
        "GET /api/v1/events/stream" => answer(out, 503, r#"{"type":"","title":"","status":503,"detail":"64 live feeds are open","code":"too-many-streams"}"#),
        _ => server.serve(&asked.line, 0, out),
    });
    let child = fake.ctl(&["task", "wait", "12"]).spawn().expect("spawn");
    until("the first look", || looked(&fake) == 1);
    life.set("succeeded", 1);
    let ran = wait(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn waiting_ends_with_the_task() {
    for (end, code, words) in [
        ("succeeded", 0, "task 12 succeeded (1m, $0.50)\n"),
        ("failed", 1, "task 12 failed (oom) (1m, $0.50)\n"),
        ("cancelled", 1, "task 12 cancelled (1m, $0.50)\n"),
    ] {
        let life = Life::new("running", 1);
        let fake = life.fake();
        let child = fake.ctl(&["task", "wait", "12"]).spawn().expect("spawn");
        until("the first look", || looked(&fake) == 1);
        life.set(end, 1);
        let ran = wait(child);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(code), words, ""));
    }
    let ran = Life::new("running", 1).fake().run(&["task", "wait", "13"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[test]
fn giving_up_leaves_the_task_alone() {
    let fake = Life::new("running", 1).fake();
    let ran = fake.run(&["task", "wait", "12", "--timeout", "100ms"]);
    assert!(ran.code == Some(6) && ran.err.contains("gave up after 0.1s; task 12 goes on"), "{ran:?}");
    assert!(fake.asked().iter().all(|a| a.line.starts_with("GET ")), "nothing was changed");
    // Another server: a look of the one that gave up may still be on its way to the first.
    let fake = Life::new("running", 1).fake();
    let child = fake.ctl(&["task", "wait", "12"]).spawn().expect("spawn");
    until("the first look", || looked(&fake) > 0);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("signal");
    let ran = wait(child);
    assert!(ran.code == Some(130) && ran.err.contains("task 12 goes on, and ends with: claudectl task cancel 12"), "{ran:?}");
    assert!(fake.asked().iter().all(|a| a.line.starts_with("GET ")), "nothing was changed");
}

/// The event comes, but clauded goes away before it can be asked about the task: the look must come after the reconnection.
#[test]
fn waiting_survives_a_restart_of_clauded() {
    let life = Life::new("running", 1);
    let (server, looks, down) = (life.clone(), AtomicUsize::new(0), AtomicBool::new(false));
    let streams = AtomicUsize::new(0);
    let fake = Fake::new(move |asked, out| {
        if asked.line == "GET /api/v1/tasks/12" {
            looks.fetch_add(1, Ordering::SeqCst);
            if down.load(Ordering::SeqCst) {
                return;
            }
        } else if asked.line.contains("/stream") && streams.fetch_add(1, Ordering::SeqCst) == 0 {
            begin_stream(out);
            out.flush().expect("flush");
            until("the first look", || looks.load(Ordering::SeqCst) == 1);
            down.store(true, Ordering::SeqCst);
            server.set("succeeded", 1);
            send_event(out, 1, 12);
            until("a look in vain", || looks.load(Ordering::SeqCst) == 2);
            down.store(false, Ordering::SeqCst);
            return;
        }
        server.serve(&asked.line, asked.number("after"), out);
    });
    let began = Instant::now();
    let ran = fake.run(&["task", "wait", "12"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "task 12 succeeded (1m, $0.50)\n"));
    // By the reconnection, not by the look that comes every 30 s in any case.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

/// A log of two attempts; the second begins only when the test says so.
fn log(asked: &crate::fake::Asked, out: &mut dyn Write) {
    let whole = match asked.number("attempt") {
        2 => "{\"type\":\"result\",\"is_error\":false,\"num_turns\":1,\"duration_ms\":1000,\"total_cost_usd\":0}\n",
        _ => "{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}}\nplain\n",
    };
    let offset = usize::try_from(asked.number("offset")).expect("offset");
    let next = (offset + 40).min(whole.len());
    let attempt = asked.number("attempt").max(1);
    let chunk = serde_json::json!({ "attempt": attempt, "offset": offset, "next": next, "text": &whole[offset..next], "complete": next == whole.len() });
    answer(out, 200, &chunk.to_string());
}

#[test]
fn logs_are_readable_or_raw() {
    let fake = Fake::new(log);
    assert_eq!(fake.run(&["task", "log", "12"]).out, "hello\nplain\n");
    let raw = fake.run(&["task", "log", "12", "--raw", "--attempt", "1"]).out;
    assert!(raw.starts_with("{\"type\":\"assistant\"") && raw.ends_with("}\nplain\n"), "{raw}");
    let json = fake.run(&["task", "log", "12", "-o", "json"]).out;
    assert!(json.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok_and(|v| v["attempt"] == 1)), "{json}");
}

#[test]
fn following_a_log_goes_on_through_retries() {
    let life = Life::new("pending", 0);
    let server = life.clone();
    let fake = Fake::new(move |asked, out| if asked.line.contains("/log") { log(asked, out) } else { server.serve(&asked.line, asked.number("after"), out) });
    let child = fake.ctl(&["task", "log", "-f", "12"]).spawn().expect("spawn");
    let logs = |number: &str| fake.asked().iter().filter(|a| a.line.contains("/log") && a.line.contains(number)).count();
    until("the first look", || looked(&fake) == 1);
    assert_eq!(logs("attempt"), 0, "no attempt has begun");
    life.set("running", 1);
    until("the first attempt's log", || logs("attempt=1") >= 3);
    life.set("pending", 1);
    life.set("running", 2);
    until("the second attempt's log", || logs("attempt=2") >= 2);
    life.set("succeeded", 2);
    let ran = wait(child);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "hello\nplain\ndone (1 turns, 1s, $0)\n", ""));
}
