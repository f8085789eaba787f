//! `claudectl task show`: a task, its bounds, and how each attempt ended and what it used.

use crate::ctl::check;
use crate::ctl::client::{Client, decode};
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::output::{Screen, Style};
use crate::ctl::quantity::{age, between, bytes, clean, dollars, line, span};
use crate::proto::api::{Attempt, TaskDetail, TaskForecast, Work};
use jiff::Timestamp;
use std::time::Duration;

/// How many changed files are shown; `-o json` has more.
const FILES_SHOWN: usize = 20;
/// How long the runners may take to tell of a forecast.
const FORECAST: Duration = Duration::from_secs(6);

/// `claudectl task show`
pub(super) async fn run(client: &Client, screen: &Screen, id: i64) -> Result<Outcome, Failure> {
    let body = client.get(&format!("/api/v1/tasks/{id}")).await?;
    if screen.data() {
        screen.body(&body)?;
    } else {
        let detail: TaskDetail = decode(&body)?;
        let forecast = if detail.task.state == "running" { forecast(client, id).await } else { String::new() };
        screen.print(&render(screen.style(), &detail, &forecast, Timestamp::now()))?;
    }
    Ok(Outcome::Done)
}

/// Who else touches the task's files. The view of the task does not wait for it for long, nor fail with it.
async fn forecast(client: &Client, id: i64) -> String {
    match tokio::time::timeout(FORECAST, client.read::<TaskForecast>(&format!("/api/v1/tasks/{id}/forecast"))).await {
        Ok(Ok(told)) => check::forecast(&told),
        Ok(Err(error)) => format!("not known: {}", line(&error.to_string(), 200)),
        Err(_) => format!("not known: no answer within {} s; see: claudectl check", FORECAST.as_secs()),
    }
}

fn render(style: Style, detail: &TaskDetail, forecast: &str, now: Timestamp) -> String {
    let task = &detail.task;
    let reason = task.reason.as_deref().map(|r| format!(" ({})", clean(r))).unwrap_or_default();
    let when = |time: &str| format!("{} ({})", clean(time), age(time, now));
    let bounds: Vec<String> = [
        detail.timeout_seconds.map(|s| format!("{} an attempt", span(s as f64))),
        detail.budget_usd.map(|usd| format!("{} in all", dollars(usd))),
        detail.max_turns.map(|n| format!("{n} turns an attempt")),
        detail.memory_limit_bytes.map(|memory| format!("{} of memory, since it ran out of it with less", bytes(memory))),
        detail.schema.as_ref().map(|_| "a result that fits its JSON schema".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut text = style.fields(&[
        ("Task", task.id.to_string()),
        ("Title", line(&task.title, 200)),
        ("Type", clean(&task.kind)),
        ("State", format!("{}{reason}", style.state(&clean(&task.state)))),
        ("Detail", clean(&task.detail)),
        ("For", whom(detail)),
        ("Priority", if task.priority == 0 { String::new() } else { task.priority.to_string() }),
        ("Group", task.group.as_deref().map(clean).unwrap_or_default()),
        ("After", after(detail)),
        ("Branch", detail.branch.as_deref().map(clean).unwrap_or_default()),
        ("Files", detail.files.iter().map(|file| clean(file)).collect::<Vec<_>>().join(", ")),
        ("On", task.placed_on.as_deref().map(clean).unwrap_or_default()),
        ("Overlaps", forecast.to_owned()),
        ("Added", when(&task.created)),
        ("Not before", task.not_before.as_deref().map(when).unwrap_or_default()),
        ("Ended", task.finished.as_deref().map(when).unwrap_or_default()),
        ("Bounds", bounds.join(", ")),
        ("Cost", dollars(task.cost_usd)),
        ("Prompt", clean(detail.prompt.trim_end())),
    ]);
    if !detail.history.is_empty() {
        text.push('\n');
        let rows = detail.history.iter().map(|a| row(style, a, now)).collect();
        text.push_str(
            &style.table(&["TRY", "OUTCOME", "INSTANCE", "TOOK", "TURNS", "TOOLS", "TOKENS", "COST", "CPU", "PEAK", "READ", "WRITTEN", "STALLED"], rows),
        );
    }
    for attempt in &detail.history {
        text.push_str(&words(style, attempt));
    }
    text
}

/// Who may take it.
fn whom(detail: &TaskDetail) -> String {
    let named = |what: &str, name: &Option<String>| name.as_deref().map(|name| format!("{what} {}", clean(name)));
    let wanted = [named("team", &detail.team), named("role", &detail.role), named("specialty", &detail.specialty), named("repository", &detail.repository)];
    let labels = detail.labels.iter().map(|label| format!("label {}", clean(label)));
    let wanted: Vec<String> = wanted.into_iter().flatten().chain(labels).collect();
    let whom = detail.task.instance.as_deref().map_or_else(|| "any instance".to_owned(), clean);
    if wanted.is_empty() { whom } else { format!("{whom} with {}", wanted.join(", ")) }
}

/// What it comes after.
fn after(detail: &TaskDetail) -> String {
    let ids: Vec<String> = detail.after.iter().map(ToString::to_string).collect();
    let released = if detail.after_failed == "release" && !ids.is_empty() { " (also if they fail)" } else { "" };
    format!("{}{released}", ids.join(", "))
}

fn row(style: Style, a: &Attempt, now: Timestamp) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let outcome = style.state(&clean(a.outcome.as_deref().unwrap_or(if a.started.is_some() { "running" } else { "assigned" })));
    let reason = a.reason.as_deref().map(|r| format!(" ({})", clean(r))).unwrap_or_default();
    let end = a.finished.clone().unwrap_or_else(|| now.to_string());
    let (read, written) = a.tokens.values().fold((0, 0), |(i, o), t| (i + t.input + t.cache_read + t.cache_creation, o + t.output));
    let sum = |a: Option<f64>, b: Option<f64>| if a.is_none() && b.is_none() { None } else { Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)) };
    let stalled = sum(sum(a.cpu_stall_seconds, a.memory_stall_seconds), a.io_stall_seconds);
    vec![
        a.number.to_string(),
        format!("{outcome}{reason}"),
        clean(&a.instance),
        or_dash(a.started.as_deref().and_then(|start| between(start, &end)).map(span)),
        a.turns.to_string(),
        a.tool_calls.to_string(),
        format!("{read} in, {written} out"),
        dollars(a.cost_usd),
        or_dash(sum(a.cpu_user_seconds, a.cpu_system_seconds).map(span)),
        or_dash(a.memory_peak_bytes.map(bytes)),
        or_dash(a.io_read_bytes.map(bytes)),
        or_dash(a.io_write_bytes.map(bytes)),
        or_dash(stalled.map(span)),
    ]
}

