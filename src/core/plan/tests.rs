//! The checks of a plan, and plans played through.

use super::*;
use crate::core::pool::{Member, Rules};
use crate::core::task::{Task, TaskState};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

fn order(review: bool) -> Order {
    Order {
        goal: "A goal".to_owned(),
        team: label("t"),
        boss: "t-boss".parse().expect("a name"),
        review,
        most: 5,
        repository: None,
        budget: None,
        priority: Priority::default(),
    }
}

fn rules() -> Rules {
    let member = |role: &str, specialties: &[&str]| Member {
        team: Some(label("t")),
        role: Some(label(role)),
        specialties: specialties.iter().map(|text| label(text)).collect(),
        ..Member::default()
    };
    let members = [
        ("t-boss", member("boss", &[])),
        ("t-worker-1", member("worker", &["frontend"])),
        ("t-worker-2", member("worker", &[])),
        ("t-dba", member("dba", &["sql"])),
    ];
    let other = Member { team: Some(label("u")), role: Some(label("poet")), ..Member::default() };
    let all = members.into_iter().chain([("u-poet", other)]);
    Rules { members: all.map(|(name, member)| (name.parse().expect("a name"), member)).collect(), ..Rules::default() }
}

fn crew() -> Crew {
    Crew::of(&rules(), &order(false))
}

fn checked(tasks: Value) -> Result<Vec<Item>, Vec<String>> {
    check(&json!({ "tasks": tasks }).to_string(), &crew(), &order(false))
}

#[test]
fn a_plan_is_taken_as_it_is_meant() {
    let items = checked(json!([
        {"id": "b", "title": "B", "description": "do b", "after": ["a", "a"], "role": "dba", "type": "feature"},
        {"id": "a", "title": "A", "description": "do a", "specialty": "frontend", "files": ["src/**", "app/[id]/x.ts"], "unknown": 1},
    ]));
    let items = items.expect("valid");
    assert_eq!((items[0].id.as_str(), items[0].after.as_slice(), items[0].kind.as_str()), ("b", &["a".to_owned()][..], "feature"));
    let demands: Vec<_> = items.iter().map(|item| crew().demand(&order(false), item)).collect();
    assert_eq!((demands[0].role.clone(), demands[1].role.clone(), demands[1].specialty.clone()), (Some(label("dba")), None, Some(label("frontend"))));
    // Who says nothing gets a worker.
    let plain = checked(json!([{"id": "x", "title": "X", "description": "do x"}])).expect("valid");
    assert_eq!(crew().demand(&order(false), &plain[0]).role, Some(label("worker")));
}

#[test]
fn every_problem_is_told() {
    let task = |id: &str, more: Value| {
        let mut task = json!({"id": id, "title": "T", "description": "d"});
        task.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        task
    };
    let problems = checked(json!([
        task("a", json!({"after": ["nobody"], "role": "poet"})),
        task("a", json!({"specialty": "sql", "role": "worker"})),
        task("c", json!({"title": "two\nlines", "type": "Feature", "files": ["../etc/passwd"]})),
        {"title": "no id"},
        "text",
    ]));
    let problems = problems.expect_err("wrong");
    for words in [
        "id: \"a\" is the id of several tasks",
        "task \"a\": after: there is no task \"nobody\"",
        "role: nobody else in the team is poet; the roles are: dba, worker",
        "specialty: no worker has sql; the specialties are: frontend",
        "task \"c\": title: it is one line",
        "task \"c\": type: a task type is",
        "task \"c\": files: \"../etc/passwd\": ",
        "task 4: id: it is missing",
        "task 5: it is not an object",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(words)), "{words}\n{problems:#?}");
    }
    let circle = checked(json!([task("a", json!({"after": ["b"]})), task("b", json!({"after": ["a"]})), task("c", json!({}))])).expect_err("wrong");
    assert_eq!(circle, ["after: these tasks wait for each other: a, b"]);
    let many: Vec<Value> = (0..6).map(|n| task(&n.to_string(), json!({}))).collect();
    assert_eq!(checked(json!(many)).expect_err("wrong"), ["it has 6 tasks; a plan has 1 to 5"]);
    for text in ["", "no JSON", "[]", "{\"tasks\": []}", "{\"tasks\": 1}"] {
        assert!(check(text, &crew(), &order(false)).is_err(), "{text}");
    }
}

