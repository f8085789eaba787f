//! Against lines that real runs printed (`tests/samples`).

use super::*;
use crate::core::attempt::Reason;
use crate::core::usage::Tokens;
use crate::runner::task::tests::{profile, work as plain_work};
use std::path::Path;

fn work() -> Work {
    plain_work(profile(&["claude"]), "do it")
}

fn play(agent: &mut Claude, sample: &str) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(sample)).expect("a sample");
    for line in text.lines() {
        agent.line(Stream::Out, line.as_bytes());
    }
}

fn ended(sample: &str, code: i32) -> (AgentVerdict, Claude) {
    let mut agent = Claude::new(&work(), None);
    play(&mut agent, sample);
    (agent.verdict(Exit::Code(code)), agent)
}

fn error(verdict: &AgentVerdict) -> Option<(Reason, bool)> {
    match verdict {
        AgentVerdict::Error { reason, transient, .. } => Some((*reason, *transient)),
        _ => None,
    }
}

#[test]
fn a_resumed_turn_is_charged_by_its_difference() {
    let (verdict, agent) = ended("sess-resume.jsonl", 0);
    assert_eq!(verdict, AgentVerdict::Success);
    let usage = &agent.condition().usage;
    assert_eq!((usage.cost, usage.turns), (Usd(6060), 1));
    assert_eq!(usage.tokens["claude-opus-5-5"], Tokens { input: 1000, output: 50, cache_read: 300, cache_creation: 200 });
    assert_eq!(agent.totals().map(|t| t.cost), Some(Usd(12_120)));
    assert_eq!(agent.last_words(), "Mock answer to: gamma");
    assert_eq!(agent.session().map(|s| s.to_string()).as_deref(), Some("2a18398b-214e-409d-a14b-f1e2a7ea2437"));
}

#[test]
fn without_a_difference_the_remembered_total_goes_off_for_versions_that_count_on() {
    let session: Uuid = "2a18398b-214e-409d-a14b-f1e2a7ea2437".parse().expect("an id");
    let line = |version: &str| {
        [
            json!({"type":"system","subtype":"init","session_id":session,"claude_code_version":version}).to_string(),
            json!({"type":"result","subtype":"success","is_error":false,"num_turns":2,"total_cost_usd":0.5,
                   "modelUsage":{"m":{"inputTokens":10,"outputTokens":7,"cacheReadInputTokens":0,"cacheCreationInputTokens":0,"costUSD":0.5}}})
            .to_string(),
        ]
    };
    let before =
        || Some(Totals { session: SessionId(session), cost: Usd(200_000), tokens: [("m".to_owned(), Tokens { input: 4, ..Tokens::default() })].into() });
    let cost = |version: &str| {
        let mut agent = Claude::new(&Work { resume: Some(SessionId(session)), ..work() }, before());
        line(version).iter().for_each(|l| agent.line(Stream::Out, l.as_bytes()));
        (agent.condition().usage.cost, agent.condition().usage.tokens["m"].input)
    };
    assert_eq!(cost("2.1.300"), (Usd(300_000), 6));
    assert_eq!(cost("2.1.197"), (Usd(500_000), 10), "these begin at nothing with every process");
}

#[test]
fn errors_of_real_runs() {
    assert_eq!(error(&ended("err-e401.jsonl", 1).0), Some((Reason::Auth, false)));
    assert_eq!(error(&ended("err-e429.jsonl", 1).0), Some((Reason::AgentError, true)));
    assert_eq!(error(&ended("x-maxturns.jsonl", 1).0), Some((Reason::AgentError, false)));
    let (verdict, agent) = ended("x-budget.jsonl", 1);
    assert_eq!(error(&verdict), Some((Reason::Budget, false)));
    assert!(agent.condition().usage.tool_calls >= 3 && agent.condition().usage.cost == Usd(24_240), "{:?}", agent.condition());
}

