//! `claudectl task import` and `export`: many tasks as YAML, `queue:` and a list below it.

mod file;

use super::args::{Export, Import};
use crate::ctl::client::{Client, decode};
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::output::Screen;
use crate::proto::api;
use hyper::Method;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest file, in bytes.
const FILE_MAX: u64 = 48 << 20;

/// `claudectl task import`
pub(super) async fn import(client: &Client, screen: &Screen, args: &Import) -> Result<Outcome, Failure> {
    let text = read(&args.file)?;
    let tasks = file::parse(&text).map_err(|problems| Failure::Usage(named(&args.file, &problems)))?;
    let body = match client.send(Method::POST, "/api/v1/tasks/import", &api::Import { tasks }).await {
        Err(Failure::Api(problem)) if problem.code == "invalid-import" => {
            let problems: Vec<String> = problem.detail.lines().map(str::to_owned).collect();
            return Err(Failure::Api(Box::new(api::Problem { detail: named(&args.file, &problems), ..*problem })));
        }
        other => other?,
    };
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let imported: api::Imported = decode(&body)?;
    let rows: Vec<Vec<String>> = imported.tasks.iter().map(|one| vec![one.id.clone().unwrap_or_else(|| "-".to_owned()), one.task.to_string()]).collect();
    match rows.len() {
        0 => screen.print("Nothing to add: every task of the file is done or failed.\n")?,
        _ => screen.print(&screen.style().table(&["IN THE FILE", "TASK"], rows))?,
    }
    Ok(Outcome::Done)
}

/// `claudectl task export`
pub(super) async fn export(client: &Client, screen: &Screen, args: &Export) -> Result<Outcome, Failure> {
    let group = args.group.as_ref().map(|group| format!("&group={group}")).unwrap_or_default();
    let body = client.get(&format!("/api/v1/tasks/export?all={}{group}", args.all)).await?;
    if screen.data() {
        screen.body(&body)?;
    } else {
        screen.print(&yaml(&decode(&body)?)?)?;
    }
    Ok(Outcome::Done)
}

/// The file of these tasks.
pub(in crate::ctl) fn yaml(export: &api::Import) -> Result<String, Failure> {
    file::write(&export.tasks).map_err(Failure::Failed)
}

fn named(path: &Path, problems: &[String]) -> String {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    format!("{name}: nothing was added, since not all of it is right:\n{}", lines.join("\n"))
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let cannot = |error| Failure::Read { path: path.to_owned(), error };
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_MAX + 1).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
    };
    let bytes = read.map_err(cannot)?;
    if bytes as u64 > FILE_MAX {
        return Err(Failure::Usage(format!("{} is longer than {} MiB; split it", path.display(), FILE_MAX >> 20)));
    }
    Ok(text)
}
