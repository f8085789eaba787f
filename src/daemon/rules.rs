//! What the configuration says to the queue.

use crate::config::{Config, InstanceConfig};
use crate::core::label::Label;
use crate::core::pool::{Budget, Member, Rules, Team};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// The rules of a configuration. Days begin at midnight of the host's time zone.
pub(super) fn of(config: &Config) -> Rules {
    let labelled = |name: &str, most: Option<u32>| Some((name.parse::<Label>().ok()?, most?));
    Rules {
        ageing: config.queue.ageing,
        size_classes: config.queue.size_classes.clone(),
        members: config.instances.iter().map(|(name, instance)| (name.clone(), member(config, instance))).collect(),
        stranger: Member { budget: Budget { total: None, day: config.defaults.budget_per_day }, ..Member::default() },
        teams: config
            .teams
            .iter()
            .filter_map(|(name, team)| {
                Some((name.as_str().parse().ok()?, Team { policy: team.policy, max_concurrent: team.max_concurrent_tasks, budget: team.budget }))
            })
            .collect(),
        groups: config.queue.groups.iter().map(|(name, group)| (name.clone(), group.max_concurrent_tasks)).collect(),
        repositories: config.repositories.iter().filter_map(|(name, repository)| labelled(name, repository.max_concurrent_tasks)).collect(),
        budget_per_day: config.fleet.budget_per_day,
        zone: TimeZone::system(),
    }
}

fn member(config: &Config, instance: &InstanceConfig) -> Member {
    let of_team = instance.member.as_ref();
    // The words of the teams are all labels.
    let both = |own: &BTreeSet<Label>, team: Option<&Vec<String>>| {
        own.iter().cloned().chain(team.into_iter().flatten().filter_map(|word| word.parse().ok())).collect()
    };
    Member {
        team: of_team.and_then(|member| member.team.as_str().parse().ok()),
        role: of_team.and_then(|member| member.role.as_str().parse().ok()),
        specialties: both(&instance.specialties, of_team.map(|member| &member.specialties)),
        labels: both(&instance.labels, of_team.map(|member| &member.labels)),
        repository: instance.repository.as_ref().and_then(|name| name.parse().ok()),
        max_concurrent: of_team.and_then(|member| member.max_concurrent_tasks),
        budget: Budget { total: instance.budget.total, day: instance.budget.day.or(config.defaults.budget_per_day) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Paths;
    use crate::core::pool::Policy;
    use crate::core::usage::Usd;

    #[test]
    fn what_is_configured_reaches_the_queue() {
        let text = "[queue]\nageing = \"1h\"\nsize-classes = [\"2G\", \"4G\"]\n[queue.groups.release]\nmax-concurrent-tasks = 2\n[repositories.shop]\npath = \"/srv/shop\"\nmax-concurrent-tasks = 3\n\
                    [fleet]\nbudget-per-day = 50\n[defaults]\nbudget-per-day = 10.5\n\
                    [instances.a]\nrepository = \"shop\"\nspecialties = [\"frontend\"]\nlabels = [\"gpu\"]\nbudget = { total = 100, day = 2.5 }\n[instances.b]\n\
                    [teams.t]\nmax-concurrent-tasks = 3\npolicy = \"least-loaded\"\nbudget = { total = 30, day = 20 }\n[teams.t.members.dev]\nmax-concurrent-tasks = 2\nspecialties = [\"testing\"]\n";
        let config = Config::from_texts(&[("c.toml".into(), text.to_owned())], &Paths::system()).unwrap_or_else(|problems| panic!("{problems}"));
        let rules = of(&config);
        let label = |text: &str| text.parse::<Label>().expect("a label");
        let name = |text: &str| text.parse().expect("a name");
        assert_eq!(rules.ageing.as_secs(), 3600);
        assert_eq!(rules.size_classes, [2 << 30, 4 << 30]);
        assert_eq!(
            rules.teams[&label("t")],
            Team { policy: Policy::LeastLoaded, max_concurrent: Some(3), budget: Budget { total: Some(Usd(30_000_000)), day: Some(Usd(20_000_000)) } }
        );
        let dev = rules.member(&name("t-dev"));
        assert_eq!((dev.max_concurrent, &dev.team, &dev.role), (Some(2), &Some(label("t")), &Some(label("dev"))));
        assert_eq!(dev.specialties, [label("testing")].into());
        assert_eq!(rules.groups, [(label("release"), 2)].into());
        assert_eq!(rules.repositories, [(label("shop"), 3)].into());
        assert_eq!(rules.budget_per_day, Some(Usd(50_000_000)));
        let a = rules.member(&name("a"));
        assert_eq!(a.repository, Some(label("shop")));
        assert_eq!((a.specialties.clone(), a.labels.clone()), ([label("frontend")].into(), [label("gpu")].into()));
        assert_eq!(a.budget, Budget { total: Some(Usd(100_000_000)), day: Some(Usd(2_500_000)) });
        for other in ["b", "stranger"] {
            assert_eq!(rules.member(&name(other)).budget, Budget { total: None, day: Some(Usd(10_500_000)) }, "{other}");
        }
    }
}
