//! `events`: all of them, the last ones, and those to come, without a gap or a repetition over reconnections.

use crate::fake::{Fake, answer, begin_stream, event, send_event, wait};
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// As the API lists them: those above `after`, oldest first, at most `limit`.
fn list(out: &mut dyn Write, count: i64, after: i64, limit: i64) {
    let events: Vec<String> = (after + 1..=count).take(usize::try_from(limit).expect("limit")).map(|id| event(id, 1)).collect();
    answer(out, 200, &format!("[{}]", events.join(",")));
}

#[test]
fn lists_page_by_page_and_the_last_ones() {
    let fake = Fake::new(|asked, out| list(out, 2500, asked.number("after"), asked.number("limit")));
    let ran = fake.run(&["events"]);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 2500));
    let last = fake.run(&["events", "-n", "3"]).out;
    assert_eq!(last.lines().map(|l| l.split_whitespace().next().expect("number")).collect::<Vec<_>>(), ["2498", "2499", "2500"]);
    let json: Vec<serde_json::Value> = serde_json::from_str(&fake.run(&["events", "-o", "json", "--after", "400"]).out).expect("one array");
    assert_eq!(json.len(), 2100);
    let one = fake.run(&["events", "-o", "json", "--after", "2498"]).out;
    assert_eq!(one, format!("[{},{}]\n", event(2499, 1), event(2500, 1)));
}

#[test]
fn following_misses_and_repeats_nothing() {
    let streams = AtomicUsize::new(0);
    let fake = Fake::new(move |asked, out| {
        if !asked.line.starts_with("GET /api/v1/events/stream") {
            return list(out, 5, asked.number("after"), asked.number("limit"));
        }
        match streams.fetch_add(1, Ordering::SeqCst) {
            0 => {
                begin_stream(out);
                send_event(out, 6, 1);
                send_event(out, 7, 1);
                let _ = write!(out, "id: 8\ndata: {{\"cut");
            }
            // The daemon restarts: it takes the connection and says nothing.
            1 => {}
            2 => {
                begin_stream(out);
                let _ = write!(out, "event: problem\ndata: {{\"status\":500}}\n\n");
            }
            _ => {
                begin_stream(out);
                send_event(out, 7, 1);
                send_event(out, 8, 1);
                send_event(out, 9, 1);
                // The test ends the follower; until then the stream stays open.
                while write!(out, ": still here\n\n").and_then(|()| out.flush()).is_ok() {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                }
            }
        }
    });
    let mut child = fake.ctl(&["events", "-f", "-o", "json"]).spawn().expect("spawn");
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let seen: Vec<String> = lines.take(4).map(|l| l.expect("line")).collect();
    child.kill().expect("kill");
    let ran = wait(child);
    assert_eq!(seen, [event(6, 1), event(7, 1), event(8, 1), event(9, 1)]);
    assert!(ran.err.contains("the connection to clauded is lost"), "{ran:?}");
    let streams: Vec<i64> = fake.asked().iter().filter(|a| a.line.contains("/stream")).map(|a| a.number("after")).collect();
    assert_eq!(streams, [5, 7, 7, 7]);
}

#[test]
fn following_needs_a_daemon_to_begin_with() {
    let fake = Fake::answering(503, r#"{"type":"","title":"","status":503,"detail":"64 live feeds are open already","code":"too-many-streams"}"#);
    let ran = fake.run(&["events", "-f", "--after", "1"]);
    assert!(ran.code == Some(7) && ran.err.contains("64 live feeds"), "{ran:?}");
}
