//! An instance that does not come back: what was bound to it by its session alone may go on elsewhere.

use super::{Change, Effect, InstanceName, Queue, Task, TaskId};
use crate::core::task::Target;
use jiff::Timestamp;

impl Queue {
    /// Lets go of the tasks that wait for the instance because they began there. Those that were asked of it still wait.
    pub fn retired(&mut self, instance: &InstanceName, now: Timestamp) -> Vec<Effect> {
        let began = |task: &&Task| task.target == Target::Any && task.home.as_ref() == Some(instance) && task.state.placement().is_none();
        let bound: Vec<TaskId> = self.tasks.values().filter(began).map(|task| task.id).collect();
        let mut effects = Vec::new();
        for id in bound {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            self.ready.remove(task, self.rules.ageing);
            task.home = None;
            // It had too little of that instance's memory.
            task.memory = None;
            self.grown.remove(&id);
            effects.push(Effect::Save(Change::Task(Box::new(task.clone()))));
            let task = task.clone();
            self.place(&task);
        }
        effects.extend(self.dispatch(now));
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::InvocationId;
    use crate::core::pool::Rules;
    use crate::core::queue::{Hello, Stored};

    fn task(id: i64, target: Target, home: &str) -> Task {
        Task { attempts: 1, home: home.parse().ok(), ..Task::waiting(id, target) }
    }

    #[test]
    fn what_began_there_goes_on_elsewhere_and_what_was_asked_of_it_waits() {
        let name = |text: &str| text.parse::<InstanceName>().expect("a name");
        let tasks = [task(1, Target::Any, "gone"), task(2, Target::Instance(name("gone")), "gone"), task(3, Target::Any, "other")];
        let mut queue = Queue::load(Stored { tasks: tasks.into(), ..Stored::default() }, Rules::default());
        let invocation = InvocationId::from_bytes(&[1; 16]).expect("not zero");
        let hello = Hello { instance: name("here"), invocation, account: String::new(), current: None };
        assert_eq!(queue.linked(hello, Timestamp::UNIX_EPOCH), [], "all are bound to others");
        let effects = queue.retired(&name("gone"), Timestamp::UNIX_EPOCH);
        let runs: Vec<_> =
            effects.iter().filter_map(|e| if let Effect::Run { placement, resume } = e { Some((placement.attempt.task, *resume)) } else { None }).collect();
        assert_eq!(runs, [(TaskId(1), false)]);
        let saved = effects.iter().find_map(|e| if let Effect::Save(Change::Task(task)) = e { Some((task.id, task.home.clone())) } else { None });
        assert_eq!(saved, Some((TaskId(1), None)), "on disk before it is given out");
        assert_eq!(queue.retired(&name("gone"), Timestamp::UNIX_EPOCH), [], "nothing is left to do");
        assert_eq!(queue.task(TaskId(2)).and_then(|task| task.home.clone()), Some(name("gone")));
    }
}