/// How an attempt ended in a sentence, and the agent's last words.
fn words(style: Style, a: &Attempt) -> String {
    let exit = match (a.exit_code, a.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("exit status {code}"),
        (None, None) => String::new(),
    };
    let kills = a.oom_kills.filter(|n| *n > 0).map(|n| format!("{n} processes killed for want of memory")).unwrap_or_default();
    let ended: Vec<String> = [clean(&a.detail), exit, kills].into_iter().filter(|t| !t.is_empty()).collect();
    let mut fields = vec![("Ended", ended.join("; ")), ("Session", a.session.clone().unwrap_or_default())];
    fields.extend(a.work.iter().flat_map(work));
    fields.push(("Said", clean(a.text.trim_end())));
    let fields = style.fields(&fields);
    if fields.is_empty() { fields } else { format!("\nAttempt {}\n{fields}", a.number) }
}

/// What it left in its repository.
fn work(work: &Work) -> Vec<(&'static str, String)> {
    let short = |commit: &Option<String>| commit.as_deref().map(|c| clean(c).chars().take(10).collect::<String>()).unwrap_or_default();
    let commits = match work.commits {
        0 => format!("no commits since {}", short(&work.base)),
        1 => format!("1 commit, {}..{}", short(&work.base), short(&work.head)),
        n => format!("{n} commits, {}..{}", short(&work.base), short(&work.head)),
    };
    let mut files: Vec<String> = work.files.iter().take(FILES_SHOWN).map(|file| format!("{} {}", clean(&file.status), line(&file.path, 200))).collect();
    let more = work.files.len().saturating_sub(FILES_SHOWN) + work.more_files as usize;
    if more > 0 {
        files.push(format!("and {more} more"));
    }
    let pushed = match (&work.pushed_to, &work.push_refused) {
        (Some(remote), _) => format!("to {}", clean(remote)),
        (None, Some(why)) => format!("refused: {}", clean(why)),
        (None, None) => String::new(),
    };
    let check = work.verify.as_ref().map(|check| {
        let verdict = if check.passed { "passed" } else { "failed" };
        let runs = if check.runs == 1 { String::new() } else { format!(", run {} times", check.runs) };
        let output = if check.passed { String::new() } else { format!("\n{}", clean(last_lines(&check.output))) };
        format!("{verdict} ({}{runs}){output}", clean(&check.ended))
    });
    vec![
        ("Branch", format!("{} in {}, {commits}", clean(&work.branch), clean(&work.repository))),
        ("Changed", files.join("\n")),
        ("Check", check.unwrap_or_default()),
        ("Pushed", pushed),
        ("Rescued", work.rescue.as_deref().map(|kept| format!("what was not committed is on {}", clean(kept))).unwrap_or_default()),
    ]
}

