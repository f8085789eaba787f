//! What comes first, what waits for what, and who gets it: one test a rule.

use super::rules::{attempt, hello, invocation, report, runs, saved, task};
use super::{at, loaded, name};
use crate::core::attempt::{Ended, Reason};
use crate::core::delivery::Stage;
use crate::core::ids::{AttemptId, TaskId};
use crate::core::label::Label;
use crate::core::pool::{Member, Policy, Rules, Team};
use crate::core::queue::{Change, ClaimRefused, Effect, Hello, Pause, Queue, Scope, Stored, Wait};
use crate::core::task::{Claim, Task, TaskState};
use crate::core::terms::{AfterFailed, Priority, Terms};
use std::sync::Arc;
use std::time::Duration;

pub(super) const NONE: [&str; 0] = [];

pub(super) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

/// A task for anyone, on terms.
pub(super) fn on(id: i64, change: impl FnOnce(&mut Terms)) -> Task {
    let mut terms = Terms::default();
    change(&mut terms);
    Task { terms: Arc::new(terms), ..task(id, "") }
}

fn after(id: i64, needed: &[i64]) -> Task {
    on(id, |terms| terms.after = needed.iter().copied().map(TaskId).collect())
}

fn urgent(id: i64, priority: i64, created: i64) -> Task {
    Task { created: at(created), ..on(id, |terms| terms.priority = Priority::try_from(priority).expect("a priority")) }
}

/// Connects an instance; answers what it is given.
pub(super) fn link(queue: &mut Queue, instance: &str) -> Vec<String> {
    let byte = instance.bytes().next().expect("a name");
    runs(&queue.linked(hello(instance, byte, None), at(0)))
}

pub(super) fn done(queue: &mut Queue, instance: &str, id: i64, ended: Ended) -> Vec<Effect> {
    queue.finished(&name(instance), "account", attempt(id, 1), &report(ended, 0), at(0))
}

pub(super) fn ruled(tasks: Vec<Task>, rules: Rules) -> Queue {
    Queue::load(Stored { tasks, ..Stored::default() }, rules)
}

pub(super) fn wait(queue: &Queue, id: i64) -> String {
    queue.task(TaskId(id)).and_then(|task| queue.why(task, at(0))).map(|wait| wait.to_string()).unwrap_or_default()
}

#[test]
fn the_urgent_come_first_and_age_brings_up_the_others() {
    let mut queue = loaded([urgent(1, 0, 0), urgent(2, 3, 5399), urgent(3, 3, 5401), urgent(4, -1, 0)], []);
    assert_eq!(link(&mut queue, "a"), ["2.1@a"], "three steps are worth an hour and a half");
    assert_eq!(runs(&done(&mut queue, "a", 2, Ended::Succeeded)), ["1.1@a"]);
    assert_eq!(runs(&done(&mut queue, "a", 1, Ended::Succeeded)), ["3.1@a"]);
    let hour = Rules { ageing: Duration::from_secs(3600), ..Rules::default() };
    queue.added(urgent(5, 1, 3000), at(0));
    queue.configure(hour, at(0));
    assert_eq!(runs(&done(&mut queue, "a", 3, Ended::Succeeded)), ["5.1@a"], "a new ageing counts at once");
    assert_eq!(runs(&done(&mut queue, "a", 5, Ended::Succeeded)), ["4.1@a"]);
}

#[test]
fn a_task_waits_for_all_that_it_comes_after() {
    let mut queue = loaded([task(1, ""), task(2, ""), after(3, &[1, 2])], []);
    link(&mut queue, "a");
    assert_eq!(link(&mut queue, "b"), ["2.1@b"]);
    assert_eq!(wait(&queue, 3), "waits for tasks 1, 2 to end");
    assert_eq!(runs(&done(&mut queue, "a", 1, Ended::Succeeded)), NONE);
    assert_eq!(wait(&queue, 3), "waits for task 2 to end");
    assert_eq!(runs(&done(&mut queue, "b", 2, Ended::Succeeded)), ["3.1@a"]);
}

