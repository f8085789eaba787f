//! The form of the field, our own keys, and the way there and back.

use super::*;
use proptest::prelude::*;

#[test]
fn the_form_of_the_field() {
    let text = "queue:\n  - id: task-001\n    type: feature\n    description: \"Implement: user auth\"\n    assigned_to: feature-auth\n    status: pending\n    branch: claude-1234abcd/feat/user-auth\n\
                \x20 - id: 007\n    description: |\n      Two\n      lines\n    assigned_to: any\n    after: [task-001]\n    priority: 5\n    labels: gpu, big\n    budget_usd: 2.5\n    status:\n";
    let tasks = parse(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    let first = NewTask {
        kind: Some("feature".into()),
        prompt: "Implement: user auth".into(),
        instance: Some("feature-auth".into()),
        branch: Some("claude-1234abcd/feat/user-auth".into()),
        ..NewTask::default()
    };
    assert_eq!(tasks[0], ImportTask { line: Some(2), id: Some("task-001".into()), status: Some("pending".into()), after: vec![], task: first });
    let second =
        NewTask { prompt: "Two\nlines\n".into(), priority: Some(5), labels: vec!["gpu".into(), "big".into()], budget_usd: Some(2.5), ..NewTask::default() };
    // What looks like a number keeps its noughts.
    assert_eq!(tasks[1], ImportTask { line: Some(8), id: Some("007".into()), status: None, after: vec!["task-001".into()], task: second });
}

#[test]
fn every_problem_has_its_line() {
    let text = "queue:\n  - description: fine\n    prio: 3\n  - id: x\n    priority: high\n    max_turns: -1\n";
    let problems = parse(text).expect_err("wrong");
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[0].starts_with("line 2: \"prio\" is no key of a task; there are id, type,"), "{problems:#?}");
    assert_eq!(problems[1..3], ["line 4: priority: \"high\" is not such a number", "line 4: max_turns: \"-1\" is not such a number"]);
    assert!(problems[3].starts_with("line 4: description is missing"), "{problems:#?}");
    for (text, line) in
        [("queue:\n  - [a]\n", "line 2"), ("queue: {\n", "line"), ("tasks: []\n", "line 1"), ("queue:\n  - description: [a]\n", "line 2"), ("", "")]
    {
        let problems = parse(text).expect_err("wrong");
        assert!(problems.len() == 1 && problems[0].contains(line), "{text:?}: {problems:?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "\\PC{1,20}",
        "[ \\n#:\\-'\"|>&*!%@`{}\\[\\],?0-9a-z~\u{e9}]{1,30}",
        prop::sample::select(
            &[
                "null",
                "~",
                "true",
                "no",
                "1.10",
                "0x1f",
                "- x",
                "# y",
                "a: b",
                " lead",
                "trail ",
                "\n",
                "line\n\nline\n",
                "'",
                "\"",
                "\\n",
                "2026-01-01",
                "<<",
                "=",
                "\u{1f980}",
                "\t"
            ][..]
        )
        .prop_map(str::to_owned),
    ]
}

fn task() -> impl Strategy<Value = ImportTask> {
    let some = || prop::option::of(text());
    let lists = (prop::collection::vec(text(), 0..3), prop::collection::vec("[a-z]{1,4}", 0..3));
    let numbers = (prop::option::of(-10i64..=10), prop::option::of(1u64..100_000), prop::option::of(1u32..1000), prop::option::of(1u32..10_000));
    let texts = (some(), some(), some(), some(), some(), text());
    (texts, (some(), some()), lists, numbers).prop_map(
        |((id, status, kind, title, branch, prompt), (group, repository), (after, labels), (priority, timeout, turns, cents))| {
            let task = NewTask {
                kind,
                title,
                prompt,
                branch,
                group,
                repository,
                priority,
                timeout_seconds: timeout,
                max_turns: turns,
                budget_usd: cents.map(|cents| f64::from(cents) / 100.0),
                labels,
                ..NewTask::default()
            };
            ImportTask { line: None, id, status, after, task }
        },
    )
}

#[test]
fn a_schema_is_written_and_read_as_it_was() {
    let schema = serde_json::json!({
        "type": "object", "$id": "https://example.org/x#", "additionalProperties": false, "maximum": 1.5, "minItems": 3,
        "properties": {"yes": {"enum": ["no", "1", 1, null, true, "a: b", "two\nlines"]}, "empty": {}, "none": []},
    });
    let task = NewTask { prompt: "p".into(), schema: Some(schema), ..NewTask::default() };
    let tasks = [ImportTask { task, ..ImportTask::default() }];
    let text = write(&tasks).expect("written");
    let read = parse(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    assert_eq!(read.into_iter().map(|one| one.task).collect::<Vec<_>>(), [tasks[0].task.clone()], "{text}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(tasks in prop::collection::vec(task(), 0..4)) {
        let text = write(&tasks).expect("written");
        let read = parse(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        let read: Vec<ImportTask> = read.into_iter().map(|one| ImportTask { line: None, ..one }).collect();
        prop_assert_eq!(read, tasks, "{}", text);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(queue:\n)?( *(- )?[a-z]{0,6}:? ?\\PC{0,10}\n){0,8}") {
        let _read = parse(&text);
    }
}

#[test]
fn files_are_a_list_or_one_pattern_whatever_commas_it_has() {
    let tasks =
        parse("queue:\n  - description: a\n    files: src/**/*.{rs,toml}\n  - description: b\n    files: [docs/, 'a b']\n  - description: c\n    files:\n")
            .expect("valid");
    let files: Vec<_> = tasks.iter().map(|one| one.task.files.join("|")).collect();
    assert_eq!(files, ["src/**/*.{rs,toml}", "docs/|a b", ""]);
    let again = parse(&write(&tasks).expect("written")).expect("valid");
    assert_eq!(again.iter().map(|one| one.task.files.join("|")).collect::<Vec<_>>(), files);
}