#[test]
fn the_schema_names_who_is_there() {
    let schema = schema(&crew(), &order(false));
    let item = &schema["properties"]["tasks"]["items"];
    assert_eq!((&item["properties"]["role"]["enum"], &item["properties"]["specialty"]["enum"]), (&json!(["dba", "worker"]), &json!(["frontend", "sql"])));
    assert_eq!(schema["properties"]["tasks"]["maxItems"], 5);
    let prompt = prompt::plan(PlanId(1), &order(false), &crew());
    assert!(prompt.prompt.contains("- worker: 2, specialties: frontend") && prompt.prompt.contains("A goal"), "{}", prompt.prompt);
    assert_eq!(prompt.terms.group, Some(label("plan-1")));
}

/// The engine, as far as plans see it.
struct World {
    plans: Plans,
    /// As the store has them.
    stored: BTreeMap<PlanId, Plan>,
    last: i64,
    /// Tasks in the queue.
    live: BTreeMap<TaskId, Task>,
    specs: BTreeMap<TaskId, crate::core::task::TaskSpec>,
    next: i64,
    /// How each task ended, and what it said.
    ended: BTreeMap<TaskId, (How, String)>,
    told: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        let (plans, next) = (Plans::default(), 10);
        Self { plans, stored: BTreeMap::new(), last: 0, live: BTreeMap::new(), specs: BTreeMap::new(), next, ended: BTreeMap::new(), told: Vec::new() }
    }

    /// Commits: what is saved together, then the numbers.
    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Save(Change::Put(plan)) => {
                    self.last = self.last.max(plan.id.0);
                    let tasks = self.stored.remove(&plan.id).map(|old| old.tasks).unwrap_or_default();
                    self.stored.insert(plan.id, Plan { tasks, ..*plan });
                }
                Effect::Save(Change::Task(..)) => unreachable!("tasks are saved with their numbers"),
                Effect::Tell { kind, .. } => self.told.push(kind),
                Effect::Cancel(task) => self.end(task, TaskState::Cancelled, ""),
                Effect::Add(plan, additions) => {
                    for (place, addition) in additions.iter().enumerate() {
                        assert!(addition.after.iter().all(|other| *other < additions.len() && *other != place));
                        let id = TaskId(self.next);
                        self.next += 1;
                        self.live.insert(id, Task::fresh(id, &addition.spec, Timestamp::UNIX_EPOCH));
                        self.specs.insert(id, addition.spec.clone());
                        let (change, end) = self.plans.added(plan, addition.part, &addition.item, id);
                        let Change::Task(plan, task, part, item) = change else { panic!("not a task") };
                        self.stored.get_mut(&plan).expect("its row is there").tasks.insert(task, Numbered::new(part, item));
                        if let Some(task) = end {
                            self.end(task, TaskState::Cancelled, "");
                        }
                    }
                }
            }
        }
    }

    fn end(&mut self, id: TaskId, state: TaskState, text: &str) {
        let Some(mut task) = self.live.remove(&id) else { return };
        task.state = state;
        self.plans.heard(id, &"t-x".parse().expect("a name"), Some("a-branch"), text);
        self.plans.stands(&task);
        let how = prompt::how(&task).expect("it has ended");
        self.ended.insert(id, (how, text.to_owned()));
    }

    fn settle(&mut self) {
        let live: BTreeSet<TaskId> = self.live.keys().copied().collect();
        let effects = self.plans.settle(|task| live.contains(&task), |order| Crew::of(&rules(), order), Timestamp::UNIX_EPOCH);
        self.apply(effects);
    }

    /// clauded dies, and is started again: the outcomes are read from the tasks.
    fn restart(&mut self) {
        let mut plans: Vec<Plan> = self.stored.values().filter(|plan| plan.finished.is_none()).cloned().collect();
        for plan in &mut plans {
            for (id, task) in &mut plan.tasks {
                if let Some((how, text)) = self.ended.get(id) {
                    (task.how, task.text) = (Some(*how), text.clone());
                }
            }
        }
        self.plans = Plans::load(self.last, plans);
    }

    fn begin(&mut self, review: bool) -> PlanId {
        let (id, effects) = self.plans.begin(order(review), "a test".to_owned(), &crew(), Timestamp::UNIX_EPOCH);
        self.apply(effects);
        id
    }

    fn plan(&self, id: PlanId) -> &Plan {
        &self.stored[&id]
    }

    fn task(&self, id: PlanId, part: Part, item: &str) -> TaskId {
        *self.plan(id).tasks.iter().find(|(_, task)| task.part == part && task.item == item).expect("it is there").0
    }

    fn ends(&mut self, id: TaskId, state: TaskState, text: &str) {
        self.end(id, state, text);
        self.settle();
    }
}

