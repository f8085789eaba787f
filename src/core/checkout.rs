//! A repository as an attempt works in it: where it is, which branch, how the work is checked, committed and sent on.

use super::ids::InstanceId;
use super::lock::Policy;
use super::task::TaskType;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// A local repository of the instance's user: worktrees are attached to it, branches appear in it.
    Path(PathBuf),
    /// A remote; one bare clone of it is shared by all its worktrees.
    Url(String),
}

/// The schemes that git may speak; `ext::` and the like run programs (gitremote-helpers(7)).
const SCHEMES: [&str; 5] = ["https://", "http://", "ssh://", "git://", "file://"];

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) || text.starts_with('-') {
            return Err(format!("{text:?} is no URL"));
        }
        if let Some(rest) = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            let authority = rest.split('/').next().unwrap_or_default();
            if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
                return Err("has a password in it, and everybody may read this file; give it to git's credential helper, or use ssh".to_owned());
            }
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            return if rest.is_empty() || host.starts_with('-') { Err(format!("{text:?} is no URL")) } else { Ok(Self::Url(text.to_owned())) };
        }
        // scp's form, user@host:path.
        match text.split_once(':') {
            Some((host, path)) if !host.is_empty() && !host.contains('/') && !path.is_empty() && !path.starts_with(':') && !host.contains("@-") => {
                Ok(Self::Url(text.to_owned()))
            }
            _ => Err(format!("{text:?} is no URL; write https://…, ssh://…, or user@host:path")),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// A repository, as far as a worktree of it has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name in the configuration.
    pub name: String,
    /// Where it is.
    pub source: Source,
    /// Where the bare clone of a URL is kept.
    pub store: PathBuf,
    /// The branch that work starts from; the repository's own HEAD if `None`.
    pub base: Option<String>,
}

/// The variables that tell a runner its repository while it has not heard of clauded: name, source, store, base.
const VARIABLES: [&str; 4] = ["CLAUDED_REPOSITORY", "CLAUDED_REPOSITORY_SOURCE", "CLAUDED_REPOSITORY_STORE", "CLAUDED_BASE"];

impl Origin {
    /// As environment variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let values = [Some(self.name.clone()), Some(self.source.to_string()), Some(self.store.display().to_string()), self.base.clone()];
        VARIABLES.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// From the values of those variables; `None` if there is no repository.
    ///
    /// # Errors
    /// The variable that is missing or means nothing.
    pub fn from_values(values: [Option<String>; 4]) -> Result<Option<Self>, (&'static str, &'static str)> {
        let [name, source, store, base] = values.map(|value| value.filter(|value| !value.is_empty()));
        let Some(name) = name else { return Ok(None) };
        let [_, of_source, of_store, _] = VARIABLES;
        let source = source.ok_or((of_source, "is missing"))?.parse().map_err(|_| (of_source, "is neither a path nor a URL"))?;
        Ok(Some(Self { name, source, store: store.ok_or((of_store, "is missing"))?.into(), base }))
    }
}

/// How finished work is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// The program, absolute, relative to the worktree with a slash in it, or found on the PATH; and its arguments.
    pub command: Vec<String>,
    /// Longest time of one run.
    pub timeout: Duration,
    /// `memory.max` of its cgroup, bytes.
    pub memory: Option<u64>,
}

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// A build cache that a repository's worktrees share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// cargo's target directory.
    Cargo,
    /// npm's download cache.
    Npm,
    /// pip's download cache.
    Pip,
    /// sccache, as the wrapper of rustc.
    Sccache,
}

impl Cache {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 4] = [("cargo", Self::Cargo), ("npm", Self::Npm), ("pip", Self::Pip), ("sccache", Self::Sccache)];

    /// The variables that make its tool use a directory below `caches`.
    pub fn variables(self, caches: &Path) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Cargo => vec![("CARGO_TARGET_DIR", caches.join("cargo"))],
            Self::Npm => vec![("npm_config_cache", caches.join("npm"))],
            Self::Pip => vec![("PIP_CACHE_DIR", caches.join("pip"))],
            Self::Sccache => vec![("SCCACHE_DIR", caches.join("sccache")), ("RUSTC_WRAPPER", "sccache".into())],
        }
    }
}

/// Where and how one attempt works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The repository.
    pub origin: Origin,
    /// The task's branch: the same at every attempt on that instance.
    pub branch: String,
    /// Several members work in this worktree at once: its one branch is never left, and nothing in it is ever cleaned.
    pub shared: bool,
    /// For the trailers.
    pub id: InstanceId,
    /// For the commit's subject.
    pub kind: TaskType,
    /// Who commits.
    pub author: Author,
    /// What is done about files that were changed without a lock on them; `None` where there are no locks.
    #[serde(default)]
    pub locks: Option<Policy>,
    /// How the work is checked, if it is.
    pub verify: Option<Verify>,
    /// How often the output of a failed check goes back to the agent.
    pub verify_attempts: u32,
    /// The remote that the branch is pushed to, if it is.
    pub push: Option<String>,
    /// The build caches.
    pub caches: Vec<Cache>,
    /// Where they are.
    pub caches_directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_the_environment() {
        for base in [None, Some("main".to_owned())] {
            let origin = Origin { name: "r".to_owned(), source: Source::Path("/srv/r".into()), store: "/w/.repositories/r.git".into(), base };
            let set: std::collections::BTreeMap<_, _> = origin.variables().into_iter().collect();
            assert_eq!(Origin::from_values(VARIABLES.map(|key| set.get(key).cloned())), Ok(Some(origin)));
        }
        assert_eq!(Origin::from_values([const { None }; 4]), Ok(None));
        assert_eq!(Origin::from_values([Some("r".to_owned()), None, None, None]), Err(("CLAUDED_REPOSITORY_SOURCE", "is missing")));
    }

    #[test]
    fn each_cache_is_a_directory_of_its_own_that_its_tool_is_told() {
        let told = |cache: Cache| cache.variables(Path::new("/c")).into_iter().map(|(key, value)| format!("{key}={}", value.display())).collect::<Vec<_>>();
        assert_eq!(told(Cache::Cargo), ["CARGO_TARGET_DIR=/c/cargo"]);
        assert_eq!(told(Cache::Npm), ["npm_config_cache=/c/npm"]);
        assert_eq!(told(Cache::Pip), ["PIP_CACHE_DIR=/c/pip"]);
        assert_eq!(told(Cache::Sccache), ["SCCACHE_DIR=/c/sccache", "RUSTC_WRAPPER=sccache"]);
    }

    #[test]
    fn sources_are_paths_and_urls_that_run_no_program() {
        for good in ["https://example.org/a.git", "ssh://git@example.org:22/a", "git@example.org:a/b.git", "file:///srv/a.git", "host:a"] {
            assert_eq!(good.parse(), Ok(Source::Url(good.to_owned())), "{good}");
        }
        assert_eq!("/srv/a".parse(), Ok(Source::Path("/srv/a".into())));
        for bad in [
            "ext::sh -c x",
            "ext::sh",
            "-x",
            "--upload-pack=x:y",
            "a",
            "",
            "https://",
            "ssh://-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "a b:c",
            "a:\nb",
            "../a:b",
        ] {
            assert!(bad.parse::<Source>().is_err(), "{bad:?} was taken");
        }
        assert!("https://me:secret@example.org/a".parse::<Source>().is_err_and(|e| e.contains("password") && !e.contains("secret")));
    }
}
