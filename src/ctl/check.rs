//! `claudectl check`: on one screen who steps on whose feet, what is free, who holds what, and what changes together.

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::quantity::{age, line};
use crate::core::label::Label;
use crate::proto::api::{Check, Dependency, FreeTask, Lock, LockWait, Overlap, Party, TaskForecast, WorkInProgress};
use clap::Args;
use jiff::Timestamp;

/// Rows of a part that are shown; `-o json` has more.
const ROWS: usize = 12;
/// Files that are named in a row.
const FILES: usize = 4;

/// What to check.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Only this repository, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub(super) repository: Option<Label>,
}

/// `claudectl check`
pub(super) async fn run(client: &Client, screen: &Screen, args: &CheckArgs) -> Result<Outcome, Failure> {
    let query = args.repository.as_ref().map(|name| format!("?repository={name}")).unwrap_or_default();
    let body = client.get(&format!("/api/v1/check{query}")).await?;
    if screen.data() {
        screen.body(&body)?;
    } else {
        screen.print(&render(screen.style(), &decode(&body)?, Timestamp::now()))?;
    }
    Ok(Outcome::Done)
}

fn render(style: Style, check: &Check, now: Timestamp) -> String {
    let mut parts = Vec::new();
    let mut part = |title: String, none: &str, table: String, more: u64| {
        let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
        let body = if table.is_empty() { format!("{none}\n") } else { table };
        parts.push(format!("{}\n{body}{more}", style.paint(super::output::Tone::Strong, &title)));
    };
    let rest = |all: usize, more: u64| more.saturating_add(u64::try_from(all.saturating_sub(ROWS)).unwrap_or(u64::MAX));
    let unheard: Vec<&WorkInProgress> = check.running.iter().filter(|work| work.problem.is_some()).collect();
    let running = match check.running.len() {
        0 => "no task runs on a repository".to_owned(),
        1 => "1 task runs on a repository; it is in nobody's way".to_owned(),
        n => format!("{n} tasks run on repositories; no two touch the same file"),
    };
    part("Touched by two".to_owned(), &running, overlaps(style, &check.overlaps), rest(check.overlaps.len(), check.more_overlaps));
    if !unheard.is_empty() {
        part("Not or not wholly known".to_owned(), "", problems(style, &unheard), rest(unheard.len(), 0));
    }
    part("Free tasks".to_owned(), "none could start now", free(style, &check.free), rest(check.free.len(), check.more_free));
    part("Locks".to_owned(), "nobody holds one", locks(style, &check.locks, now), rest(check.locks.len(), check.more_locks));
    if !check.waiting.is_empty() {
        part("Waiting for locks".to_owned(), "", waits(style, &check.waiting, now), rest(check.waiting.len(), check.more_waiting));
    }
    if !check.dependencies.is_empty() {
        part("Change together".to_owned(), "", together(style, &check.dependencies), rest(check.dependencies.len(), 0));
    }
    let mut text = parts.join("\n");
    for note in &check.notes {
        text.push_str(&format!("\n{}\n", line(note, 200)));
    }
    text
}