const TWO: &str = r#"{"tasks": [{"id": "a", "title": "A", "description": "do a"}, {"id": "b", "title": "B", "description": "do b", "after": ["a"]}]}"#;

#[test]
fn a_plan_goes_its_way() {
    let mut world = World::new();
    let id = world.begin(false);
    world.settle();
    assert_eq!(world.plan(id).state, State::Planning);
    let planning = world.task(id, Part::Plan, "");
    assert!(world.specs[&planning].schema.is_some());
    world.ends(planning, TaskState::Succeeded, TWO);
    assert_eq!((world.plan(id).state, world.live.len()), (State::Running, 2));
    let (a, b) = (world.task(id, Part::Item, "a"), world.task(id, Part::Item, "b"));
    assert!(world.specs[&b].prompt.contains("- a: A") && world.specs[&b].prompt.contains("Yours comes after a."), "{}", world.specs[&b].prompt);
    world.ends(a, TaskState::Succeeded, "a is done");
    world.restart();
    world.ends(b, TaskState::Failed(Reason::Oom), "half of b");
    assert_eq!(world.plan(id).state, State::Closing);
    let last = world.task(id, Part::FollowUp, "");
    let told = &world.specs[&last].prompt;
    assert!(told.contains("a is done") && told.contains("failed (oom), by t-x, on the branch a-branch") && told.contains("half of b"), "{told}");
    assert_eq!(world.plans.continues(last), Some(planning));
    world.ends(last, TaskState::Succeeded, "all is said");
    assert_eq!((world.plan(id).state, world.plans.is_empty()), (State::Done, true));
    assert!(world.plan(id).detail.starts_with("1 of 2 tasks have succeeded"), "{}", world.plan(id).detail);
    assert_eq!(world.told, ["plan-added", "plan-running", "plan-closing", "plan-done"]);
}

#[test]
fn a_bad_plan_goes_back_once() {
    let mut world = World::new();
    let id = world.begin(false);
    let first = world.task(id, Part::Plan, "");
    world.ends(first, TaskState::Succeeded, &TWO.replace("\"after\": [\"a\"]", "\"after\": [\"z\"]"));
    let second = world.task(id, Part::Revision, "");
    assert!(world.specs[&second].prompt.contains("- task \"b\": after: there is no task \"z\""), "{}", world.specs[&second].prompt);
    assert_eq!(world.plans.continues(second), Some(first));
    world.ends(second, TaskState::Succeeded, "{}");
    assert_eq!((world.plan(id).state, world.live.len()), (State::Failed, 0));
    assert!(world.plan(id).detail.contains("twice: it has no list"), "{}", world.plan(id).detail);
}

#[test]
fn a_person_approves_or_rejects() {
    let mut world = World::new();
    for approve in [true, false] {
        let id = world.begin(true);
        assert_eq!(world.plans.approve(id, "me", |_| crew()), Err(NotNow::NotWaiting(id, "planning")));
        world.ends(world.task(id, Part::Plan, ""), TaskState::Succeeded, TWO);
        assert_eq!((world.plan(id).state, world.live.len()), (State::Waiting, 0));
        world.restart();
        world.settle();
        if approve {
            let unfit = world.plans.approve(id, "me", |_| Crew::default()).expect_err("nobody is left");
            assert!(matches!(unfit, NotNow::Unfit(..)), "{unfit:?}");
            let effects = world.plans.approve(id, "me", |_| crew()).expect("it waits");
            world.apply(effects);
            world.settle();
            assert_eq!((world.plan(id).state, world.live.len()), (State::Running, 2));
            let live: BTreeSet<TaskId> = world.live.keys().copied().collect();
            let effects = world.plans.cancel(id, "me", |task| live.contains(&task), Timestamp::UNIX_EPOCH).expect("it runs");
            world.apply(effects);
            assert_eq!((world.plan(id).state, world.live.len()), (State::Cancelled, 0));
        } else {
            let effects = world.plans.reject(id, "me", "too coarse", Timestamp::UNIX_EPOCH).expect("it waits");
            world.apply(effects);
            assert_eq!((world.plan(id).state, world.plan(id).detail.as_str(), world.live.len()), (State::Rejected, "rejected by me: too coarse", 0));
        }
        assert_eq!(world.plans.approve(id, "me", |_| crew()), Err(NotNow::Over(id)));
    }
}

