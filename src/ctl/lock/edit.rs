//! `claudectl edit`: asks for the lock, opens the editor, gives the lock back, also when it is told to end.

use super::super::client::{Client, decode};
use super::super::failure::{Failure, Outcome};
use super::super::output::Screen;
use super::args::{Edit, What};
use super::{acquire, named, with};
use crate::proto::api::{GivenLock, NewLock, ReleaseLocks};
use hyper::Method;
use std::ffi::OsString;
use std::time::Duration;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// How often the lock is renewed: clauded writes that down when half of its time is over.
const RENEW: Duration = Duration::from_secs(60);

/// `claudectl edit PATH`
pub(in crate::ctl) async fn run(client: &Client, screen: &Screen, edit: Edit) -> Result<Outcome, Failure> {
    let words = editor()?;
    let lock = with(named(What { path: Some(edit.path.clone()), glob: None, feature: None, repository: None })?, &edit.how);
    if lock.path.as_deref().is_some_and(|path| path.ends_with('/')) {
        return Err(Failure::Usage(format!("{} is a directory; name a file", edit.path.display())));
    }
    // Before the lock is there, so that none is left behind.
    let stop = |kind: SignalKind| signal(kind).map_err(|e| Failure::Failed(format!("cannot listen for signals: {e}")));
    let (mut terminate, mut hang_up, mut interrupt) = (stop(SignalKind::terminate())?, stop(SignalKind::hangup())?, stop(SignalKind::interrupt())?);
    let given: GivenLock = decode(&acquire(client, screen, &lock, edit.how.wait.is_some()).await?)?;
    let edited = async {
        let mut words = words.iter();
        let program = words.next().ok_or_else(|| Failure::Usage("EDITOR is empty; name a program".to_owned()))?;
        let mut child = Command::new(program);
        child.args(words).arg(&edit.path).kill_on_drop(true);
        let mut child = child.spawn().map_err(|e| Failure::Failed(format!("cannot run {}: {e}; set VISUAL or EDITOR", program.display())))?;
        let mut clock = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                ended = child.wait() => return ended.map_err(|e| Failure::Failed(format!("cannot wait for {}: {e}", program.display()))),
                _ = clock.tick() => {
                    let again = NewLock { wait_seconds: None, ..lock.clone() };
                    if let Err(lost) = client.send(Method::POST, "/api/v1/locks", &again).await {
                        screen.note(&format!("the lock could not be renewed: {lost}"));
                    }
                }
                // Ctrl-C is the editor's.
                _ = interrupt.recv() => {}
                _ = terminate.recv() => return Err(Failure::Interrupted("told to end; the lock is given back".to_owned())),
                _ = hang_up.recv() => return Err(Failure::Interrupted("the terminal is gone; the lock is given back".to_owned())),
            }
        }
    };
    let ended = edited.await;
    // One that was held before stays.
    if given.result != "unchanged" {
        let own = ReleaseLocks { id: Some(given.lock.id), ..ReleaseLocks::default() };
        match client.send(Method::POST, "/api/v1/locks/release", &own).await {
            Ok(_) => {}
            Err(error) => screen.note(&format!("the lock could not be given back, and ends by itself: {error}")),
        }
    }
    Ok(if ended?.success() { Outcome::Done } else { Outcome::Negative })
}

/// The editor's words: `code --wait` is a program and an argument. No shell takes them apart.
fn editor() -> Result<Vec<OsString>, Failure> {
    let said = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os).find(|said| !said.is_empty());
    match said {
        None => Ok(vec!["vi".into()]),
        Some(said) => match said.to_str() {
            Some(text) => Ok(text.split_whitespace().map(OsString::from).collect()),
            None => Ok(vec![said]),
        },
    }
}
