//! Where and how an attempt works in its instance's repository, from the configuration and the task.

use crate::config::Config;
use crate::core::checkout::{Author, Checkout};
use crate::core::ids::{InstanceId, InstanceName, TaskId};
use crate::core::refname::Naming;
use crate::core::task::TaskType;
use crate::platform::machine;

/// The stable ID of an instance on this machine.
pub(super) fn id(name: &InstanceName) -> InstanceId {
    InstanceId::of(&machine::id(), name)
}

/// The checkout of a task on an instance; `None` if the instance has no repository.
pub(super) fn of(config: &Config, instance: &InstanceName, task: TaskId, kind: &TaskType, title: &str) -> Option<Checkout> {
    let said = config.instance(instance);
    let name = said.repository?;
    let repository = config.repositories.get(&name)?;
    let id = id(instance);
    let shared = said.member.filter(|member| member.shared);
    let branch = match &shared {
        // One for the worktree, whatever is done in it.
        Some(member) => {
            let (team, id) = (member.team.as_str(), self::id(&member.team));
            repository.branch.name(Naming { id: id.as_str(), instance: team, kind: "team", title: team, task: 0 })
        }
        None => repository.branch.name(Naming { id: id.as_str(), instance: instance.as_str(), kind: kind.as_str(), title, task: task.0 }),
    };
    Some(Checkout {
        origin: repository.origin(&name),
        branch,
        shared: shared.is_some(),
        id,
        kind: kind.clone(),
        author: Author {
            name: repository.author_name.clone().unwrap_or_else(|| format!("Claude Code ({instance})")),
            // A domain that nobody can have (RFC 2606).
            email: repository.author_email.clone().unwrap_or_else(|| format!("{instance}@claude-code.invalid")),
        },
        locks: Some(repository.lock_policy),
        verify: repository.verify.clone(),
        verify_attempts: config.profiles.get(&said.profile).map_or(0, |profile| profile.verify_attempts),
        push: repository.push.clone(),
        caches: repository.caches.clone(),
        caches_directory: repository.caches_directory(&name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Paths;

    #[test]
    fn a_task_has_its_branch_and_its_author() {
        let text = "[repositories.shop]\nurl = \"git@example.org:shop.git\"\nworktree-root = \"/srv/w\"\nauthor-email = \"bot@example.org\"\n\
                    caches = [\"npm\"]\n[instances.a]\nrepository = \"shop\"\n[instances.b]\n";
        let config = Config::from_texts(&[("a.toml".into(), text.to_owned())], &Paths::system()).expect("valid");
        let name: InstanceName = "a".parse().expect("a name");
        let kind: TaskType = "bugfix".parse().expect("a kind");
        let checkout = of(&config, &name, TaskId(3), &kind, "Cart is empty").expect("it has a repository");
        assert_eq!(checkout.branch, format!("claude-{}/fix/cart-is-empty", id(&name)));
        assert_eq!((checkout.author.name.as_str(), checkout.author.email.as_str()), ("Claude Code (a)", "bot@example.org"));
        assert_eq!(checkout.origin.store, std::path::Path::new("/srv/w/.repositories/shop.git"));
        assert_eq!((config.instance(&name).directory, checkout.verify_attempts), ("/srv/w/a".into(), 2));
        assert!(!checkout.shared);
        assert_eq!(of(&config, &"b".parse().expect("a name"), TaskId(3), &kind, "x"), None);
    }

    #[test]
    fn members_that_share_a_worktree_share_its_branch() {
        let text = "[repositories.shop]\nurl = \"git@example.org:shop.git\"\n[teams.feature-a]\ntemplate = \"classic\"\nrepository = \"shop\"\n";
        let config = Config::from_texts(&[("a.toml".into(), text.to_owned())], &Paths::system()).expect("valid");
        let checkout = |member: &str, title: &str| of(&config, &member.parse().expect("a name"), TaskId(1), &TaskType::default(), title).expect("it has one");
        let (boss, worker) = (checkout("feature-a-boss", "Plan it"), checkout("feature-a-worker-2", "Do it"));
        let team = id(&"feature-a".parse().expect("a name"));
        assert_eq!((boss.branch.as_str(), boss.shared), (format!("claude-{team}/team/feature-a").as_str(), true));
        assert_eq!(boss.branch, worker.branch);
        assert_ne!(boss.id, worker.id);
    }
}