/// Some files, and how many more.
fn files(names: &[String], more: u64) -> String {
    let mut shown: Vec<String> = names.iter().take(FILES).map(|name| line(name, 60)).collect();
    let more = more.saturating_add(u64::try_from(names.len().saturating_sub(FILES)).unwrap_or(u64::MAX));
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// Whether two merge, in words.
fn merge(overlap: &Overlap) -> String {
    match overlap.merge.as_str() {
        "clean" => "merges cleanly".to_owned(),
        "conflict" => format!("conflicts in {}", files(&overlap.conflicts, 0)),
        _ => format!("unknown: {}", line(overlap.detail.as_deref().unwrap_or("nobody has tried it"), 100)),
    }
}

fn party(party: &Party) -> String {
    format!("{} ({})", party.task, line(&party.instance, 64))
}

fn table(style: Style, header: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { String::new() } else { style.table(header, rows) }
}

fn overlaps(style: Style, all: &[Overlap]) -> String {
    let row = |pair: &Overlap| vec![line(&pair.repository, 40), party(&pair.one), party(&pair.other), files(&pair.files, pair.more_files), merge(pair)];
    table(style, &["REPOSITORY", "TASK", "AND TASK", "FILES", "MERGE"], all.iter().take(ROWS).map(row).collect())
}

fn problems(style: Style, all: &[&WorkInProgress]) -> String {
    let row = |work: &&WorkInProgress| {
        vec![work.task.to_string(), line(&work.instance, 64), line(&work.repository, 40), line(work.problem.as_deref().unwrap_or_default(), 160)]
    };
    table(style, &["TASK", "INSTANCE", "REPOSITORY", "WHY"], all.iter().take(ROWS).map(row).collect())
}

fn free(style: Style, all: &[FreeTask]) -> String {
    let row = |task: &FreeTask| {
        let beside = match (task.beside, &task.clash) {
            (Some(true), _) => "yes".to_owned(),
            (Some(false), clash) => format!("after {}", line(clash.as_deref().unwrap_or("others"), 120)),
            (None, _) => "unknown: nobody has said which files".to_owned(),
        };
        vec![
            task.task.to_string(),
            line(&task.title, 40),
            task.repository.as_deref().map_or_else(|| "-".to_owned(), |name| line(name, 40)),
            files(&task.files, 0),
            beside,
        ]
    };
    table(style, &["TASK", "TITLE", "REPOSITORY", "FILES", "SIDE BY SIDE"], all.iter().take(ROWS).map(row).collect())
}

fn locks(style: Style, all: &[Lock], now: Timestamp) -> String {
    let row = |lock: &Lock| {
        vec![
            lock.id.to_string(),
            line(&lock.place, 60),
            line(&lock.pattern, 60),
            line(&lock.mode, 20),
            line(&lock.owner, 60),
            age(&lock.expires, now),
            line(&lock.reason, 60),
        ]
    };
    table(style, &["LOCK", "PLACE", "ON", "MODE", "HOLDER", "ENDS", "REASON"], all.iter().take(ROWS).map(row).collect())
}

fn waits(style: Style, all: &[LockWait], now: Timestamp) -> String {
    let row = |wait: &LockWait| vec![line(&wait.place, 60), line(&wait.pattern, 60), line(&wait.owner, 60), age(&wait.since, now), line(&wait.waits_for, 120)];
    table(style, &["PLACE", "ON", "WHO", "SINCE", "WAITS FOR"], all.iter().take(ROWS).map(row).collect())
}

fn together(style: Style, all: &[Dependency]) -> String {
    let row = |found: &Dependency| {
        let share = format!("{:.0} % of {} commits", found.confidence * 100.0, (f64::from(found.commits) / found.confidence.max(0.01)).round());
        vec![line(&found.repository, 40), line(&found.one, 60), line(&found.other, 60), share]
    };
    table(style, &["REPOSITORY", "PART", "AND PART", "TOGETHER IN"], all.iter().take(ROWS).map(row).collect())
}

/// For the view of a running task: who else touches its files.
pub(super) fn forecast(forecast: &TaskForecast) -> String {
    let pair =
        |pair: &Overlap| format!("task {} ({}): {}; {}", pair.other.task, line(&pair.other.instance, 64), files(&pair.files, pair.more_files), merge(pair));
    let mut lines: Vec<String> = forecast.overlaps.iter().take(ROWS).map(pair).collect();
    if forecast.overlaps.len() > ROWS {
        lines.push(format!("and {} more", forecast.overlaps.len() - ROWS));
    }
    let own = forecast.work.iter().filter_map(|work| work.problem.as_ref()).map(|why| format!("not or not wholly known: {}", line(why, 160)));
    lines.extend(own.chain(forecast.notes.iter().take(ROWS).map(|note| format!("not known: {}", line(note, 160)))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(merge: &str) -> Overlap {
        let party = |task, instance: &str| Party { task, instance: instance.into(), title: "t".into() };
        Overlap {
            repository: "shop".into(),
            one: party(7, "a"),
            other: party(9, "b"),
            files: ["src/a.rs", "src/\u{1b}[2Jb.rs", "-x", "n\nl", "five"].map(str::to_owned).to_vec(),
            more_files: 2,
            merge: merge.into(),
            conflicts: if merge == "conflict" { vec!["src/a.rs".into()] } else { Vec::new() },
            detail: (merge == "unknown").then(|| "no answer within 5 s".into()),
        }
    }

    #[test]
    fn one_screen() {
        let free = |task, beside: Option<bool>| FreeTask {
            task,
            title: "Write it".into(),
            repository: Some("shop".into()),
            files: vec!["src/".into()],
            beside,
            clash: beside.filter(|beside| !beside).map(|_| "task 7 (a): both touch src/a.rs".into()),
        };
        let check = Check {
            running: vec![WorkInProgress {
                task: 8,
                instance: "c".into(),
                repository: "shop".into(),
                problem: Some("no answer within 5 s".into()),
                ..Default::default()
            }],
            overlaps: vec![pair("conflict"), pair("clean"), pair("unknown")],
            free: (0..30)
                .map(|n| {
                    free(
                        n,
                        if n == 0 {
                            Some(true)
                        } else if n == 1 {
                            Some(false)
                        } else {
                            None
                        },
                    )
                })
                .collect(),
            more_free: 9_970,
            locks: vec![Lock {
                id: 3,
                place: "shop".into(),
                pattern: "x".into(),
                mode: "exclusive".into(),
                owner: "a (task 7)".into(),
                expires: "2026-11-21T10:05:00Z".into(),
                ..Default::default()
            }],
            dependencies: vec![Dependency { repository: "shop".into(), one: "api".into(), other: "ui/".into(), commits: 6, confidence: 0.75 }],
            notes: vec!["something is not known".into()],
            ..Check::default()
        };
        let text = render(Style::default(), &check, "2026-11-21T10:00:00Z".parse().expect("a time"));
        for part in [
            "7 (a)  9 (b)",
            "n l, and 3 more",
            "conflicts in src/a.rs",
            "merges cleanly",
            "unknown: no answer within 5 s",
            "8     c         shop        no answer within 5 s",
            "yes",
            "after task 7 (a): both touch src/a.rs",
            "unknown: nobody has said which files",
            "and 9988 more",
            "a (task 7)  in 5m",
            "75 % of 8 commits",
            "something is not known",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}') && text.lines().count() < 50, "{text}");
        let nothing = render(Style::default(), &Check::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(nothing, "Touched by two\nno task runs on a repository\n\nFree tasks\nnone could start now\n\nLocks\nnobody holds one\n");
    }

    #[test]
    fn what_a_running_task_has_in_common() {
        let told = TaskForecast {
            work: None,
            overlaps: vec![Overlap { files: vec!["src/a.rs".into()], more_files: 0, ..pair("clean") }],
            notes: vec!["task 8 (c): no answer".into()],
        };
        assert_eq!(forecast(&told), "task 9 (b): src/a.rs; merges cleanly\nnot known: task 8 (c): no answer");
        assert_eq!(forecast(&TaskForecast::default()), "");
    }
}
