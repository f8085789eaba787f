//! `claudectl team`: several agents under one name.

pub(super) mod args;

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::quantity::{age, bytes, clean, dollars, line};
use crate::core::team::TeamName;
use crate::proto::api::{MemberOutcome, Team, TeamDown, TeamOutcome, TeamScale, TeamUp};
use args::{Scale, TeamCommand, Up};
use hyper::Method;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// How often the moving line looks how far the members are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `claudectl team …`
pub(super) async fn run(client: &Client, screen: &Screen, command: TeamCommand) -> Result<Outcome, Failure> {
    match command {
        TeamCommand::Up(up) => act(client, screen, &up.name.clone(), "up", &wanted(up)).await,
        TeamCommand::Down(down) => act(client, screen, &down.name, "down", &TeamDown { remove: down.remove }).await,
        TeamCommand::Scale(Scale { name, replicas, now }) => {
            let replicas = replicas.into_iter().map(|(role, count)| (role.to_string(), count)).collect();
            act(client, screen, &name, "scale", &TeamScale { replicas, now }).await
        }
        TeamCommand::Status { name: Some(name) } => {
            let body = client.get(&format!("/api/v1/teams/{name}")).await?;
            show(screen, &body, |screen| screen.print(&one(screen.style(), &decode(&body)?, &[], Timestamp::now())))
        }
        TeamCommand::Status { name: None } => {
            let body = client.get("/api/v1/teams").await?;
            show(screen, &body, |screen| {
                let teams: Vec<Team> = decode(&body)?;
                let texts: Vec<_> = teams.iter().map(|team| one(screen.style(), team, &[], Timestamp::now())).collect();
                screen.print(&if texts.is_empty() { none() } else { texts.join("\n") })
            })
        }
        TeamCommand::List => {
            let body = client.get("/api/v1/teams").await?;
            show(screen, &body, |screen| screen.print(&all(screen.style(), &decode::<Vec<Team>>(&body)?)))
        }
    }
}

fn wanted(up: Up) -> TeamUp {
    let worker = up.worker.map(|count| ("worker".to_owned(), count));
    let replicas = up.replicas.into_iter().map(|(role, count)| (role.to_string(), count)).chain(worker).collect();
    TeamUp { template: up.template, repository: up.repository, replicas }
}

fn show(screen: &Screen, body: &[u8], table: impl FnOnce(&Screen) -> Result<(), Failure>) -> Result<Outcome, Failure> {
    if screen.data() {
        screen.body(body)?
    } else {
        table(screen)?
    }
    Ok(Outcome::Done)
}

/// Asks for a verb, shows how far it is while it runs, then what came of it.
async fn act(client: &Client, screen: &Screen, name: &TeamName, verb: &str, body: &(impl Serialize + Sync)) -> Result<Outcome, Failure> {
    let progress = screen.progress();
    progress.say(&format!("{verb}: {name}"));
    let path = format!("/api/v1/teams/{name}/{verb}");
    let asked = client.send(Method::POST, &path, body);
    tokio::pin!(asked);
    let answer = loop {
        tokio::select! {
            answer = &mut asked => break answer?,
            () = tokio::time::sleep(LOOK_EVERY), if progress.visible() => {
                // It may not be there yet.
                if let Ok(team) = client.read::<Team>(&format!("/api/v1/teams/{name}")).await {
                    let active = team.members.iter().filter(|member| member.instance.active == "active").count();
                    progress.say(&format!("{verb}: {name}, {active} of {} members run", team.members.len()));
                }
            }
        }
    };
    drop(progress);
    let outcome: TeamOutcome = decode(&answer)?;
    if screen.data() {
        screen.body(&answer)?;
    } else {
        // A team that was removed has nothing to show but what came of its members.
        match client.read::<Team>(&format!("/api/v1/teams/{name}")).await {
            Ok(team) => screen.print(&one(screen.style(), &team, &outcome.members, Timestamp::now()))?,
            Err(_) => screen.print(&results(screen.style(), &outcome.members))?,
        }
        outcome.notes.iter().for_each(|note| screen.note(note));
        let failed: Vec<_> = outcome.members.iter().filter(|member| member.result == "failed").collect();
        failed.iter().for_each(|member| screen.note(&format!("{}: {}", member.name, member.message)));
    }
    let failed = outcome.members.iter().any(|member| member.result == "failed");
    Ok(if failed { Outcome::Negative } else { Outcome::Done })
}

fn none() -> String {
    "No teams yet. Bring one up with: claudectl team up NAME\n".to_owned()
}