#[test]
fn a_usage_limit_is_no_error() {
    let (verdict, _) = ended("o-elimit.jsonl", 1);
    assert!(
        matches!(&verdict, AgentVerdict::Limited { until: Some(t), text } if t.as_second() == 1_795_252_704 && text.contains("5-hour limit")),
        "{verdict:?}"
    );
}

#[test]
fn waiting_for_the_server_shows_until_it_answers() {
    let mut agent = Claude::new(&work(), None);
    agent.line(Stream::Out, br#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":429,"error":"rate_limit"}"#);
    assert_eq!((agent.condition().doing.as_str(), agent.condition().throttled), ("throttled (429)", true));
    agent.line(Stream::Out, br#"{"type":"assistant","message":{"id":"m","model":"x","content":[{"type":"tool_use","name":"Bash","input":{}}]}}"#);
    assert_eq!((agent.condition().doing.as_str(), agent.condition().throttled), ("Bash", false));
}

#[test]
fn garbage_means_nothing() {
    let mut agent = Claude::new(&work(), None);
    for line in [&b"garbage"[..], b"{\"type\":", b"{\"type\":\"result\",\"result\":\"\xc3", b"[1]", b""] {
        agent.line(Stream::Out, line);
    }
    assert_eq!(agent.verdict(Exit::Code(0)), AgentVerdict::Silent);
    assert!(!agent.input_done());
}

#[test]
fn arguments_keep_a_strange_repository_out_unless_it_is_trusted() {
    let mut work = work();
    (work.max_turns, work.budget) = (Some(3), Some(Usd(250_000)));
    work.profile.model = Some("opus".to_owned());
    let line = Claude::new(&work, None).arguments().join(" ");
    assert!(line.starts_with("-p --output-format stream-json --input-format stream-json --verbose --session-id "), "{line}");
    assert!(line.ends_with("--model opus --max-turns 3 --max-budget-usd 0.25 --setting-sources user --strict-mcp-config"), "{line}");
    let line = Claude::new(&work, None).with_mcp(Some("{tools}".to_owned())).arguments().join(" ");
    assert!(line.ends_with("0.25 --mcp-config {tools} --allowedTools mcp__clauded --setting-sources user --strict-mcp-config"), "{line}");
    work.profile.trust_repository = true;
    let session = SessionId(Uuid::nil());
    work.resume = Some(session);
    let before = Totals { session, cost: Usd(500_000), tokens: Default::default() };
    let line = Claude::new(&work, Some(before)).arguments().join(" ");
    assert!(line.contains(&format!("--resume {session}")) && line.contains("--max-budget-usd 0.75") && !line.contains("--setting-sources"), "{line}");
}

#[test]
fn a_session_that_is_gone_or_taken_is_tried_the_other_way_once() {
    let session = SessionId(Uuid::nil());
    let mut agent = Claude::new(&Work { resume: Some(session), ..work() }, None);
    assert_eq!(agent.again(Exit::Code(1)), None, "nothing was said of the session");
    agent.line(Stream::Err, b"No conversation found with session ID: 00000000-0000-0000-0000-000000000000");
    assert!(agent.again(Exit::Code(1)).is_some());
    assert_ne!(agent.session(), Some(session));
    agent.line(Stream::Err, b"Error: Session ID is already in use.");
    assert_eq!(agent.again(Exit::Code(1)), None, "resuming was tried already");

    let mut agent = Claude::new(&work(), None);
    agent.line(Stream::Err, b"Error: Session ID x is already in use.");
    assert!(agent.again(Exit::Code(1)).is_some() && agent.arguments().contains(&"--resume".to_owned()));
}

#[test]
fn it_is_interrupted_where_it_listens() {
    let agent = Claude::new(&work(), None);
    assert!(matches!(agent.interrupt(true), Interrupt::Input(bytes) if bytes.ends_with(b"\n") && String::from_utf8_lossy(&bytes).contains("interrupt")));
    assert_eq!(agent.interrupt(false), Interrupt::Process);
    let input: serde_json::Value = serde_json::from_slice(&agent.input()).expect("json");
    assert_eq!(input["message"]["content"][0]["text"], "do it");
}

/// One result of a stream: what it costs in cents, its words, whether it is an error. The session's total goes on.
fn result(session: &mut u32, cents: u32, words: &str, is_error: bool) -> String {
    *session += cents;
    let usd = |cents: u32| f64::from(cents) / 100.0;
    let usage = |cents: u32| json!({"m": {"inputTokens": cents, "outputTokens": 1, "costUSD": usd(cents)}});
    json!({"type": "result", "subtype": "success", "is_error": is_error, "num_turns": 2, "result": words, "total_cost_usd": usd(*session),
           "modelUsage": usage(*session), "model_usage_since_last_result": usage(cents)})
    .to_string()
}

#[test]
fn of_several_results_the_last_decides_and_all_are_charged() {
    for last_is_error in [false, true] {
        let mut agent = Claude::new(&work(), None);
        agent.line(Stream::Out, br#"{"type":"system","subtype":"init","claude_code_version":"2.1.329"}"#);
        let mut session = 0;
        agent.line(Stream::Out, result(&mut session, 50, "the first words", !last_is_error).as_bytes());
        agent.line(Stream::Out, result(&mut session, 25, "the last words", last_is_error).as_bytes());
        let verdict = agent.verdict(Exit::Code(i32::from(last_is_error)));
        match last_is_error {
            false => assert_eq!(verdict, AgentVerdict::Success),
            true => assert_eq!(error(&verdict), Some((Reason::AgentError, false))),
        }
        let usage = &agent.condition().usage;
        assert_eq!((usage.cost, usage.turns), (Usd(750_000), 4));
        assert_eq!(usage.tokens["m"], Tokens { input: 75, output: 2, ..Tokens::default() });
        assert_eq!(agent.last_words(), "the last words");
        assert_eq!(agent.totals().map(|t| t.cost), Some(Usd(750_000)));
    }
}

#[test]
fn it_neither_updates_itself_nor_calls_home() {
    let set = Claude::new(&work(), None).environment();
    for variable in ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY"] {
        assert!(set.contains(&(variable, "1")), "{variable}");
    }
}

#[test]
fn a_result_by_schema_is_the_last_word_or_a_failure() {
    let schema = || Some(json!({"type": "object"}));
    let mut agent = Claude::new(&Work { schema: schema(), ..work() }, None);
    let arguments = agent.arguments();
    let at = arguments.iter().position(|a| a == "--json-schema").expect("the flag");
    assert_eq!(arguments[at + 1], "{\"type\":\"object\"}");
    play(&mut agent, "x-schema.jsonl");
    assert_eq!(agent.verdict(Exit::Code(0)), AgentVerdict::Success);
    let said: serde_json::Value = serde_json::from_str(&agent.last_words()).expect("JSON");
    assert_eq!(said, json!({"name": "bob", "n": 3}));

    let ended = |output: serde_json::Value| {
        let mut agent = Claude::new(&Work { schema: schema(), ..work() }, None);
        let result = json!({"type": "result", "subtype": "success", "is_error": false, "result": "no plan", "structured_output": output});
        agent.line(Stream::Out, result.to_string().as_bytes());
        (agent.verdict(Exit::Code(0)), agent.last_words())
    };
    let (verdict, words) = ended(json!(null));
    assert_eq!((error(&verdict), words.as_str()), (Some((Reason::AgentError, false)), "no plan"));
    assert!(format!("{verdict:?}").contains("without a result that fits the JSON schema; it said: no plan"), "{verdict:?}");
    let (verdict, words) = ended(json!({"long": "x".repeat(OUTPUT_MAX)}));
    assert!(format!("{verdict:?}").contains("at most 65536 are taken") && words == "no plan", "{verdict:?}");
    assert_eq!(ended(json!({"long": "x".repeat(OUTPUT_MAX - 100)})).0, AgentVerdict::Success);
    assert!(!Claude::new(&work(), None).arguments().contains(&"--json-schema".to_owned()));
}