#[test]
fn a_plan_that_is_ended_before_its_tasks_have_numbers_leaves_none() {
    let mut world = World::new();
    let (id, begun) = world.plans.begin(order(false), "a test".to_owned(), &crew(), Timestamp::UNIX_EPOCH);
    let cancelled = world.plans.cancel(id, "me", |_| false, Timestamp::UNIX_EPOCH).expect("it is there");
    // The rows come before the numbers.
    let (adds, rest): (Vec<Effect>, Vec<Effect>) = begun.into_iter().chain(cancelled).partition(|effect| matches!(effect, Effect::Add(..)));
    world.apply(rest);
    world.apply(adds);
    assert_eq!((world.plan(id).state, world.live.len()), (State::Cancelled, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Begin(bool),
    /// One of the tasks that live ends so.
    End(prop::sample::Index, u8),
    Approve(prop::sample::Index),
    Reject(prop::sample::Index),
    Cancel(prop::sample::Index),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        2 => prop::bool::ANY.prop_map(Step::Begin),
        8 => (any(), 0u8..5).prop_map(|(which, how)| Step::End(which, how)),
        2 => any().prop_map(Step::Approve),
        1 => any().prop_map(Step::Reject),
        1 => any().prop_map(Step::Cancel),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_plans_end_and_leave_no_tasks(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        let pick = |world: &World, which: prop::sample::Index| {
            let ids: Vec<PlanId> = world.stored.keys().copied().collect();
            (!ids.is_empty()).then(|| *which.get(&ids))
        };
        for step in steps {
            match step {
                Step::Begin(review) => drop(world.begin(review)),
                Step::End(which, how) => {
                    let live: Vec<TaskId> = world.live.keys().copied().collect();
                    if !live.is_empty() {
                        let (state, text) = match how {
                            0 | 1 => (TaskState::Succeeded, TWO),
                            2 => (TaskState::Succeeded, "nonsense"),
                            3 => (TaskState::Failed(Reason::Timeout), ""),
                            _ => (TaskState::Cancelled, ""),
                        };
                        world.end(*which.get(&live), state, text);
                    }
                }
                Step::Approve(which) => if let Some(Ok(effects)) = pick(&world, which).map(|id| world.plans.approve(id, "me", |_| crew())) {
                    world.apply(effects);
                },
                Step::Reject(which) => if let Some(Ok(effects)) = pick(&world, which).map(|id| world.plans.reject(id, "me", "", Timestamp::UNIX_EPOCH)) {
                    world.apply(effects);
                },
                Step::Cancel(which) => {
                    let live: BTreeSet<TaskId> = world.live.keys().copied().collect();
                    if let Some(Ok(effects)) = pick(&world, which).map(|id| world.plans.cancel(id, "me", |task| live.contains(&task), Timestamp::UNIX_EPOCH)) {
                        world.apply(effects);
                    }
                }
                Step::Restart => world.restart(),
            }
            world.settle();
            for plan in world.stored.values() {
                let count = |part: Part| plan.tasks.values().filter(|task| task.part == part).count();
                let live = plan.tasks.keys().filter(|id| world.live.contains_key(id)).count();
                // A plan goes back once, is carried out once, and is reported once.
                prop_assert!(count(Part::Plan) <= 1 && count(Part::Revision) <= 1 && count(Part::FollowUp) <= 1);
                prop_assert!(count(Part::Item) == 0 || count(Part::Item) == plan.items.len());
                prop_assert_eq!(plan.finished.is_some(), plan.state.is_over());
                // What moves has something that moves it; what is over or waits has nothing.
                match plan.state {
                    State::Planning | State::Running | State::Closing => prop_assert!(live > 0, "{:?}", plan),
                    State::Waiting | State::Done | State::Failed | State::Rejected | State::Cancelled => prop_assert_eq!(live, 0, "{:?}", plan),
                }
                if count(Part::Item) > 0 {
                    prop_assert!(!plan.items.is_empty() && plan.state != State::Planning && plan.state != State::Waiting && plan.state != State::Rejected);
                }
            }
        }
    }
}
