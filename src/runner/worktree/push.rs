//! Sends a finished branch to its remote. What is refused is told in the remote's words; what the network hinders is tried again.

use super::git::Git;
use crate::core::delivery::Push;
use std::time::Duration;
use tokio::time::sleep;

/// The pauses before another try.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// Pushes the branch to a branch of the same name. Never forces.
pub(in crate::runner) async fn push(git: &Git<'_>, remote: &str, branch: &str) -> Push {
    let refspec = format!("refs/heads/{branch}:refs/heads/{branch}");
    let mut call = vec!["push", "--quiet", "--no-follow-tags", "--recurse-submodules=no", "--no-signed"];
    if !git.is_trusted() {
        call.push("--no-verify");
    }
    call.extend(git.other_end("--receive-pack=git-receive-pack"));
    call.extend(["--end-of-options", remote, &refspec]);
    let mut pauses = PAUSES.into_iter();
    loop {
        match git.call(&call).network().bytes().await {
            Ok(_) => return Push { remote: remote.to_owned(), refused: None },
            Err(error) => match pauses.next().filter(|_| error.is_transient()) {
                Some(pause) => {
                    tracing::warn!("the push is tried again in {} s: {error}", pause.as_secs());
                    sleep(pause).await;
                }
                None => return Push { remote: remote.to_owned(), refused: Some(error.words().to_owned()) },
            },
        }
    }
}
