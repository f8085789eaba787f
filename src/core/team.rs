//! A team: its members' names and what they are good at, who of them gets a task, and who is one too many.

use super::ids::{InstanceName, InvalidName};
use super::usage::Usd;
use std::fmt;
use std::str::FromStr;

/// A team's name obeys the rule of instance names: its slice contains those of its members, `claude-code-TEAM-ROLE.slice`.
pub type TeamName = InstanceName;

/// Most members of one role.
pub const REPLICAS_MAX: u32 = 100;

/// Which of the free members that fit gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one that has had none for longest.
    #[default]
    RoundRobin,
    /// The one with the fewest specialties beside those that the task asks for.
    Specialty,
    /// The one whose slice has the least pressure and the most headroom.
    LeastLoaded,
}

impl Policy {
    /// All of them, by the names of the configuration.
    pub const ALL: [(&'static str, Self); 3] = [("round-robin", Self::RoundRobin), ("specialty", Self::Specialty), ("least-loaded", Self::LeastLoaded)];

    /// The name of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Specialty => "specialty",
            Self::LeastLoaded => "least-loaded",
        }
    }
}

/// What may be spent before work stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// From one midnight of the host to the next.
    pub day: Option<Usd>,
    /// In all.
    pub total: Option<Usd>,
}

impl Budget {
    /// These bounds, and `other`'s where nothing is said.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { day: self.day.or(other.day), total: self.total.or(other.total) }
    }
}

/// What members of one role do: one word, so that `TEAM-ROLE` can be taken apart again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(String);

/// Why a text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; a role is 1 to 32 letters, digits, '_' and '.', without a dash and not beginning with '.'")]
pub struct InvalidRole(String);

impl Role {
    /// The role as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let plain = text.len() <= 32 && !text.contains('-') && text.parse::<InstanceName>().is_ok();
        plain.then(|| Self(text.to_owned())).ok_or_else(|| InvalidRole(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which member of a team an instance is, and which tasks it is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The team.
    pub team: TeamName,
    /// What it does there.
    pub role: Role,
    /// Its number among those of its role, from 1; `None` for a role that one member fills.
    pub number: Option<u32>,
    /// Whether it works in the worktree that the team shares.
    pub shared: bool,
    /// What it is good at.
    pub specialties: Vec<String>,
    /// Words that tasks may ask for.
    pub labels: Vec<String>,
    /// Most tasks that all members of its role work on at a time.
    pub max_concurrent_tasks: Option<u32>,
}

/// The name of a member: `TEAM-ROLE`, or `TEAM-ROLE-N` of a role with replicas, however many these are. So nobody is renamed
/// when the number changes, and no member's slice lies in another's.
///
/// # Errors
/// It is too long.
pub fn member_name(team: &TeamName, role: &Role, number: Option<u32>) -> Result<InstanceName, InvalidName> {
    match number {
        Some(number) => format!("{team}-{role}-{number}").parse(),
        None => format!("{team}-{role}").parse(),
    }
}

/// The slice of all members of a role together, `claude-code-TEAM-ROLE.slice`.
pub fn role_slice(team: &TeamName, role: &Role) -> String {
    format!("{}-{role}.slice", team.slice().trim_end_matches(".slice"))
}

/// The role and the number that a name has in a team, if its shape is that of a member: `ROLE` or `ROLE-N`.
pub fn place_in(team: &TeamName, name: &InstanceName) -> Option<(Role, Option<u32>)> {
    let rest = name.as_str().strip_prefix(team.as_str())?.strip_prefix('-')?;
    match rest.split_once('-') {
        None => Some((rest.parse().ok()?, None)),
        Some((role, number)) => {
            let parsed: u32 = number.parse().ok()?;
            // "+1" and "01" are numbers too, but no member's.
            (parsed > 0 && parsed.to_string() == number).then_some(())?;
            Some((role.parse().ok()?, Some(parsed)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> InstanceName {
        text.parse().expect("a name")
    }

    fn role(text: &str) -> Role {
        text.parse().expect("a role")
    }

    #[test]
    fn members_are_named_by_team_role_and_number() {
        let team = name("feature-a");
        assert_eq!(member_name(&team, &role("boss"), None), Ok(name("feature-a-boss")));
        assert_eq!(member_name(&team, &role("worker"), Some(2)), Ok(name("feature-a-worker-2")));
        assert_eq!(role_slice(&team, &role("worker")), "claude-code-feature-a-worker.slice");
        assert!(member_name(&name(&"x".repeat(60)), &role("worker"), None).is_err());
    }

    #[test]
    fn roles_are_one_word() {
        for bad in ["", "front-end", ".x", "a b", "a/b", "-", &"x".repeat(33), "ü"] {
            assert!(bad.parse::<Role>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_only_looks_like_a_member_is_none() {
        let place = |text: &str| place_in(&name("t"), &name(text));
        assert_eq!(place("t-worker-3"), Some((role("worker"), Some(3))));
        assert_eq!(place("t-boss"), Some((role("boss"), None)));
        for other in ["t", "u-worker-3", "tt-worker", "t-worker-0", "t-worker-03", "t-worker-x", "t-worker-1-2", "t-worker-99999999999"] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_member_is_found_again_by_its_name(team in "[a-z]{1,8}(-[a-z0-9]{1,4}){0,2}", of in "[a-z_.0-9]{0,5}[a-z]", number in prop::option::of(1..=REPLICAS_MAX)) {
            let Ok(of) = of.parse::<Role>() else { return Ok(()) };
            let team = name(&team);
            let member = member_name(&team, &of, number).expect("short");
            prop_assert_eq!(place_in(&team, &member), Some((of, number)));
            prop_assert!(team.contains(&member));
        }
    }
}
