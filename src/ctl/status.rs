//! `claudectl status`: all instances in a table, or one with its caps, its task and its restarts.

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::quantity::{age, bytes, clean, dollars, line, span};
use crate::core::ids::InstanceName;
use crate::proto::api::{Cap, Health, Instance, InstanceDetail, Task};
use jiff::Timestamp;

/// Restarts and exits shown for one instance.
const HISTORY: usize = 10;

/// `claudectl status [NAME]`
pub(super) async fn run(client: &Client, screen: &Screen, name: Option<&InstanceName>) -> Result<Outcome, Failure> {
    let now = Timestamp::now();
    match name {
        None => {
            let body = client.get("/api/v1/instances").await?;
            if screen.data() {
                screen.body(&body)?;
            } else {
                let health = client.read("/api/v1/health").await?;
                screen.print(&all(screen.style(), &decode::<Vec<Instance>>(&body)?, &health, now))?;
            }
        }
        Some(name) => {
            let body = client.get(&format!("/api/v1/instances/{name}")).await?;
            if screen.data() {
                screen.body(&body)?;
            } else {
                let detail: InstanceDetail = decode(&body)?;
                let task = match detail.instance.task {
                    Some(id) => client.read::<Task>(&format!("/api/v1/tasks/{id}")).await.ok(),
                    None => None,
                };
                screen.print(&one(screen.style(), &detail, task.as_ref(), now))?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// The whole fleet: a line on clauded, then a row per instance.
fn all(style: Style, instances: &[Instance], health: &Health, now: Timestamp) -> String {
    let mut text = style.finish(head(style, health));
    for problem in &health.problems {
        text.push_str(&format!("  {}\n", clean(problem)));
    }
    for (account, until) in &health.holds {
        text.push_str(&format!("  usage limit of {}: tasks are held, the limit resets {}\n", clean(account), age(until, now)));
    }
    for pause in &health.pauses {
        let what = if pause.kind == "all" { "the queue".to_owned() } else { format!("{} {}", clean(&pause.kind), clean(&pause.name)) };
        let why = if pause.why.is_empty() { String::new() } else { format!(": {}", line(&pause.why, 300)) };
        text.push_str(&format!("  {what} is paused by {}, {}{why}; {}\n", clean(&pause.by), age(&pause.since, now), clean(&pause.resume)));
    }
    let spent: f64 = health.spent_today_usd.values().sum();
    if spent > 0.0 {
        text.push_str(&format!("  spent today: {}\n", dollars(spent)));
    }
    text.push('\n');
    if instances.is_empty() {
        text.push_str("No instances yet. Start one with: claudectl start NAME\n");
        return text;
    }
    let rows = instances.iter().map(|i| row(style, i, now)).collect();
    text.push_str(&style.table(&["NAME", "STATE", "SINCE", "TASK", "MEMORY", "PIDS", "RESTARTS", "DOING"], rows));
    text
}

fn head(style: Style, health: &Health) -> String {
    let tasks: Vec<String> = health.tasks.iter().filter(|(_, n)| **n > 0).map(|(state, n)| format!("{n} {state}")).collect();
    let tasks = if tasks.is_empty() { "no tasks".to_owned() } else { format!("tasks: {}", tasks.join(", ")) };
    format!(
        "clauded {} {}, {}, {} connected, {tasks}\n",
        clean(&health.version),
        style.state(&clean(&health.status)),
        clean(&health.supervisor),
        health.connected
    )
}

fn row(style: Style, i: &Instance, now: Timestamp) -> Vec<String> {
    vec![
        clean(&i.name),
        style.state(&i.active),
        i.since.as_deref().map_or_else(|| "-".to_owned(), |since| age(since, now).replace(" ago", "")),
        i.task.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        memory(i),
        i.pids.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        i.restarts.to_string(),
        line(&doing(i), 80),
    ]
}

fn doing(i: &Instance) -> String {
    if i.active == "active" && !i.connected { format!("{} (runner not connected)", i.status).trim_start().to_owned() } else { i.status.clone() }
}

fn memory(i: &Instance) -> String {
    match (i.memory_bytes, i.memory_limit_bytes) {
        (Some(now), Some(limit)) => format!("{}/{}", bytes(now), bytes(limit)),
        (Some(now), None) => bytes(now),
        (None, _) => "-".to_owned(),
    }
}

/// One instance with all that is known.
fn one(style: Style, detail: &InstanceDetail, task: Option<&Task>, now: Timestamp) -> String {
    let i = &detail.instance;
    let since = i.since.as_deref().map(|s| format!(", {} since {}", age(s, now).replace(" ago", ""), clean(s))).unwrap_or_default();
    let configured = if i.configured { "" } else { "  (not in the configuration: defaults apply)" };
    let link = if i.connected { "connected" } else { "not connected" };
    let pid = detail.main_pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let mut text = style.fields(&[
        ("Instance", format!("{}{configured}", clean(&i.name))),
        ("ID", clean(&detail.id)),
        ("Unit", clean(&detail.unit)),
        ("State", format!("{} ({}){since}", style.state(&i.active), clean(&i.sub))),
        ("Doing", line(&doing(i), 200)),
        ("Task", task.map(|t| format!("{} {} {}", t.id, style.state(&t.state), line(&t.title, 100))).or(i.task.map(|id| id.to_string())).unwrap_or_default()),
        ("Runner", format!("{link}{pid}")),
        ("Directory", clean(&detail.directory)),
        ("Repository", detail.repository.as_deref().map(clean).unwrap_or_default()),
        ("Profile", clean(&detail.profile)),
        ("User", detail.user.as_deref().map(clean).unwrap_or_default()),
        ("Invocation", detail.invocation.clone().unwrap_or_default()),
        ("Memory", memory_line(i)),
        ("CPU time", i.cpu_seconds.map(span).unwrap_or_default()),
        ("Processes", i.pids.map(|n| n.to_string()).unwrap_or_default()),
        ("Restarts", i.restarts.to_string()),
    ]);
    if !detail.caps.is_empty() {
        let rows = detail.caps.iter().map(cap_row).collect();
        text.push_str("\nCaps, the innermost first; the lowest in a column binds:\n");
        text.push_str(&style.table(&["FROM", "MEMORY", "MEM HIGH", "SWAP", "CPU", "CPU WEIGHT", "IO WEIGHT", "TASKS"], rows));
    }
    if !detail.history.is_empty() {
        let rows = detail.history.iter().take(HISTORY);
        let rows =
            rows.map(|e| vec![age(&e.at, now), clean(&e.kind), e.cause.as_deref().map_or_else(|| "-".to_owned(), clean), line(&e.message, 120)]).collect();
        text.push_str("\nLast starts, exits and restarts, newest first:\n");
        text.push_str(&style.table(&["WHEN", "WHAT", "CAUSE", "DETAIL"], rows));
    }
    text
}

fn memory_line(i: &Instance) -> String {
    match (i.memory_bytes, i.memory_limit_bytes) {
        (Some(now), Some(limit)) => format!("{} of {}", bytes(now), bytes(limit)),
        (Some(now), None) => format!("{}, no limit", bytes(now)),
        (None, Some(limit)) => format!("at most {}", bytes(limit)),
        (None, None) => String::new(),
    }
}

fn cap_row(cap: &Cap) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        clean(&cap.unit),
        or_dash(cap.memory_max.map(bytes)),
        or_dash(cap.memory_high.map(bytes)),
        or_dash(cap.swap_max.map(bytes)),
        or_dash(cap.cpu_percent.map(|p| format!("{p:.0}%"))),
        or_dash(cap.cpu_weight.map(|w| w.to_string())),
        or_dash(cap.io_weight.map(|w| w.to_string())),
        or_dash(cap.tasks_max.map(|n| n.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::api::Event;

    fn instance() -> Instance {
        Instance {
            name: "feature-x".into(),
            configured: true,
            active: "active".into(),
            sub: "running".into(),
            connected: true,
            status: "task 3: Bash, 2m".into(),
            task: Some(3),
            since: Some("2026-11-21T09:00:00Z".into()),
            restarts: 2,
            memory_bytes: Some(1_288_490_189),
            memory_limit_bytes: Some(4 << 30),
            cpu_seconds: Some(61.0),
            pids: Some(14),
        }
    }

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().expect("time")
    }

    #[test]
    fn the_fleet() {
        let mut health = Health { status: "ok".into(), version: "0.1.0".into(), supervisor: "systemd".into(), connected: 1, ..Health::default() };
        health.tasks.insert("running".into(), 1);
        health.tasks.insert("pending".into(), 0);
        health.holds.insert("claude".into(), "2026-11-21T12:00:00Z".into());
        let idle = Instance { name: "b".into(), active: "failed".into(), status: "directory\n/x is missing".into(), ..Instance::default() };
        assert_eq!(
            all(Style::default(), &[instance(), idle], &health, now()),
            "clauded 0.1.0 ok, systemd, 1 connected, tasks: 1 running\n  usage limit of claude: tasks are held, the limit resets in 2h\n\n\
             NAME       STATE   SINCE  TASK  MEMORY   PIDS  RESTARTS  DOING\n\
             feature-x  active  1h     3     1.2G/4G  14    2         task 3: Bash, 2m\n\
             b          failed  -      -     -        -     0         directory /x is missing\n"
        );
    }

    #[test]
    fn one_instance_with_its_caps_and_history() {
        let detail = InstanceDetail {
            instance: instance(),
            id: "1234abcd".into(),
            repository: Some("shop".into()),
            unit: "claude-code@feature-x.service".into(),
            directory: "/srv/x".into(),
            profile: "claude".into(),
            main_pid: Some(42),
            caps: vec![
                Cap { unit: "claude-code-feature-x.slice".into(), memory_max: Some(4 << 30), cpu_percent: Some(200.0), tasks_max: Some(512), ..Cap::default() },
                Cap { unit: "claude-code.slice".into(), memory_max: Some(16 << 30), ..Cap::default() },
            ],
            history: vec![Event {
                at: "2026-11-21T09:00:00Z".into(),
                kind: "instance-restarted".into(),
                cause: Some("oom-kill".into()),
                message: "killed".into(),
                ..Event::default()
            }],
            ..InstanceDetail::default()
        };
        assert_eq!(
            one(Style::default(), &detail, None, now()),
            "  Instance: feature-x
        ID: 1234abcd
      Unit: claude-code@feature-x.service
     State: active (running), 1h since 2026-11-21T09:00:00Z
     Doing: task 3: Bash, 2m
      Task: 3
    Runner: connected, pid 42
 Directory: /srv/x
Repository: shop
   Profile: claude
    Memory: 1.2G of 4G
  CPU time: 1m 1s
 Processes: 14
  Restarts: 2

Caps, the innermost first; the lowest in a column binds:
FROM                         MEMORY  MEM HIGH  SWAP  CPU   CPU WEIGHT  IO WEIGHT  TASKS
claude-code-feature-x.slice  4G      -         -     200%  -           -          512
claude-code.slice            16G     -         -     -     -           -          -

Last starts, exits and restarts, newest first:
WHEN    WHAT                CAUSE     DETAIL
1h ago  instance-restarted  oom-kill  killed
"
        );
    }
}
