//! `claudectl lock`: who may change which files. `claudectl edit`: an editor under a lock.

pub(super) mod args;
pub(super) mod edit;
pub(super) mod place;

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::Screen;
use super::quantity::{age, between, clean, span};
use crate::proto::api::{GivenLock, Lock, LockTable, NewLock, Outcome as Done, ReleaseLocks, TransferLock};
use args::{Acquire, How, LockCommand, Release, Steal, What};
use hyper::Method;
use hyper::body::Bytes;
use place::{PlaceError, Worktree};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// How often who waits looks for its place in line.
const LOOK: Duration = Duration::from_secs(1);

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Io { .. } => Self::Failed(error.to_string()),
            _ => Self::Usage(error.to_string()),
        }
    }
}

/// `claudectl lock …`
pub(super) async fn run(client: &Client, screen: &Screen, command: LockCommand) -> Result<Outcome, Failure> {
    match command {
        LockCommand::Acquire(Acquire { what, shared, how }) => {
            let lock = NewLock { shared, ..with(named(what)?, &how) };
            let body = acquire(client, screen, &lock, how.wait.is_some()).await?;
            show(screen, &body)
        }
        LockCommand::Steal(Steal { what, reason, ttl }) => {
            let lock = with(named(what)?, &How { reason, ttl, wait: None });
            show(screen, &client.send(Method::POST, "/api/v1/locks/steal", &lock).await?)
        }
        LockCommand::Release(release) => {
            let body = client.send(Method::POST, "/api/v1/locks/release", &which(release)?).await?;
            released(screen, &body)
        }
        LockCommand::Transfer { id, instance, force } => {
            let to = TransferLock { instance: instance.to_string(), force };
            show(screen, &client.send(Method::POST, &format!("/api/v1/locks/{id}/transfer"), &to).await?)
        }
        LockCommand::List => list(client, screen).await,
    }
}

/// What is to be locked, called from the root of its worktree.
pub(super) fn named(what: What) -> Result<NewLock, Failure> {
    let lock = NewLock { feature: what.feature, ..NewLock::default() };
    if let Some(repository) = what.repository {
        // Paths are from its root, wherever that is; a slash at the end says that it is a directory.
        let path = what.path.map(|path| path.into_os_string().into_string().map_err(|path| PlaceError::NotText(path.into()))).transpose()?;
        return Ok(NewLock { path, glob: what.glob, place: Some(repository), ..lock });
    }
    let here = current_directory()?;
    let tree = what.path.as_deref().map_or_else(|| Worktree::around(&here), |path| Worktree::of(&here, path))?;
    let path = what.path.map(|path| directory_or_file(&tree, &here, &path)).transpose()?;
    let glob = what.glob.map(|glob| tree.name(&here, Path::new("")).map(|below| from_root(&below, &glob))).transpose()?;
    Ok(NewLock { path, glob, ..at(&tree, lock) })
}

fn current_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::Failed(format!("cannot tell the current directory: {error}")))
}

/// A directory stands for all that is in it, and has a slash at the end.
fn directory_or_file(tree: &Worktree, here: &Path, path: &Path) -> Result<String, Failure> {
    let name = tree.name(here, path)?;
    let directory = here.join(path).is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
    match (directory, name.as_str()) {
        (true, "") => Err(Failure::Usage("that is the whole worktree; if you mean it, say: --glob '**'".to_owned())),
        (true, name) => Ok(format!("{name}/")),
        (false, _) => Ok(name),
    }
}

/// A glob from a directory, as one from the root. The directory's own name means itself.
fn from_root(below: &str, glob: &str) -> String {
    let mut whole = String::new();
    for c in below.chars() {
        if "*?[]{},\\".contains(c) {
            whole.push('\\');
        }
        whole.push(c);
    }
    if below.is_empty() { glob.to_owned() } else { format!("{whole}/{glob}") }
}

/// Says where. What runs in an instance locks its own files, and clauded knows which these are.
pub(super) fn at(tree: &Worktree, lock: NewLock) -> NewLock {
    if tree.is_said() {
        return lock;
    }
    let repository = tree.repository().map(|path| path.display().to_string());
    NewLock { place: Some(tree.root.display().to_string()), repository, ..lock }
}

fn with(lock: NewLock, how: &How) -> NewLock {
    let seconds = |time: Duration| time.as_secs().max(1);
    NewLock {
        reason: Some(how.reason.clone()).filter(|reason| !reason.is_empty()),
        ttl_seconds: how.ttl.map(seconds),
        wait_seconds: how.wait.map(seconds),
        ..lock
    }
}

fn which(release: Release) -> Result<ReleaseLocks, Failure> {
    let Release { path, glob, feature, id, all, repository, force } = release;
    if all || id.is_some() {
        return Ok(ReleaseLocks { id, force, ..ReleaseLocks::default() });
    }
    let NewLock { path, glob, feature, place, repository, .. } = named(What { path, glob, feature, repository })?;
    Ok(ReleaseLocks { id: None, path, glob, feature, place, repository, force })
}