#[test]
fn a_failed_one_fails_or_releases_those_that_come_after_it_and_theirs() {
    let wrong = Ended::Failed { reason: Reason::AgentError, transient: false };
    for cancelled in [false, true] {
        let release = Task { terms: Arc::new(Terms { after_failed: AfterFailed::Release, ..(*after(5, &[3]).terms).clone() }), ..task(5, "") };
        let mut queue = loaded([task(1, ""), after(2, &[1]), after(3, &[2]), after(4, &[3, 1]), release], []);
        let effects = if cancelled {
            let effects = queue.cancel(TaskId(1), at(0)).1;
            assert_eq!(link(&mut queue, "a"), ["5.1@a"]);
            effects
        } else {
            link(&mut queue, "a");
            let effects = done(&mut queue, "a", 1, wrong.clone());
            assert_eq!(runs(&effects), ["5.1@a"]);
            effects
        };
        for id in 2..=4 {
            assert_eq!(saved(&effects, id), Some(TaskState::Failed(Reason::Dependency)), "{id}");
        }
        let told: Vec<&str> = effects.iter().filter_map(|e| if let Effect::Tell { message, .. } = e { Some(message.as_str()) } else { None }).collect();
        let how = if cancelled { "was cancelled" } else { "failed" };
        assert!(told.contains(&&*format!("task 1, which it comes after, {how}")) && told.contains(&"task 2, which it comes after, failed"), "{told:?}");
    }
}

#[test]
fn a_long_chain_ends_at_once() {
    let chain = (1..=50_000).map(|id| if id == 1 { task(1, "b") } else { after(id, &[id - 1]) });
    let mut queue = loaded(chain, []);
    let (_, effects) = queue.cancel(TaskId(1), at(0));
    assert_eq!((queue.tasks().count(), saved(&effects, 50_000)), (0, Some(TaskState::Failed(Reason::Dependency))));
}

#[test]
fn who_is_added_in_the_turn_in_which_the_other_fails_fails_too() {
    let mut queue = loaded([task(1, "b")], []);
    queue.cancel(TaskId(1), at(0));
    assert!(queue.knows(TaskId(1)));
    assert_eq!(saved(&queue.added(after(2, &[1]), at(0)), 2), Some(TaskState::Failed(Reason::Dependency)));
    queue.committed();
    assert!(!queue.knows(TaskId(1)));
}

#[test]
fn tasks_that_are_added_together_may_come_after_each_other_in_any_order() {
    let mut queue = Queue::default();
    link(&mut queue, "a");
    assert_eq!(runs(&queue.added_many(vec![after(1, &[3]), after(2, &[1]), task(3, "")], at(0))), ["3.1@a"]);
    assert_eq!(runs(&done(&mut queue, "a", 3, Ended::Succeeded)), ["1.1@a"]);
    assert_eq!(runs(&done(&mut queue, "a", 1, Ended::Succeeded)), ["2.1@a"]);
}

#[test]
fn a_retried_one_is_waited_for_again_and_does_not_wait_for_what_has_failed() {
    let mut queue = loaded([after(2, &[1]), after(3, &[2])], []);
    queue.linked(Hello { account: "x".into(), ..hello("c", 3, None) }, at(0));
    assert_eq!(queue.busy(&name("c")), Some(attempt(2, 1)), "1 is not in the queue any more");
    let mut queue = loaded([after(2, &[1])], []);
    queue.retry(Task { state: TaskState::Failed(Reason::Oom), ..task(1, "b") }, at(0));
    assert_eq!(link(&mut queue, "a"), NONE);
    assert_eq!(wait(&queue, 2), "waits for task 1 to end");
    let mut queue = loaded([task(9, "b")], []);
    link(&mut queue, "a");
    let failed = Task { state: TaskState::Failed(Reason::Dependency), note: "task 1, which it comes after, failed".into(), ..after(2, &[1]) };
    assert_eq!(runs(&queue.retry(failed, at(0))), ["2.1@a"], "a person's retry passes over what has failed");
    assert_eq!(queue.task(TaskId(2)).map(|task| task.note.clone()), Some(String::new()));
}

