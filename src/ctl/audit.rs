//! `claudectl audit`: who changed what, when and from where; and whether that still is what was written.

use super::args;
use super::client::{Client, decode, query_value};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style, Tone};
use super::quantity;
use crate::proto::audit::{AuditCheck, AuditRow};
use hyper::Method;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Most rows in one answer.
const PAGE: usize = 1000;

/// `claudectl audit`
pub(super) async fn run(client: &Client, screen: &Screen, args: &args::Audit) -> Result<Outcome, Failure> {
    if let Some(args::AuditCommand::Verify) = args.command {
        return verify(client, screen).await;
    }
    let filter = filter(args)?;
    let mut rows = newest(client, &filter, args.lines).await?;
    rows.reverse();
    let mut after = rows.last().and_then(|row| row.get("seq")).and_then(serde_json::Value::as_i64);
    if !args.follow {
        let printed = if screen.data() { screen.value(&rows) } else { screen.print(&table(screen, rows)?) };
        return printed.map(|()| Outcome::Done);
    }
    if after.is_none() {
        // Nothing that fits yet: from the end of all rows on.
        after = newest(client, "", 1).await?.first().and_then(|row| row.get("seq")).and_then(serde_json::Value::as_i64);
    }
    let mut after = after.unwrap_or(0);
    loop {
        for row in rows {
            after = row.get("seq").and_then(serde_json::Value::as_i64).unwrap_or(after);
            if screen.data() { screen.value(&row) } else { screen.print(&line(screen.style(), &typed(row)?)) }?;
        }
        // The answer comes when there is a row, or after a while with none.
        rows = decode(&client.whole(Method::GET, &format!("/api/v1/audit?limit={PAGE}&after={after}&wait=true{filter}"), None).await?)?;
    }
}

async fn verify(client: &Client, screen: &Screen) -> Result<Outcome, Failure> {
    let body = client.whole(Method::GET, "/api/v1/audit/check", None).await?;
    let check: AuditCheck = decode(&body)?;
    if screen.data() {
        screen.body(&body)?;
    } else {
        screen.print(&verdict(&check))?;
    }
    Ok(if check.intact { Outcome::Done } else { Outcome::Negative })
}

fn verdict(check: &AuditCheck) -> String {
    let mut text = match check.intact {
        true if check.rows == 0 => "The audit is empty.\n".to_owned(),
        true => format!("The audit is intact: {} rows, {} to {}.\nThe last row's hash is {}.\n", check.rows, check.first, check.last, check.hash),
        false => "The audit is NOT intact.\n".to_owned(),
    };
    for problem in check.problems.iter().chain(&check.notes) {
        text.push_str(&format!("- {}\n", quantity::clean(problem)));
    }
    if !check.intact {
        text.push_str(&format!("{} rows fit, up to row {}.\n", check.rows, check.last));
    }
    text
}

/// The newest rows that fit, newest first, as they came.
async fn newest(client: &Client, filter: &str, wanted: usize) -> Result<Vec<serde_json::Value>, Failure> {
    let mut rows: Vec<serde_json::Value> = Vec::new();
    while rows.len() < wanted {
        let ask = (wanted - rows.len()).min(PAGE);
        let before = rows.last().and_then(|row| row.get("seq")).map(|seq| format!("&before={seq}")).unwrap_or_default();
        let page: Vec<serde_json::Value> = client.read(&format!("/api/v1/audit?limit={ask}{filter}{before}")).await?;
        let full = page.len() >= ask;
        rows.extend(page);
        if !full {
            break;
        }
    }
    Ok(rows)
}

/// The filters as a query string, each beginning with `&`.
fn filter(args: &args::Audit) -> Result<String, Failure> {
    let mut query = String::new();
    let times = [("since", &args.since), ("until", &args.until)].map(|(name, text)| (name, text.as_deref().map(|text| time(name, text)).transpose()));
    let mut add = |name: &str, value: &str| query.push_str(&format!("&{name}={}", query_value(value)));
    for (name, time) in times {
        if let Some(time) = time? {
            add(name, &time.to_string());
        }
    }
    if let Some(instance) = &args.instance {
        add("instance", instance.as_str());
    }
    if let Some(task) = args.task {
        add("task", &task.to_string());
    }
    for (name, text) in [("who", &args.who), ("what", &args.what)] {
        if let Some(text) = text {
            add(name, text);
        }
    }
    Ok(query)
}

