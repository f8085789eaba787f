//! Lines as recorded from the real CLI (2.1.329), shortened.

use super::*;

const LOG: &str = r#"{"type":"system","subtype":"init","cwd":"/srv/demo/work","session_id":"22379bf5","model":"claude-opus-5-5"}
{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t1","name":"Write","input":{"file_path":"/srv/demo/work/hello.txt","content":"hello\n"}}]}}
{"type":"user","message":{"role":"user","content":[{"tool_use_id":"t1","type":"tool_result","content":"File created successfully"}]}}
{"type":"ui_invalidate","whatever":1}
{"type":"system","subtype":"init","cwd":"/srv/demo/work","session_id":"22379bf5","model":"claude-opus-5-5"}
{"type":"rate_limit_event","rate_limit_info":{"status":"allowed","isUsingOverage":false}}
{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,"retry_delay_ms":1032,"error_status":529,"error":"server_error"}
{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"Wrote hello.txt.\u001b[2J Done."}]}}
not JSON
{"type":"result","subtype":"success","is_error":false,"num_turns":2,"duration_ms":3500,"total_cost_usd":0.01212,"result":"Wrote hello.txt. Done."}
"#;

const READABLE: &str = "session 22379bf5, claude-opus-5-5, /srv/demo/work
> Write /srv/demo/work/hello.txt
  File created successfully
throttled: server_error 529, try 2 of 10 in 1s
Wrote hello.txt. [2J Done.
not JSON
done (2 turns, 3.5s, $0.0121)
";

#[test]
fn a_recorded_run_in_pieces_of_any_size() {
    for size in [1, 7, 100, LOG.len()] {
        let mut transcript = Transcript::new(Style::default());
        let bytes: Vec<char> = LOG.chars().collect();
        let text: String = bytes.chunks(size).map(|piece| transcript.feed(&piece.iter().collect::<String>())).collect();
        assert_eq!(text, READABLE, "in pieces of {size}");
        assert_eq!(transcript.finish(), "");
    }
}

#[test]
fn lines_of_the_runner_and_of_other_programs() {
    let mut transcript = Transcript::new(Style::default());
    let text = transcript.feed("{\"stream\":\"stderr\",\"text\":\"npm warn\\u001b[2J\"}\n{\"stream\":\"clauded\",\"text\":\"cut\"}\n{\"level\":\"info\"}\n\n");
    assert_eq!(text, "stderr: npm warn [2J\nclauded: cut\n{\"level\":\"info\"}\n");
}

#[test]
fn failures_say_why_although_the_subtype_is_success() {
    let mut transcript = Transcript::new(Style::default());
    let line = r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"api_error","num_turns":1,"duration_ms":200,"total_cost_usd":0,"result":"Invalid API key"}"#;
    assert_eq!(transcript.feed(line), "");
    assert_eq!(transcript.finish(), "failed (1 turns, 0.2s, $0): api_error: Invalid API key\n");
}

#[test]
fn long_results_are_cut_and_errors_shown() {
    let mut transcript = Transcript::new(Style { colour: true, ..Style::default() });
    let content = (1..=9).map(|n| n.to_string()).collect::<Vec<_>>().join("\\n");
    let text = transcript
        .feed(&format!("{{\"type\":\"user\",\"message\":{{\"content\":[{{\"type\":\"tool_result\",\"is_error\":true,\"content\":\"{content}\"}}]}}}}\n"));
    assert!(text.starts_with("\x1b[31m  1\x1b[0m\n") && text.ends_with("\x1b[2m  … 3 more lines\x1b[0m\n"), "{text:?}");
}

#[test]
fn limits_in_force_are_shown() {
    let mut transcript = Transcript::new(Style::default());
    let line = "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":1795252680,\"rateLimitType\":\"five_hour\"}}\n";
    assert_eq!(transcript.feed(line), "usage limit rejected of five_hour, resets at 2026-11-21T09:18:00Z\n");
}