#[test]
fn what_was_asked_for_a_time_starts_then_however_far_it_is() {
    let then = at(400_000);
    let mut queue = Queue::default();
    link(&mut queue, "a");
    let asked = on(1, |terms| terms.not_before = Some(then));
    queue.added(Task { state: TaskState::Pending { not_before: Some(then) }, ..asked }, at(0));
    assert_eq!(runs(&queue.tick(at(399_999))), NONE);
    assert_eq!((queue.next_wake(at(0)), wait(&queue, 1)), (Some(then), format!("waits until {then}")));
    // Somebody takes it and gives it back; somebody ends it and wants it again.
    queue.claim(Some(TaskId(1)), claim("alice"), at(5)).expect("granted");
    assert_eq!(runs(&queue.release(TaskId(1), None, at(6)).expect("released")), NONE);
    let ended = queue.task(TaskId(1)).cloned().expect("there");
    queue.cancel(TaskId(1), at(7));
    assert_eq!(runs(&queue.retry(Task { state: TaskState::Cancelled, ..ended }, at(8))), NONE);
    assert_eq!(runs(&queue.tick(then)), ["1.1@a"]);
}

#[test]
fn groups_repositories_and_roles_run_so_many_at_once_and_others_pass() {
    let grouped = |id| on(id, |terms| terms.group = Some(label("g")));
    let rules = Rules { groups: [(label("g"), 1)].into(), ..Rules::default() };
    let mut queue = ruled(vec![grouped(1), grouped(2), task(3, "")], rules);
    link(&mut queue, "a");
    assert_eq!(link(&mut queue, "b"), ["3.1@b"]);
    link(&mut queue, "c");
    assert_eq!(wait(&queue, 2), "waits for a place: group g runs at most 1 at once (max-concurrent-tasks of [queue.groups.g])");
    assert_eq!(runs(&done(&mut queue, "a", 1, Ended::Succeeded)), ["2.1@c"]);

    let member = |role: &str, most| Member { repository: Some(label("r")), role: Some(label(role)), max_concurrent: most, ..Member::default() };
    let members = [(name("a"), member("x", Some(1))), (name("b"), member("x", Some(1))), (name("c"), member("y", None)), (name("d"), member("y", None))];
    let rules = Rules { members: members.into(), repositories: [(label("r"), 2)].into(), ..Rules::default() };
    let mut queue = ruled((1..=4).map(|id| task(id, "")).collect(), rules.clone());
    assert_eq!([link(&mut queue, "a"), link(&mut queue, "b"), link(&mut queue, "c"), link(&mut queue, "d")].concat(), ["1.1@a", "2.1@c"]);
    assert_eq!(wait(&queue, 3), "waits for a place: repository r runs at most 2 at once (max-concurrent-tasks of [repositories.r])");
    let of_team = |member: &Member| Member { team: Some(label("t")), repository: None, ..member.clone() };
    let members: std::collections::BTreeMap<_, _> = rules.members.iter().map(|(name, member)| (name.clone(), of_team(member))).collect();
    let mut queue = ruled((1..=4).map(|id| task(id, "")).collect(), Rules { members: members.clone(), ..Rules::default() });
    assert_eq!([link(&mut queue, "a"), link(&mut queue, "b")].concat(), ["1.1@a"]);
    assert_eq!(wait(&queue, 2), "waits for a place: x of team t runs at most 1 at once (max-concurrent-tasks of [teams.t.members.x])");
    let teams = [(label("t"), Team { max_concurrent: Some(2), ..Team::default() })].into();
    let mut queue = ruled((1..=4).map(|id| task(id, "")).collect(), Rules { members, teams, ..Rules::default() });
    assert_eq!(["a", "b", "c", "d"].map(|name| link(&mut queue, name)).concat(), ["1.1@a", "2.1@c"]);
    assert_eq!(wait(&queue, 3), "waits for a place: team t runs at most 2 at once (max-concurrent-tasks of [teams.t])");
    assert_eq!(runs(&done(&mut queue, "c", 2, Ended::Succeeded)), ["3.1@d"]);
}