/// Asks for a lock; where it has to be waited for, says for whom, and how many come first.
async fn acquire(client: &Client, screen: &Screen, lock: &NewLock, wait: bool) -> Result<Bytes, Failure> {
    let at_once = NewLock { wait_seconds: None, ..lock.clone() };
    let way = match client.send(Method::POST, "/api/v1/locks", &at_once).await {
        Err(Failure::Api(problem)) if wait && problem.code == "locked" => problem.detail,
        answer => return answer,
    };
    let progress = screen.progress();
    let say = |text: &str| if progress.visible() { progress.say(text) } else { screen.note(text) };
    say(&format!("waits: {}", way.split(". You may").next().unwrap_or_default()));
    let ticket = Uuid::new_v4();
    let lock = NewLock { ticket: Some(ticket), ..lock.clone() };
    tokio::select! {
        answer = client.send(Method::POST, "/api/v1/locks", &lock) => match answer {
            Err(Failure::Api(problem)) if problem.code == "locked" => Err(Failure::TimedOut(problem.detail)),
            answer => answer,
        },
        never = tell_place(client, ticket, say) => match never {},
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted("left the line".to_owned())),
    }
}

/// Says which place in line the request with that ticket has, whenever that changes.
async fn tell_place(client: &Client, ticket: Uuid, say: impl Fn(&str)) -> Infallible {
    let mut clock = tokio::time::interval(LOOK);
    let mut told = String::new();
    loop {
        clock.tick().await;
        // It has no place yet or any more, or clauded is being restarted: the request itself hears of that.
        let Ok(table) = client.read::<LockTable>(&format!("/api/v1/locks?ticket={ticket}")).await else { continue };
        let Some(wait) = table.waiting.first() else { continue };
        let text = format!("place {} in line: {}", wait.position, wait.waits_for);
        if text != told {
            say(&text);
            told = text;
        }
    }
}

fn show(screen: &Screen, body: &Bytes) -> Result<Outcome, Failure> {
    if screen.data() {
        screen.body(body)?;
    } else {
        let GivenLock { result, lock } = decode(body)?;
        let word = if result == "unchanged" { "already held" } else { lock.mode.as_str() };
        screen.print(&clean(&format!("lock {} on {} ({}): {word}, {} until {}\n", lock.id, lock.pattern, lock.place, lock.owner, short(&lock))))?;
    }
    Ok(Outcome::Done)
}

fn short(lock: &Lock) -> String {
    match lock.task {
        Some(_) => "its task ends".to_owned(),
        None => lock.expires.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned() + "Z",
    }
}

fn released(screen: &Screen, body: &Bytes) -> Result<Outcome, Failure> {
    if screen.data() {
        screen.body(body)?;
    } else {
        screen.print(&format!("{}\n", clean(&decode::<Done>(body)?.message)))?;
    }
    Ok(Outcome::Done)
}

async fn list(client: &Client, screen: &Screen) -> Result<Outcome, Failure> {
    let body = client.get("/api/v1/locks").await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let table: LockTable = decode(&body)?;
    let now = jiff::Timestamp::now();
    let left = |lock: &Lock| match lock.task {
        Some(_) => "with its task".to_owned(),
        None => between(&now.to_string(), &lock.expires).map_or_else(|| "now".to_owned(), |left| format!("in {}", span(left))),
    };
    let what = |kind: &str, pattern: &str| if kind == "feature" { format!("feature {pattern}") } else { pattern.to_owned() };
    let rows = table.locks.iter().map(|lock| {
        vec![
            lock.id.to_string(),
            clean(&what(&lock.kind, &lock.pattern)),
            clean(&lock.place),
            lock.mode.clone(),
            clean(&lock.owner),
            age(&lock.since, now),
            left(lock),
            clean(&lock.reason),
        ]
    });
    let mut text = if table.locks.is_empty() {
        "no locks are held\n".to_owned()
    } else {
        screen.style().table(&["ID", "FILES", "IN", "MODE", "HELD BY", "SINCE", "ENDS", "REASON"], rows.collect())
    };
    if !table.waiting.is_empty() {
        let rows = table.waiting.iter().map(|wait| {
            vec![
                wait.position.to_string(),
                clean(&what(&wait.kind, &wait.pattern)),
                clean(&wait.place),
                clean(&wait.owner),
                age(&wait.since, now),
                clean(&wait.waits_for),
            ]
        });
        text.push('\n');
        text.push_str(&screen.style().table(&["PLACE", "FILES", "IN", "WAITING", "SINCE", "FOR"], rows.collect()));
    }
    screen.print(&text)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_from_a_directory_means_that_directory_and_no_other() {
        assert_eq!([from_root("", "*.rs"), from_root("app/[id]", "**"), from_root("a,b", "x")], ["*.rs", r"app/\[id\]/**", r"a\,b/x"]);
    }
}
