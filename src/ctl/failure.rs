//! Why a command did not do as asked, and the exit code that says so. The codes are documented in [`super::args::EXIT_STATUS`].

use crate::proto::api::Problem;
use std::path::PathBuf;

/// How a command ended that did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is well: exit code 0.
    Done,
    /// The answer is "no", and it has been printed: exit code 1.
    Negative,
}

/// Why a command did not do as asked. Each message says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Permission(String),
    #[error("{0}")]
    NotRunning(String),
    #[error("{0}")]
    TimedOut(String),
    #[error("{0}")]
    Interrupted(String),
    #[error("{}", refusal(.0))]
    Api(Box<Problem>),
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
    /// Whoever read standard output has gone (`claudectl … | head`): no error, and nothing to say.
    #[error("nobody reads standard output any more")]
    ReaderGone,
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}

fn refusal(problem: &Problem) -> String {
    let text = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let text = if text.is_empty() { format!("clauded answered with HTTP status {}", problem.status) } else { text.clone() };
    match problem.status {
        401 => format!("{text}; give the token with --token-file (its path on the host is [api] token-file, by default /var/lib/clauded/token)"),
        _ => text,
    }
}

impl Failure {
    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed(_) | Self::Read { .. } | Self::Write { .. } | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Permission(_) => 4,
            Self::NotRunning(_) => 5,
            Self::TimedOut(_) => 6,
            Self::Interrupted(_) => 130,
            Self::Api(problem) => match problem.status {
                404 => 3,
                401 | 403 => 4,
                _ => 7,
            },
        }
    }

    /// Whether clauded has as many live feeds open as it allows.
    pub(super) fn too_many_streams(&self) -> bool {
        matches!(self, Self::Api(problem) if problem.code == "too-many-streams")
    }

    /// The error as one JSON object: the message, the exit code, and the API's problem document where there is one.
    pub(super) fn json(&self) -> String {
        let problem = match self {
            Self::Api(problem) => Some(problem),
            _ => None,
        };
        serde_json::json!({ "error": self.to_string(), "exit_code": self.code(), "problem": problem }).to_string()
    }
}

/// For what is to be done all the same when nobody reads what it prints.
pub(super) fn read_or_not(printed: Result<(), Failure>) -> Result<(), Failure> {
    match printed {
        Err(Failure::ReaderGone) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, detail: &str) -> Failure {
        Failure::Api(Box::new(Problem { status, detail: detail.into(), code: "c".into(), ..Problem::default() }))
    }

    #[test]
    fn codes_follow_the_status() {
        for (status, code) in [(404, 3), (401, 4), (403, 4), (400, 7), (409, 7), (422, 7), (500, 7), (507, 7)] {
            assert_eq!(api(status, "x").code(), code, "HTTP {status}");
        }
    }

    #[test]
    fn messages_say_something_even_if_the_daemon_does_not() {
        assert_eq!(api(409, "").to_string(), "clauded answered with HTTP status 409");
        assert_eq!(api(409, "the task has ended").to_string(), "the task has ended");
        assert!(api(401, "no token").to_string().contains("--token-file"));
    }

    #[test]
    fn json_has_the_problem() {
        let value: serde_json::Value = serde_json::from_str(&api(404, "no task 9").json()).expect("JSON");
        assert_eq!((value["error"].as_str(), value["exit_code"].as_u64(), value["problem"]["status"].as_u64()), (Some("no task 9"), Some(3), Some(404)));
    }
}