#[test]
fn only_who_brings_what_is_demanded_takes_a_task_and_the_policy_chooses_among_them() {
    let member = |team: Option<&str>, specialties: &[&str]| Member {
        team: team.map(label),
        specialties: specialties.iter().map(|text| label(text)).collect(),
        ..Member::default()
    };
    let members = [
        (name("a"), member(Some("t"), &["x", "y", "z"])),
        (name("b"), member(Some("t"), &["x"])),
        (name("c"), member(Some("u"), &[])),
        (name("d"), member(Some("u"), &[])),
    ];
    let team = |policy| Team { policy, ..Team::default() };
    let teams = [(label("t"), team(Policy::Specialty)), (label("u"), team(Policy::LeastLoaded))];
    let rules = Rules { members: members.into(), teams: teams.into(), ..Rules::default() };
    let mut queue = ruled(Vec::new(), rules);
    for instance in ["a", "b", "c", "d"] {
        link(&mut queue, instance);
    }
    let wants = |id, team: Option<&str>, specialty: Option<&str>| {
        on(id, |terms| {
            terms.demand.team = team.map(label);
            terms.demand.specialty = specialty.map(label);
        })
    };
    queue.loads([(name("c"), 900), (name("d"), 20)].into());
    assert_eq!(runs(&queue.added(wants(1, Some("t"), Some("x")), at(0))), ["1.1@b"], "who can do more stays free");
    assert_eq!(runs(&queue.added(wants(2, Some("u"), None), at(0))), ["2.1@d"], "the least loaded");
    assert_eq!(runs(&queue.added(wants(3, None, Some("z")), at(0))), ["3.1@a"]);
    assert_eq!(runs(&queue.added(wants(4, Some("t"), Some("z")), at(0))), NONE);
    queue.added(wants(5, None, Some("w")), at(0));
    assert_eq!(
        (wait(&queue, 4), wait(&queue, 5)),
        ("waits for a free instance".into(), "waits for an instance with specialty w; none is configured so".into())
    );
    // Who is not asked for by team is chosen by the policy of the one team that can do it.
    let skilled = |load: &str| Member { specialties: [label("s")].into(), team: Some(label("u")), role: Some(label(load)), ..Member::default() };
    let members = [(name("c"), skilled("c")), (name("d"), skilled("d")), (name("e"), Member::default())];
    let rules = Rules { members: members.into(), teams: [(label("u"), team(Policy::LeastLoaded))].into(), ..Rules::default() };
    let mut queue = ruled(Vec::new(), rules);
    for instance in ["c", "d", "e"] {
        link(&mut queue, instance);
    }
    queue.loads([(name("c"), 900), (name("d"), 20)].into());
    assert_eq!(runs(&queue.added(wants(1, None, Some("s")), at(0))), ["1.1@d"]);
    done(&mut queue, "d", 1, Ended::Succeeded);
    assert_eq!(runs(&queue.added(task(2, ""), at(0))), ["2.1@c"], "anyone could do this one: they take turns");
    // Round-robin: whoever has waited longest.
    let mut queue = loaded([], []);
    link(&mut queue, "a");
    link(&mut queue, "b");
    assert_eq!(runs(&queue.added(task(1, ""), at(0))), ["1.1@a"]);
    done(&mut queue, "a", 1, Ended::Succeeded);
    assert_eq!(runs(&queue.added(task(2, ""), at(0))), ["2.1@b"]);
    done(&mut queue, "b", 2, Ended::Succeeded);
    assert_eq!(runs(&queue.added(task(3, ""), at(0))), ["3.1@a"]);
}

