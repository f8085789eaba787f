//! The scripted agent of the other layers beside the real CLI: the same conversation makes the same report.

use crate::harness::{Host, Kind};
use crate::reply::Reply;
use crate::stage::{MODEL, Stage};
use clauded::core::attempt::Report;
use clauded::core::usage::AgentUsage;
use clauded::core::usage::Usd;
use clauded::proto::link::Work;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A conversation, both ways of playing it, and what it is bounded by.
struct Play {
    name: &'static str,
    replies: Vec<Reply>,
    script: &'static str,
    bound: fn(&mut Work),
    subscription: bool,
}

fn plays(reset: i64) -> Vec<Play> {
    let free: fn(&mut Work) = |_| {};
    let tool = || Reply::bash("true");
    let play = |name, replies, script, bound| Play { name, replies, script, bound, subscription: false };
    vec![
        play("text", vec![Reply::Text("hello")], "say hello", free),
        play("tools", vec![tool(), tool(), Reply::Text("done")], "turns 2\nsay done", free),
        play("auth", vec![Reply::unauthorized(); 2], "fail auth", free),
        play("server", vec![Reply::overloaded(); 4], "fail server", free),
        play("turns", vec![tool(), tool()], "turns 1\nturns 1\nturns 1", |work| work.max_turns = Some(2)),
        play("budget", vec![tool(), tool()], "turns 1\nturns 1\nturns 1", |work| work.budget = Some(Usd(9000))),
        Play { subscription: true, ..play("limit", vec![Reply::usage_limit(reset)], "", free) },
    ]
}

/// What does not depend on the moment and the wording.
fn essence(report: &Report) -> (String, Option<clauded::core::attempt::Exit>, bool, AgentUsage) {
    (format!("{:?}", report.ended), report.exit, report.session.is_some(), report.agent.clone())
}

/// The keys of each kind of event in an attempt's log.
fn kinds(log: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut kinds = BTreeMap::<String, BTreeSet<String>>::new();
    for line in log.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(kind), Some(object)) = (value["type"].as_str(), value.as_object()) else { continue };
        let kind = value["subtype"].as_str().map_or_else(|| kind.to_owned(), |subtype| format!("{kind}/{subtype}"));
        kinds.entry(kind).or_default().extend(object.keys().cloned());
    }
    kinds
}

#[test]
fn both_make_the_same_report_of_the_same_conversation() {
    let reset = jiff::Timestamp::now().as_second() + 3600;
    for play in plays(reset) {
        let Some(mut stage) = Stage::new(play.replies) else { return };
        if play.subscription {
            stage.subscribe();
        }
        let mut work = stage.work("go");
        (play.bound)(&mut work);
        let real = stage.host.report(work);

        let mut host = Host::new(Kind::Subreaper);
        let script = if play.subscription { format!("fail limit {reset}") } else { play.script.to_owned() };
        let mut work = host.scripted(&script);
        work.profile.model = Some(MODEL.to_owned());
        (play.bound)(&mut work);
        let scripted = host.report(work);

        assert_eq!(essence(&scripted), essence(&real), "{}: {scripted:?}\n{real:?}", play.name);
        let (real, scripted) = (kinds(&stage.host.task_log()), kinds(&host.task_log()));
        for (kind, keys) in &scripted {
            let known = real.get(kind).unwrap_or_else(|| panic!("{}: the real one prints no {kind}: {:?}", play.name, real.keys()));
            let invented: Vec<_> = keys.difference(known).collect();
            assert!(invented.is_empty(), "{}: {kind} has no {invented:?}", play.name);
        }
    }
}
