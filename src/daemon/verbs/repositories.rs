//! The verbs on repositories. clauded writes the configuration alone: it opens no repository.

use super::teams::word;
use super::{Verbs, refused};
use crate::config::{self, Persisted, Repository, RepositoryChange};
use crate::core::checkout::Source;
use crate::core::label::Label;
use crate::http::service::{Answer, Caller, Repositories, ServiceError};
use crate::proto::api;
use jiff::Timestamp;
use std::path::Path;

fn invalid(detail: impl Into<String>) -> ServiceError {
    refused(422, "invalid-repository", detail)
}

impl Verbs {
    /// Keeps a note of who changed a repository's stanza.
    async fn note_repository(&self, caller: &Caller, name: &Label, wanted: &api::SetRepository, result: &str) -> Result<(), ServiceError> {
        tracing::info!(repository = %name, by = %caller.description, "repository {name}: {result}, asked by {}", caller.description);
        let message = format!("repository {name}: {result} by {}", caller.description);
        let row = caller.actor.did("repository-set", Timestamp::now()).of(name.as_str()).with(&serde_json::to_value(wanted).unwrap_or_default());
        self.note("repository-set", None, message, row).await
    }
}

impl Repositories for Verbs {
    fn set_repository(&self, caller: Caller, name: Label, wanted: api::SetRepository) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let change = change(&wanted)?;
            let _alone = self.persisting.lock().await;
            let (persisted, repository) = config::declare_repository(&self.paths, &name, &change, wanted.dry_run)?;
            let result = word(persisted);
            if !wanted.dry_run {
                let (asked, wanted) = (name.clone(), repository.clone());
                // Also what was written by hand, or could not be put in force the last time.
                if !self.look(move |state| state.config.repositories.get(asked.as_str()) == Some(&wanted)).await? {
                    self.put_in_force(&caller).await?;
                }
            }
            if !wanted.dry_run && persisted != Persisted::Unchanged {
                self.note_repository(&caller, &name, &wanted, result).await?;
            }
            Ok(api::Outcome { result: result.to_owned(), message: described(&repository) })
        })
    }
}

fn change(wanted: &api::SetRepository) -> Result<RepositoryChange, ServiceError> {
    let source = match (&wanted.path, &wanted.url) {
        (Some(path), None) if Path::new(path).is_absolute() => Source::Path(path.into()),
        (Some(path), None) => return Err(invalid(format!("path: {path:.200?} is not absolute"))),
        (None, Some(url)) => match url.parse().map_err(|why| invalid(format!("url: {why}")))? {
            Source::Path(path) => return Err(invalid(format!("url: {path:?} is a path; say it as path"))),
            url @ Source::Url(_) => url,
        },
        (None, None) => return Err(invalid("path, url: say with one of them where the repository is")),
        (Some(_), Some(_)) => return Err(invalid("path, url: give one of them, not both; a repository is local or remote")),
    };
    if [&wanted.verify, &wanted.proposed.verify].into_iter().flatten().any(Vec::is_empty) {
        return Err(invalid("verify: it has no program; leave it out, or write such as [\"make\", \"test\"]"));
    }
    Ok(RepositoryChange {
        source,
        default_branch: wanted.default_branch.clone(),
        verify: wanted.verify.clone(),
        proposed_branch: wanted.proposed.default_branch.clone(),
        proposed_verify: wanted.proposed.verify.clone(),
    })
}

/// What the stanza says, in a line.
fn described(repository: &Repository) -> String {
    let branch = repository.default_branch.as_ref().map_or_else(|| "the branch of its HEAD".to_owned(), |branch| format!("branch {branch}"));
    let verify = repository.verify.as_ref().map_or_else(|| "no check".to_owned(), |verify| format!("checked by: {}", verify.command.join(" ")));
    format!("{}, {branch}, {verify}", repository.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_one_place() {
        let some = |text: &str| Some(text.to_owned());
        for (path, url, words) in [
            (None, None, "path, url: say with one"),
            (some("/a"), some("https://a/b"), "not both"),
            (some("a"), None, "path: \"a\" is not absolute"),
            (None, some("/srv/a"), "say it as path"),
            (None, some("ext::sh -c x"), "url: "),
            (None, some("https://me:secret@a/b"), "has a password in it"),
        ] {
            let error = change(&api::SetRepository { path, url, ..Default::default() }).expect_err(words);
            assert!((error.status, error.code) == (422, "invalid-repository") && error.detail.contains(words), "{error:?}");
            assert!(!error.detail.contains("secret"), "{error:?}");
        }
        let no_program = api::SetRepository { path: some("/a"), verify: Some(Vec::new()), ..Default::default() };
        assert!(change(&no_program).expect_err("empty").detail.starts_with("verify: it has no program"));
    }
}