#[test]
fn what_is_paused_does_not_start_until_it_is_resumed() {
    let scopes = [Scope::All, Scope::Instance(name("a")), Scope::Group(label("g")), Scope::Account("account".into()), Scope::Team(label("t"))];
    for scope in scopes {
        let rules = Rules { members: [(name("a"), Member { team: Some(label("t")), ..Member::default() })].into(), ..Rules::default() };
        let mut queue = ruled(vec![on(1, |terms| terms.group = Some(label("g")))], rules);
        let pause = Pause { by: "alice".into(), why: "lunch".into(), since: at(0) };
        let (changed, effects) = queue.pause(scope.clone(), pause.clone());
        assert!(changed && effects.contains(&Effect::Save(Change::Pause(scope.clone(), Some(pause.clone())))));
        assert_eq!(queue.pause(scope.clone(), Pause { by: "bob".into(), ..pause }), (false, vec![]), "the first one stays");
        assert_eq!(link(&mut queue, "a"), NONE, "{scope}");
        let words = format!("waits while {scope} is paused (by alice at {}: lunch); let it go on with: claudectl resume {}", at(0), scope.option());
        assert_eq!(wait(&queue, 1), words);
        let (changed, effects) = queue.resume(scope.clone(), "bob", at(0));
        assert_eq!((changed, runs(&effects)), (true, vec!["1.1@a".to_owned()]), "{scope}");
        assert_eq!(queue.resume(scope, "bob", at(0)), (false, vec![]));
    }
}

#[test]
fn a_login_that_fails_pauses_its_account_and_keeps_the_task() {
    let mut queue = loaded([task(1, ""), task(2, "")], []);
    link(&mut queue, "a");
    let auth = Ended::Failed { reason: Reason::Auth, transient: false };
    let effects = done(&mut queue, "a", 1, auth.clone());
    assert_eq!((saved(&effects, 1), runs(&effects).len()), (Some(TaskState::Pending { not_before: None }), 0));
    let told = effects.iter().find_map(|effect| if let Effect::Tell { kind: "account-paused", message, .. } = effect { Some(message) } else { None });
    assert!(told.is_some_and(|message| message.ends_with("then: claudectl resume --account account")), "{told:?}");
    assert!(wait(&queue, 2).starts_with("waits while account account is paused (by clauded"), "{}", wait(&queue, 2));
    assert_eq!(runs(&queue.linked(Hello { account: "other".into(), ..hello("b", 2, None) }, at(0))), ["1.2@b"]);
    assert_eq!(runs(&queue.resume(Scope::Account("account".into()), "p", at(0)).1), ["2.1@a"]);
}

fn claim(by: &str) -> Claim {
    Claim { by: by.to_owned(), since: at(0), agent: None }
}

fn agents(instance: &str, byte: u8) -> Claim {
    Claim { agent: Some((name(instance), invocation(byte))), ..claim(instance) }
}

#[test]
fn a_claimed_task_is_nobody_elses_until_it_is_given_back_or_done() {
    let mut queue = loaded([task(1, ""), after(2, &[1]), task(3, "b")], []);
    let (id, effects) = queue.claim(None, claim("alice"), at(0)).expect("granted");
    assert_eq!((id, saved(&effects, 1)), (TaskId(1), Some(TaskState::Claimed(claim("alice")))));
    assert_eq!(link(&mut queue, "a"), NONE);
    assert_eq!(queue.claim(Some(id), claim("alice"), at(9)), Ok((id, vec![])), "again");
    assert_eq!(queue.claim(Some(id), claim("bob"), at(0)), Err(ClaimRefused::Taken(id, "alice".into())));
    assert!(matches!(queue.claim(Some(TaskId(2)), claim("bob"), at(0)), Err(ClaimRefused::Waits(..))));
    assert_eq!(queue.claim(None, claim("bob"), at(0)), Err(ClaimRefused::Nothing), "3 was asked of b");
    assert_eq!(queue.release(id, Some(&name("a")), at(0)), Err(ClaimRefused::NotYours(id, "alice".into())));
    assert_eq!(runs(&queue.release(id, None, at(0)).expect("released")), ["1.1@a"]);
    assert_eq!(queue.complete(id, None, false, String::new(), at(0)), Err(ClaimRefused::NotClaimed(id)));
    let refused = Err(ClaimRefused::Taken(id, "a".into()));
    assert_eq!(queue.claim(Some(id), claim("bob"), at(0)), refused);
    for stage in [Stage::Running, Stage::Verifying, Stage::Publishing] {
        assert_ne!(queue.entered(&name("a"), &invocation(b'a'), AttemptId { task: id, number: 1 }, stage), []);
        assert_eq!(queue.claim(Some(id), claim("bob"), at(0)), refused, "{stage:?}");
    }
}

