//! The post against a model of instances whose agents come, take messages, and go at any moment.

use super::post::{HOPS_MAX, SENT_MAX, WAITING_MAX};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn name(text: &str) -> InstanceName {
    text.parse().expect("valid")
}

fn attempt(task: i64, number: u32) -> AttemptId {
    AttemptId { task: TaskId(task), number }
}

fn draft(from: Option<(&str, AttemptId)>) -> Draft {
    Draft {
        sender: from.map_or("user:ann".to_owned(), |(name, _)| format!("instance:{name}")),
        from: from.map(|(text, _)| name(text)),
        attempt: from.map(|(_, attempt)| attempt),
        kind: Kind::Message,
        to: "a".to_owned(),
        reply_to: None,
        text: "hello".to_owned(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn post() -> Post {
    Post::load(1, [], Vec::new(), [], [])
}

fn send(post: &mut Post, from: Option<(&str, AttemptId)>, to: &[&str]) -> Result<Arc<Message>, Refused> {
    let to: Vec<InstanceName> = to.iter().map(|text| name(text)).collect();
    post.send(draft(from), &to, Uuid::new_v4, at(0)).map(|(message, _)| message)
}

#[test]
fn texts_are_checked() {
    assert_eq!(checked("a\r\nb\tc"), Ok("a\nb\tc".to_owned()));
    assert_eq!([checked(" \n"), checked("a\0"), checked("\x1b[31m")], [Err(InvalidText::Empty), Err(InvalidText::Control), Err(InvalidText::Control)]);
    assert_eq!(checked(&"x".repeat(TEXT_MAX + 1)), Err(InvalidText::Long(TEXT_MAX + 1)));
}

#[test]
fn an_agent_is_told_who_speaks() {
    let mut post = post();
    let message = send(&mut post, Some(("b", attempt(1, 1))), &["a"]).expect("sent");
    let told = message.told();
    assert!(told.starts_with("Message 1 from the agent of instance b:\n\nhello\n\n(To answer: claudectl send --reply-to 1 b "), "{told}");
    let told = send(&mut post, None, &["a"]).expect("sent").told();
    assert_eq!(told, "Message 2 from the user ann:\n\nhello");
    let task = message.task(&name("a"));
    assert_eq!((task.title.as_str(), task.kind.as_str(), task.target.instance()), ("Message 1 from b", "message", Some(&name("a"))));
}

#[test]
fn an_attempt_sends_so_many_and_no_more() {
    let mut post = post();
    let busy = attempt(1, 1);
    for _ in 0..SENT_MAX {
        send(&mut post, Some(("b", busy)), &["a"]).expect("sent");
    }
    assert_eq!(send(&mut post, Some(("b", busy)), &["a"]).err(), Some(Refused::TooMany));
    assert!(send(&mut post, Some(("b", attempt(1, 2))), &["a"]).is_ok() && send(&mut post, None, &["a"]).is_ok());
    post.forget(|_| false);
    assert!(send(&mut post, Some(("b", busy)), &["a"]).is_ok());
    let left = WAITING_MAX - usize::try_from(SENT_MAX).expect("small") - 3;
    (0..left).for_each(|_| drop(send(&mut post, None, &["a"]).expect("sent")));
    assert_eq!(send(&mut post, None, &["b", "a"]).err(), Some(Refused::Full(name("a"))));
    assert!(send(&mut post, None, &["b"]).is_ok());
}

/// Two agents that answer each other for ever are stopped, whether they run or are woken by each message.
#[test]
fn a_conversation_ends() {
    let mut post = post();
    let mut last = send(&mut post, None, &["a"]).expect("sent");
    let mut round = 0;
    let refused = loop {
        round += 1;
        let (me, other) = if round % 2 == 1 { ("a", "b") } else { ("b", "a") };
        let mine = attempt(round, 1);
        if round % 3 == 0 {
            post.queued(&name(me), &last, mine.task, None);
        } else {
            post.delivered(&name(me), mine, last.id).expect("on its way");
        }
        match send(&mut post, Some((me, mine)), &[other]) {
            Ok(message) => last = message,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, round), (Refused::TooDeep, i64::from(HOPS_MAX) + 1));
}

#[test]
fn an_idle_instance_gets_one_task_at_a_time_and_one_that_is_away_waits_a_day() {
    let mut post = post();
    let first = send(&mut post, None, &["a", "b"]).expect("sent");
    send(&mut post, None, &["a"]).expect("sent");
    let effects = post.settle(at(1), |to| if *to == name("a") { Standing::Idle } else { Standing::Away }, |_, _| false);
    assert_eq!(effects, [Effect::Task { to: name("a"), message: first.clone() }]);
    assert_eq!(post.queued(&name("a"), &first, TaskId(7), None), Change::Moved(first.id, name("a"), Progress::Queued(TaskId(7))));
    let works = |to: &InstanceName| if *to == name("a") { Standing::Works { attempt: attempt(7, 1), listens: false } } else { Standing::Away };
    assert_eq!(post.settle(at(86_401), works, |_, _| false), [], "a day since b was first looked for");
    assert_eq!(post.settle(at(86_402), works, |_, _| false), [Effect::Save(Change::Moved(first.id, name("b"), Progress::Expired))]);
    // The other one waits behind a program that hears nothing, and does not expire when that goes away for a moment.
    assert_eq!(post.settle(at(86_403), |_| Standing::Away, |_, _| false), []);
}

#[test]
fn a_call_for_help_is_answered_once_by_its_end_or_its_time() {
    let mut post = post();
    let asked: Vec<_> = (0..2).map(|_| send(&mut post, None, &[]).expect("sent")).collect();
    for (n, message) in asked.iter().enumerate() {
        post.queued(&name("b"), message, TaskId(i64::try_from(n).expect("small")), Some(at(100)));
    }
    assert_eq!(post.next_wake(), Some(at(100)));
    let ending = Ending { succeeded: true, text: "42".to_owned() };
    let (over, effects) = post.answered(at(50), |task| (task == TaskId(0)).then(|| ending.clone()));
    assert_eq!((over.iter().map(|(help, ending)| (help.task, ending.text.as_str())).collect::<Vec<_>>(), effects), (vec![(TaskId(0), "42")], vec![]));
    let (over, effects) = post.answered(at(100), |_| None);
    assert_eq!((over.len(), over[0].1.succeeded, effects), (1, false, vec![Effect::Cancel(TaskId(1))]));
    assert_eq!(post.next_wake(), None);
}

/// Its agent may have taken it unheard: so it goes into the same conversation, whose program knows its number, as long as that goes on.
#[test]
fn a_letter_that_an_agent_may_have_goes_to_its_next_attempt_and_nowhere_else() {
    let mut post = post();
    let message = send(&mut post, None, &["a"]).expect("sent");
    let works = |task, number| move |_: &InstanceName| Standing::Works { attempt: attempt(task, number), listens: true };
    assert!(matches!(post.settle(at(1), works(1, 1), |_, _| true).last(), Some(Effect::Tell { .. })));
    // The next clauded knows that too.
    let letter = Letter { to: name("a"), uuid: Uuid::new_v4(), progress: Progress::Sent(attempt(1, 1)) };
    let reloaded = Post::load(2, [(message.clone(), letter)], Vec::new(), [], []);
    for mut post in [post, reloaded] {
        assert_eq!(post.settle(at(2), |_| Standing::Idle, |_, _| true), [], "it waits for the task to go on");
        assert_eq!(post.settle(at(3), works(2, 1), |_, _| true), [], "another task's agent would not know it");
        assert_eq!(post.settle(at(3), |_| Standing::Away, |_, _| true), []);
        assert_eq!(post.settle(at(3 + 90_000), |_| Standing::Away, |_, _| true), [], "as long as that waits");
        let effects = post.settle(at(4), works(1, 2), |_, _| true);
        assert_eq!(effects.first(), Some(&Effect::Save(Change::Moved(message.id, name("a"), Progress::Sent(attempt(1, 2))))));
        assert!(matches!(effects.last(), Some(Effect::Tell { attempt: AttemptId { task: TaskId(1), number: 2 }, .. })));
        let effects = post.settle(at(5), |_| Standing::Idle, |task, to| task == TaskId(1) && *to != name("a"));
        assert_eq!(effects.first(), Some(&Effect::Save(Change::Moved(message.id, name("a"), Progress::Pending))), "it goes on elsewhere");
        assert!(matches!(effects.last(), Some(Effect::Task { .. })));
        assert_eq!(post.settle(at(6), |_| Standing::Away, |_, _| false), []);
        let effects = post.settle(at(6 + 86_401), |_| Standing::Away, |_, _| false);
        assert_eq!(effects, [Effect::Save(Change::Moved(message.id, name("a"), Progress::Expired))], "nobody has come for it");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Begin(usize),
    /// The agent takes what it has been told of first.
    Take(usize),
    /// The runner's word arrives.
    Report(usize),
    End(usize),
    /// The runner and the agent die; what they had not said is lost, and their task waits to go on.
    Die(usize),
    Resume(usize),
    Cut(usize),
    Back(usize),
    Reload,
}

#[derive(Default)]
struct Instance {
    linked: bool,
    runs: Option<AttemptId>,
    /// The next attempt of a task that waits.
    next: Option<AttemptId>,
    /// What the conversation of each task has.
    had: BTreeSet<(TaskId, Uuid)>,
    told: Vec<(MessageId, Uuid)>,
    spool: Vec<(AttemptId, MessageId)>,
    tasks: i64,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..2;
    prop_oneof![
        3 => which.clone().prop_map(Step::Send),
        2 => which.clone().prop_map(Step::Begin),
        4 => which.clone().prop_map(Step::Take),
        4 => which.clone().prop_map(Step::Report),
        2 => which.clone().prop_map(Step::End),
        2 => which.clone().prop_map(Step::Die),
        2 => which.clone().prop_map(Step::Resume),
        1 => which.clone().prop_map(Step::Cut),
        2 => which.prop_map(Step::Back),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_letter_arrives_once_whoever_dies_when(steps in proptest::collection::vec(step(), 1..80)) {
        let names = [name("a"), name("b")];
        let mut world = [Instance { linked: true, ..Instance::default() }, Instance { linked: true, ..Instance::default() }];
        let mut post = post();
        // The store: all letters that are not delivered.
        let mut stored: BTreeMap<(MessageId, InstanceName), (Arc<Message>, Letter)> = BTreeMap::new();
        let mut arrived: BTreeMap<(MessageId, InstanceName), u32> = BTreeMap::new();
        let (mut next, mut all) = (1, BTreeSet::new());
        let end = [Step::Back(0), Step::Back(1), Step::Report(0), Step::Report(1), Step::Resume(0), Step::Resume(1), Step::End(0), Step::End(1)];
        for step in steps.into_iter().chain(end.into_iter().cycle().take(1500)) {
            let mut effects = Vec::new();
            match step {
                Step::Send(to) => {
                    if let Ok((message, saved)) = post.send(draft(None), &names[..=to], Uuid::new_v4, at(0)) {
                        next = message.id.0 + 1;
                        all.extend(names[..=to].iter().map(|name| (message.id, name.clone())));
                        effects.push(saved);
                    }
                }
                Step::Begin(n) if world[n].linked && world[n].runs.is_none() => {
                    world[n].tasks += 1;
                    world[n].runs = Some(attempt(world[n].tasks, 1));
                    world[n].told.clear();
                }
                Step::Die(n) if world[n].linked && world[n].next.is_none() => {
                    if let Some(runs) = world[n].runs.take() {
                        world[n].next = Some(AttemptId { number: runs.number + 1, ..runs });
                        world[n].told.clear();
                        world[n].spool.clear();
                    }
                }
                Step::Resume(n) if world[n].linked && world[n].runs.is_none() => world[n].runs = world[n].next.take(),
                Step::Take(n) => {
                    if let (Some(runs), false) = (world[n].runs, world[n].told.is_empty()) {
                        let (id, uuid) = world[n].told.remove(0);
                        world[n].had.insert((runs.task, uuid));
                        *arrived.entry((id, names[n].clone())).or_default() += 1;
                        world[n].spool.push((runs, id));
                    }
                }
                Step::Report(n) if world[n].linked => {
                    for (runs, id) in std::mem::take(&mut world[n].spool) {
                        effects.extend(post.delivered(&names[n], runs, id));
                    }
                }
                // The spool goes first, as over the link.
                Step::End(n) if world[n].linked => {
                    for (runs, id) in std::mem::take(&mut world[n].spool) {
                        effects.extend(post.delivered(&names[n], runs, id));
                    }
                    world[n].runs = None;
                }
                Step::Cut(n) => {
                    world[n].linked = false;
                    // It was still on the wire.
                    world[n].told.pop();
                }
                Step::Back(n) if !world[n].linked => {
                    world[n].linked = true;
                    for (runs, id) in std::mem::take(&mut world[n].spool) {
                        effects.extend(post.delivered(&names[n], runs, id));
                    }
                    post.linked(&names[n]);
                }
                Step::Reload => {
                    post = Post::load(next, stored.values().cloned(), Vec::new(), [], []);
                    names.iter().for_each(|name| post.linked(name));
                }
                _ => {}
            }
            effects.extend(post.settle(at(1), |to| {
                let it = &world[usize::from(*to == names[1])];
                match it.runs {
                    Some(attempt) => Standing::Works { attempt, listens: it.linked },
                    None if it.linked => Standing::Idle,
                    None => Standing::Away,
                }
            }, |task, to| {
                let it = &world[usize::from(*to == names[1])];
                [it.runs, it.next].into_iter().flatten().any(|attempt| attempt.task == task)
            }));
            for effect in effects {
                match effect {
                    Effect::Save(Change::Posted(message, letters)) => {
                        let message = Arc::new(*message);
                        stored.extend(letters.into_iter().map(|letter| ((message.id, letter.to.clone()), (message.clone(), letter))));
                    }
                    Effect::Save(Change::Moved(id, to, Progress::Delivered(_))) => drop(stored.remove(&(id, to))),
                    Effect::Save(Change::Moved(id, to, progress)) => stored.get_mut(&(id, to)).expect("stored").1.progress = progress,
                    Effect::Tell { to, attempt, message, uuid } => {
                        let it = &mut world[usize::from(to == names[1])];
                        prop_assert!(it.linked && it.runs == Some(attempt));
                        // The runner gives each to its agent once.
                        let known = it.told.iter().any(|(id, _)| *id == message.id) || it.spool.iter().any(|(_, id)| *id == message.id);
                        if it.had.contains(&(attempt.task, uuid)) {
                            // Its program has it already, and says so at once.
                            it.spool.push((attempt, message.id));
                        } else if !known {
                            it.told.push((message.id, uuid));
                        }
                    }
                    Effect::Task { to, message } => {
                        let it = &mut world[usize::from(to == names[1])];
                        it.tasks += 1;
                        it.runs = Some(attempt(it.tasks, 1));
                        it.told.clear();
                        *arrived.entry((message.id, to.clone())).or_default() += 1;
                        post.queued(&to, &message, TaskId(it.tasks), None);
                        stored.remove(&(message.id, to));
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(arrived.keys().cloned().collect::<BTreeSet<_>>(), all);
        prop_assert!(arrived.values().all(|times| *times == 1), "{:?}", arrived);
        prop_assert!(stored.is_empty());
    }
}
