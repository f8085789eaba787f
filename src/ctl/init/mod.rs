//! `claudectl init`: prepares a repository. Done as the caller, in the caller's repository; it can be repeated.

pub(super) mod args;
mod files;
mod proposal;
mod repository;
mod settings;

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::Screen;
use super::quantity::clean;
use crate::config::Paths;
use crate::core::checkout::Source;
use crate::core::label::Label;
use crate::proto::api;
use args::Init;
use files::Plan;
use hyper::Method;
use repository::Repository;
use serde::Serialize;
use std::fs;

/// What became of one thing.
#[derive(Debug, Serialize)]
struct Step {
    /// The file, or the stanza.
    what: String,
    /// `created`, `changed`, `unchanged` or `not-done`.
    result: &'static str,
    /// What there is to say about it; may be empty.
    message: String,
}

/// `claudectl init`
pub(super) async fn run(client: &Client, screen: &Screen, args: &Init) -> Result<Outcome, Failure> {
    let repository = Repository::around(&args.directory).await?;
    let name = args.name.clone().map_or_else(|| repository.name(), Ok)?;
    // First what may be refused without a trace: here, then by clauded.
    let settings = if client.user() { ".claude/settings.local.json" } else { ".claude/settings.json" };
    let plans = [
        Plan::new(&repository.root, settings, |text| settings::with_hook(text, &name, client.user()))?,
        Plan::new(&repository.root, ".gitignore", |text| Ok(files::with_ignored(text)))?,
    ];
    let mut steps = vec![stanza(client, &name, &repository, args).await?];
    for plan in plans {
        if !args.dry_run {
            plan.carry_out()?;
        }
        steps.push(Step { what: plan.path.display().to_string(), result: plan.result(), message: String::new() });
    }
    if screen.data() {
        screen.value(&serde_json::json!({ "repository": name, "root": repository.root, "dry_run": args.dry_run, "steps": steps }))?;
    } else {
        let lines: String = steps.iter().map(|step| line(step, args.dry_run)).collect();
        screen.print(&lines)?;
    }
    Ok(if steps.iter().any(|step| step.result == "not-done") { Outcome::Negative } else { Outcome::Done })
}

fn line(step: &Step, dry_run: bool) -> String {
    let result = match step.result {
        "not-done" => "not done".to_owned(),
        "unchanged" => step.result.to_owned(),
        result if dry_run => format!("would be {result}"),
        result => result.to_owned(),
    };
    let message = step.message.lines().map(clean).collect::<Vec<_>>().join("\n  ");
    let message = if message.is_empty() { message } else { format!("; {message}") };
    format!("{}: {result}{message}\n", clean(&step.what))
}