#[test]
fn completing_a_claim_ends_the_task_and_suggests_one_that_is_like_it() {
    let like = |id: i64, group: Option<&str>, priority: i64| {
        on(id, |terms| {
            terms.group = group.map(label);
            terms.priority = Priority::try_from(priority).expect("a priority");
        })
    };
    let mut queue = loaded([like(1, Some("g"), 0), like(2, None, 9), like(3, Some("g"), -5), like(4, Some("h"), 0), after(5, &[1])], []);
    queue.claim(Some(TaskId(1)), claim("alice"), at(0)).expect("granted");
    let (next, effects) = queue.complete(TaskId(1), None, false, "by hand".into(), at(0)).expect("done");
    assert_eq!((next, saved(&effects, 1)), (Some(TaskId(3)), Some(TaskState::Succeeded)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Save(Change::Task(task)) if task.note == "by hand")));
    queue.claim(Some(TaskId(4)), claim("alice"), at(0)).expect("granted");
    let (next, effects) = queue.complete(TaskId(4), None, true, String::new(), at(0)).expect("done");
    assert_eq!((next, saved(&effects, 4)), (Some(TaskId(2)), Some(TaskState::Failed(Reason::Reported))), "nothing is like it: the most urgent");
}

#[test]
fn what_an_agent_has_claimed_goes_back_with_its_unit() {
    let mut queue = loaded([task(1, ""), task(2, "")], []);
    queue.claim(Some(TaskId(1)), agents("a", 1), at(0)).expect("granted");
    let effects = queue.invocation_over(&name("a"), &invocation(2), true, "", at(0));
    assert_eq!(saved(&effects, 1), None, "another start of it");
    let effects = queue.invocation_over(&name("a"), &invocation(1), true, "", at(0));
    assert_eq!(saved(&effects, 1), Some(TaskState::Pending { not_before: None }));
    queue.claim(Some(TaskId(2)), agents("a", 1), at(0)).expect("granted");
    let effects = queue.linked(hello("a", 2, None), at(0));
    assert_eq!(saved(&effects, 2), Some(TaskState::Pending { not_before: None }), "a new start means that the old one is over");
}

#[test]
fn waits_are_counted_by_their_cause() {
    let later = Task { state: TaskState::Pending { not_before: Some(at(99)) }, ..on(4, |terms| terms.not_before = Some(at(99))) };
    let mut queue = loaded([task(1, ""), task(2, ""), after(3, &[1]), later, task(5, "gone")], []);
    link(&mut queue, "a");
    let counts = queue.waiting(at(0));
    assert_eq!(counts, [("instance", 1), ("dependency", 1), ("not-before", 1), ("no-instance", 1)].into());
    assert!(counts.keys().all(|name| Wait::NAMES.contains(name)));
}

#[test]
fn who_has_done_a_task_is_offered_one_on_the_same_files_however_far_behind() {
    let touching = |id: i64, files: &[&str]| on(id, |terms| terms.files = files.iter().map(|text| crate::core::terms::files(text).expect("files")).collect());
    let tasks =
        [touching(1, &["src/auth/**"]), touching(2, &["docs/"]), touching(3, &[]), touching(4, &[]), touching(5, &[]), touching(6, &["src/auth/login.rs"])];
    let mut queue = loaded(tasks, []);
    queue.claim(Some(TaskId(1)), claim("alice"), at(0)).expect("claimed");
    let (next, _) = queue.complete(TaskId(1), None, false, String::new(), at(0)).expect("done");
    assert_eq!(next, Some(TaskId(6)));
}

#[test]
fn free_tasks_come_in_their_order_and_the_rest_is_counted() {
    let tasks = (1..=10_000).map(|id| Task { created: at(10_000 - id), ..task(id, if id % 2 == 0 { "a" } else { "" }) });
    let queue = loaded(tasks, []);
    let (free, all) = queue.free(3, |_| true);
    assert_eq!((free.iter().map(|task| task.id.0).collect::<Vec<_>>(), all), (vec![10_000, 9999, 9998], 10_000));
    let (free, all) = queue.free(3, |task| task.id.0 > 9_998);
    assert_eq!((free.len(), all), (2, 2));
}