fn all(style: Style, teams: &[Team]) -> String {
    if teams.is_empty() {
        return none();
    }
    let row = |team: &Team| {
        let active = team.members.iter().filter(|member| member.instance.active == "active").count();
        let busy = team.members.iter().filter(|member| member.instance.task.is_some()).count();
        vec![
            clean(&team.name),
            format!("{active}/{}", team.members.len()),
            busy.to_string(),
            memory(team.memory_bytes, team.memory_limit_bytes),
            dollars(team.cost_today_usd),
            clean(team.template.as_deref().unwrap_or("-")),
            clean(team.repository.as_deref().unwrap_or("-")),
        ]
    };
    style.table(&["TEAM", "ACTIVE", "BUSY", "MEMORY", "TODAY", "TEMPLATE", "REPOSITORY"], teams.iter().map(row).collect())
}

/// A line on the team, then a row a member; with what a verb did to each, if one was asked for.
fn one(style: Style, team: &Team, outcomes: &[MemberOutcome], now: Timestamp) -> String {
    let budget = team.budget_day_usd.map(|day| format!(" of {}", dollars(day))).unwrap_or_default();
    let made = team.template.as_deref().map(|template| format!(" ({})", clean(template))).unwrap_or_default();
    let memory_of_team = memory(team.memory_bytes, team.memory_limit_bytes);
    let mut text =
        format!("{}{made}: memory {memory_of_team}, today {}{budget}, policy {}\n", clean(&team.name), dollars(team.cost_today_usd), clean(&team.policy));
    let did = |name: &str| outcomes.iter().find(|outcome| outcome.name == name);
    let rows = team.members.iter().map(|member| {
        let i = &member.instance;
        let did = did(&i.name);
        let doing = match did.filter(|did| !did.message.is_empty()) {
            Some(did) => did.message.clone(),
            None if member.surplus => format!("one too many, ends first: {}", i.status),
            None => i.status.clone(),
        };
        let mut row = vec![
            clean(&i.name),
            style.state(&i.active),
            i.since.as_deref().map_or_else(|| "-".to_owned(), |since| age(since, now).replace(" ago", "")),
            i.task.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            memory(i.memory_bytes, i.memory_limit_bytes),
            line(&doing, 80),
        ];
        if !outcomes.is_empty() {
            row.insert(1, did.map_or_else(|| "-".to_owned(), |did| clean(&did.result)));
        }
        row
    });
    let header = if outcomes.is_empty() {
        &["MEMBER", "STATE", "SINCE", "TASK", "MEMORY", "DOING"][..]
    } else {
        &["MEMBER", "RESULT", "STATE", "SINCE", "TASK", "MEMORY", "DOING"][..]
    };
    text.push_str(&style.table(header, rows.collect()));
    text
}

fn results(style: Style, outcomes: &[MemberOutcome]) -> String {
    style.table(&["MEMBER", "RESULT"], outcomes.iter().map(|outcome| vec![clean(&outcome.name), clean(&outcome.result)]).collect())
}

fn memory(now: Option<u64>, limit: Option<u64>) -> String {
    match (now, limit) {
        (Some(now), Some(limit)) => format!("{}/{}", bytes(now), bytes(limit)),
        (Some(now), None) => bytes(now),
        (None, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::api::{Instance, TeamMember};

    fn team() -> Team {
        let member = |name: &str, active: &str, surplus| TeamMember {
            instance: Instance { name: name.into(), active: active.into(), status: "idle".into(), ..Default::default() },
            surplus,
            ..Default::default()
        };
        Team {
            name: "t".into(),
            template: Some("classic".into()),
            policy: "round-robin".into(),
            memory_bytes: Some(1 << 30),
            memory_limit_bytes: Some(2 << 30),
            cost_today_usd: 1.5,
            budget_day_usd: Some(10.0),
            members: vec![member("t-boss", "active", false), member("t-worker-2", "active", true)],
            ..Default::default()
        }
    }

    #[test]
    fn a_team_is_one_line_and_a_row_for_each_member() {
        let shown = one(Style::default(), &team(), &[], Timestamp::UNIX_EPOCH);
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some("t (classic): memory 1G/2G, today $1.50 of $10.00, policy round-robin"));
        assert!(lines.next().is_some_and(|line| line.starts_with("MEMBER      STATE")), "{shown}");
        assert!(shown.contains("one too many, ends first: idle"), "{shown}");
        let outcomes = [MemberOutcome { name: "t-boss".into(), result: "failed".into(), message: "no such directory".into() }];
        let shown = one(Style::default(), &team(), &outcomes, Timestamp::UNIX_EPOCH);
        assert!(shown.lines().nth(2).is_some_and(|line| line.starts_with("t-boss      failed") && line.ends_with("no such directory")), "{shown}");
        assert!(all(Style::default(), &[team()]).lines().nth(1).is_some_and(|line| line.starts_with("t     2/2     0     1G/2G   $1.50  classic   -")));
    }
}