/// Has clauded take the repository into its configuration, or says what an administrator has to write.
async fn stanza(client: &Client, name: &Label, repository: &Repository, args: &Init) -> Result<Step, Failure> {
    let source = match (&args.url, &args.path) {
        (Some(url), _) => Source::Url(url.clone()),
        (None, Some(path)) => Source::Path(fs::canonicalize(path).map_err(|error| Failure::Read { path: path.clone(), error })?),
        (None, None) => repository.source(client.user()),
    };
    let proposed = proposal::verify(&repository.root);
    let mut wanted = api::SetRepository {
        default_branch: args.branch.clone(),
        verify: args.verify.as_ref().map(|words| words.0.clone()),
        proposed: api::ProposedRepository { default_branch: repository.branch(&source), verify: proposed.as_ref().ok().cloned() },
        dry_run: args.dry_run,
        ..api::SetRepository::default()
    };
    match &source {
        Source::Url(url) => wanted.url = Some(url.clone()),
        Source::Path(path) => {
            let text = path.to_str().ok_or_else(|| Failure::Failed(format!("{} is not UTF-8, which the configuration cannot name", path.display())))?;
            wanted.path = Some(text.to_owned());
        }
    }
    let step = |result, message| Step { what: format!("[repositories.{name}]"), result, message };
    let failure = match client.send(Method::PUT, &format!("/api/v1/repositories/{name}"), &wanted).await {
        Ok(body) => {
            let outcome: api::Outcome = decode(&body)?;
            let result = match outcome.result.as_str() {
                "created" => "created",
                "changed" => "changed",
                _ => "unchanged",
            };
            let mut message = outcome.message;
            if let (true, None, Err(why)) = (result == "created", &wanted.verify, &proposed) {
                message += &format!("\n{why}; to have work checked: claudectl init --verify 'make test'");
            }
            if result == "created" && matches!(source, Source::Path(_)) && !client.user() && repository.is_anothers() {
                message += "\nthe instances' user does not own it, and git refuses a repository of another: see [repositories.NAME] url";
            }
            return Ok(step(result, message));
        }
        Err(failure) => failure,
    };
    // The files can be prepared all the same, unless it is the request that is wrong.
    match failure {
        Failure::NotRunning(_) | Failure::Permission(_) => {}
        Failure::Api(ref problem) if matches!(problem.status, 401 | 403 | 503) || problem.code == "no-such-route" => {}
        failure => return Err(failure),
    }
    let (paths, who, reload) = match client.user() {
        true => (Paths::user(), "you", "systemctl --user reload clauded"),
        false => (Paths::system(), "an administrator", "systemctl reload clauded"),
    };
    let file = paths.config.with_extension("toml.d").join(format!("repository-{name}.toml"));
    let advice = format!("{failure}\n{who} can write this into {}, and run: {reload}\n\n{}", file.display(), by_hand(name, &wanted));
    Ok(step("not-done", advice))
}

/// The stanza, as a person would write it.
fn by_hand(name: &Label, wanted: &api::SetRepository) -> String {
    let mut table = toml_edit::Table::new();
    let mut say = |key: &str, value: Option<toml_edit::Value>| {
        if let Some(value) = value {
            table.insert(key, toml_edit::value(value));
        }
    };
    say("path", wanted.path.as_ref().map(Into::into));
    say("url", wanted.url.as_ref().map(Into::into));
    say("default-branch", wanted.default_branch.as_ref().or(wanted.proposed.default_branch.as_ref()).map(Into::into));
    let verify = wanted.verify.as_ref().or(wanted.proposed.verify.as_ref());
    say("verify", verify.map(|words| words.iter().collect::<toml_edit::Array>().into()));
    let mut repositories = toml_edit::Table::new();
    repositories.set_implicit(true);
    repositories.insert(name.as_str(), toml_edit::Item::Table(table));
    let mut document = toml_edit::DocumentMut::new();
    document.insert("repositories", toml_edit::Item::Table(repositories));
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stanza_is_printed_as_it_is_to_be_written() {
        let wanted = api::SetRepository {
            path: Some("/srv/the \"shop\"".into()),
            verify: Some(vec!["make".into(), "test".into()]),
            proposed: api::ProposedRepository { default_branch: Some("main".into()), verify: Some(vec!["true".into()]) },
            ..Default::default()
        };
        let text = by_hand(&"shop.v2".parse().expect("a name"), &wanted);
        assert_eq!(text, "[repositories.\"shop.v2\"]\npath = '/srv/the \"shop\"'\ndefault-branch = \"main\"\nverify = [\"make\", \"test\"]\n");
    }

    #[test]
    fn a_line_a_thing() {
        let step = |result, message: &str| Step { what: "x".into(), result, message: message.into() };
        assert_eq!(line(&step("created", ""), false), "x: created\n");
        assert_eq!(line(&step("created", "a\nb"), true), "x: would be created; a\n  b\n");
        assert_eq!((line(&step("unchanged", ""), true), line(&step("not-done", "why"), true)), ("x: unchanged\n".into(), "x: not done; why\n".into()));
    }
}