/// A time as people write it: how long ago, a date or a date and time here, or a whole time stamp.
fn time(name: &str, text: &str) -> Result<Timestamp, Failure> {
    let ago = humantime::parse_duration(text).ok().and_then(|span| Timestamp::now().checked_sub(span).ok());
    let here = || text.parse::<DateTime>().ok().and_then(|time| time.to_zoned(TimeZone::system()).ok()).map(|zoned| zoned.timestamp());
    ago.or_else(|| text.parse().ok()).or_else(here).ok_or_else(|| {
        Failure::Usage(format!("--{name} {text:?} is no time; write how long ago (2h, 7d), a date (2026-01-31, \"2026-01-31 12:00\") or 2026-01-31T12:00:00Z"))
    })
}

fn typed(row: serde_json::Value) -> Result<AuditRow, Failure> {
    decode(row.to_string().as_bytes())
}

fn table(screen: &Screen, rows: Vec<serde_json::Value>) -> Result<String, Failure> {
    if rows.is_empty() {
        return Ok("No such rows.\n".to_owned());
    }
    rows.into_iter().map(|row| typed(row).map(|row| line(screen.style(), &row))).collect()
}

/// One row: when, who from where, what, to what.
fn line(style: Style, row: &AuditRow) -> String {
    let time = row.at.parse::<Timestamp>().map_or_else(|_| quantity::clean(&row.at), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let acting = row.acting.map(|task| format!(" (in task {task})")).unwrap_or_default();
    let process = row.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let task = row.task.map(|task| format!("task {task}"));
    let subject = [task, row.instance.clone(), row.subject.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let details = if row.details.as_object().is_some_and(serde_json::Map::is_empty) { String::new() } else { format!(" {}", row.details) };
    format!(
        "{:>6}  {}  {}  {}  {}\n",
        row.seq,
        style.paint(Tone::Faint, &time),
        style.paint(Tone::Strong, &format!("{:<18}", quantity::clean(&row.what))),
        quantity::line(&format!("{subject}{details}"), 400),
        style.paint(Tone::Faint, &format!("by {}{acting}{process}, {}", quantity::clean(&row.who), quantity::clean(&row.origin))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> AuditRow {
        AuditRow {
            seq: 12,
            at: "2026-11-21T10:00:00.25Z".into(),
            who: "instance:a".into(),
            uid: Some(1),
            pid: Some(7),
            acting: Some(3),
            origin: "unix".into(),
            what: "task-added".into(),
            task: Some(4),
            details: serde_json::json!({"title": "x\ny"}),
            ..AuditRow::default()
        }
    }

    #[test]
    fn a_row_is_a_line() {
        assert_eq!(
            line(Style::default(), &row()),
            "    12  2026-11-21 10:00:00Z  task-added          task 4 {\"title\":\"x\\ny\"}  by instance:a (in task 3) (process 7), unix\n"
        );
    }

    #[test]
    fn times_are_spans_dates_or_stamps() {
        let now = Timestamp::now();
        let ago = time("since", "2h").expect("a span");
        assert!((now.duration_since(ago).as_secs() - 7200).abs() <= 1);
        assert_eq!(time("since", "2026-01-31T12:00:00Z").expect("a stamp").to_string(), "2026-01-31T12:00:00Z");
        for text in ["2026-01-31", "2026-01-31 12:00", "2026-01-31T12:00:00"] {
            assert!(time("until", text).is_ok(), "{text}");
        }
        let error = time("until", "soon").expect_err("no time");
        assert!(error.code() == 2 && error.to_string().contains("--until \"soon\" is no time"), "{error}");
    }

    #[test]
    fn a_verdict_names_what_does_not_fit() {
        let good = AuditCheck { intact: true, first: 1, rows: 7, last: 7, hash: "ab".into(), ..AuditCheck::default() };
        assert_eq!(verdict(&good), "The audit is intact: 7 rows, 1 to 7.\nThe last row's hash is ab.\n");
        let bad = AuditCheck { intact: false, problems: vec!["row 3 does not fit".into()], rows: 2, last: 2, ..good };
        assert_eq!(verdict(&bad), "The audit is NOT intact.\n- row 3 does not fit\n2 rows fit, up to row 2.\n");
    }
}