/// The last twenty lines of an output.
fn last_lines(text: &str) -> &str {
    let text = text.trim_end();
    let start = text.rmatch_indices('\n').nth(19).map_or(0, |(at, _)| at + 1);
    text.get(start..).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::api::{ChangedFile, TokenCounts, Verification};

    #[test]
    fn what_an_attempt_left_in_its_repository() {
        let attempt = Attempt {
            number: 1,
            work: Some(Work {
                repository: "shop".into(),
                branch: "claude-1234abcd/feat/user-auth".into(),
                base: Some("0123456789abcdef".into()),
                head: Some("fedcba9876543210".into()),
                commits: 2,
                files: (0..21).map(|n| ChangedFile { status: "M".into(), path: format!("src/{n}\u{1b}[31m") }).collect(),
                more_files: 4,
                rescue: Some("refs/clauded/rescue/a/1.1".into()),
                verify: Some(Verification { passed: false, runs: 3, ended: "exit status 2".into(), output: "x\n".repeat(30) }),
                push_refused: Some("protected branch".into()),
                ..Work::default()
            }),
            ..Attempt::default()
        };
        let text = words(Style::default(), &attempt);
        for part in [
            "Branch: claude-1234abcd/feat/user-auth in shop, 2 commits, 0123456789..fedcba9876",
            "and 5 more",
            "Check: failed (exit status 2, run 3 times)",
            "Pushed: refused: protected branch",
            "Rescued: what was not committed is on refs/clauded/rescue/a/1.1",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}') && text.matches("src/").count() == 20 && text.lines().filter(|line| line.trim() == "x").count() == 20, "{text}");
    }

    #[test]
    fn a_task_with_its_attempt() {
        let attempt = Attempt {
            number: 1,
            instance: "feature-x".into(),
            started: Some("2026-11-21T09:00:00Z".into()),
            finished: Some("2026-11-21T09:03:20Z".into()),
            outcome: Some("failed".into()),
            reason: Some("oom".into()),
            detail: "killed at its limit of 4G".into(),
            signal: Some(9),
            turns: 3,
            tool_calls: 2,
            cost_usd: 0.0121,
            tokens: [("m".to_owned(), TokenCounts { input: 100, output: 7, cache_read: 20, cache_creation: 3 })].into(),
            cpu_user_seconds: Some(1.0),
            cpu_system_seconds: Some(0.5),
            memory_peak_bytes: Some(4 << 30),
            oom_kills: Some(1),
            text: "I was\nreading".into(),
            ..Attempt::default()
        };
        let detail = TaskDetail {
            task: super::super::example(),
            prompt: "Fix the parser\nand test it\n".into(),
            timeout_seconds: Some(1800),
            budget_usd: Some(2.5),
            max_turns: None,
            memory_limit_bytes: Some(8 << 30),
            schema: None,
            team: None,
            role: None,
            specialty: None,
            labels: Vec::new(),
            repository: None,
            branch: None,
            after: Vec::new(),
            after_failed: "fail".into(),
            files: Vec::new(),
            history: vec![attempt],
        };
        let now = "2026-11-21T10:00:00Z".parse().expect("time");
        assert_eq!(
            render(Style::default(), &detail, "", now),
            "      Task: 12
     Title: Fix the parser
      Type: bugfix
     State: failed (oom)
    Detail: killed at its limit of 4G
       For: any instance
        On: feature-x
     Added: 2026-11-21T09:00:00Z (1h ago)
     Ended: 2026-11-21T09:30:00Z (30m ago)
    Bounds: 30m an attempt, $2.50 in all, 8G of memory, since it ran out of it with less
      Cost: $0.0121
    Prompt: Fix the parser
            and test it

TRY  OUTCOME       INSTANCE   TOOK    TURNS  TOOLS  TOKENS         COST     CPU   PEAK  READ  WRITTEN  STALLED
1    failed (oom)  feature-x  3m 20s  3      2      123 in, 7 out  $0.0121  1.5s  4G    -     -        -

Attempt 1
  Ended: killed at its limit of 4G; signal 9; 1 processes killed for want of memory
   Said: I was
         reading
"
        );
    }
}
