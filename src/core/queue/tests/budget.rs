//! Budgets of an instance, a team and the fleet: what they end, and what they hold.

use super::order::{NONE, done, label, link, ruled, wait};
use super::rules::{attempt, ends, report, runs, saved, task};
use super::{at, name};
use crate::core::attempt::Ended;
use crate::core::pool::{Budget, Member, Rules, Team};
use crate::core::queue::{Change, Effect, Queue};
use crate::core::task::TaskState;
use crate::core::usage::Usd;

fn budgeted(budget: Budget, all: Option<u64>) -> Queue {
    let members = [(name("a"), Member { budget, ..Member::default() })];
    ruled((1..=3).map(|id| task(id, "")).collect(), Rules { members: members.into(), budget_per_day: all.map(Usd), ..Rules::default() })
}

#[test]
fn a_budget_of_the_day_ends_what_runs_and_holds_the_rest_until_midnight() {
    let day = Budget { total: None, day: Some(Usd(100)) };
    let mut queue = budgeted(day, None);
    link(&mut queue, "a");
    assert_eq!(queue.costs(&name("a"), attempt(1, 1), Usd(99), at(10)), []);
    let effects = queue.costs(&name("a"), attempt(1, 1), Usd(100), at(10));
    assert_eq!(ends(&effects), [attempt(1, 1)]);
    assert_eq!(queue.costs(&name("a"), attempt(1, 1), Usd(101), at(10)), [], "it is told once");
    // The runner calls it cancelled; nobody cancelled it.
    let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Cancelled, 101), at(20));
    assert_eq!((saved(&effects, 1), runs(&effects).len()), (Some(TaskState::Pending { not_before: None }), 0));
    let spend = effects.iter().find_map(|effect| if let Effect::Save(Change::Spend(day, _, cost)) = effect { Some((day.to_string(), *cost)) } else { None });
    assert_eq!(spend, Some(("1970-01-01".to_owned(), Usd(101))));
    assert!(wait(&queue, 1).starts_with("waits: the budget of today of a ($0.0001) is used up"), "{}", wait(&queue, 1));
    let midnight = at(86_400);
    assert_eq!((queue.next_wake(at(20)), runs(&queue.tick(at(86_399))).len()), (Some(midnight), 0));
    assert_eq!(runs(&queue.tick(midnight)), ["1.2@a"]);
}

#[test]
fn a_budget_for_good_or_of_the_fleet_holds_until_it_is_raised() {
    for (budget, all) in [(Budget { total: Some(Usd(50)), day: None }, None), (Budget::default(), Some(50))] {
        let mut queue = budgeted(budget, all);
        link(&mut queue, "a");
        let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Succeeded, 50), at(0));
        assert_eq!(runs(&effects), NONE, "{budget:?} {all:?}");
        assert_eq!(runs(&queue.configure(Rules::default(), at(0))), ["2.1@a"], "a person has raised it");
    }
}

#[test]
fn the_budget_of_a_team_is_for_its_members_together_and_for_nobody_else() {
    for (budget, of) in
        [(Budget { total: None, day: Some(Usd(100)) }, "the budget of today of team t"), (Budget { total: Some(Usd(100)), day: None }, "the budget of team t")]
    {
        let team = |label: Option<crate::core::label::Label>| Member { team: label, ..Member::default() };
        let members = [("a", Some(label("t"))), ("b", Some(label("t"))), ("c", None)].map(|(instance, of)| (name(instance), team(of)));
        let teams = [(label("t"), Team { budget, ..Team::default() })];
        let tasks = [task(1, "a"), task(2, "b"), task(3, "c"), task(4, "a"), task(5, "c")];
        let mut queue = ruled(tasks.into(), Rules { members: members.into(), teams: teams.into(), ..Rules::default() });
        assert_eq!(["a", "b", "c"].map(|instance| link(&mut queue, instance).len()), [1, 1, 1]);
        assert_eq!(queue.costs(&name("c"), attempt(3, 1), Usd(500), at(1)), [], "not of the team");
        assert_eq!(queue.costs(&name("a"), attempt(1, 1), Usd(60), at(1)), []);
        assert_eq!(queue.allowance(&name("b"), at(1)), Some(Usd(40)));
        assert_eq!(ends(&queue.costs(&name("b"), attempt(2, 1), Usd(60), at(2))), [attempt(1, 1), attempt(2, 1)]);
        let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Cancelled, 60), at(3));
        assert_eq!(runs(&effects), NONE);
        assert!(wait(&queue, 4).contains(of), "{}", wait(&queue, 4));
        assert_eq!(runs(&done(&mut queue, "c", 3, Ended::Succeeded)), ["5.1@c"]);
    }
}
