//! What an error of the Claude Code CLI means: whose fault it is and whether it may pass by itself.

use super::stream::Outcome;
use super::{WORDS_MAX, head};
use crate::core::attempt::Reason;
use crate::core::verdict::AgentVerdict;
use jiff::Timestamp;

/// What was seen beside the result.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// The kind that the last synthetic answer named: `rate_limit`, `server_error`, `authentication_failed`, …
    pub(super) error: String,
    /// The last answer about the account's limit was a refusal.
    pub(super) limit_rejected: bool,
    /// When that limit resets, seconds since the epoch.
    pub(super) resets_at: Option<i64>,
}

/// The verdict of a result. `is_error` decides, never the subtype, which is `success` for API failures too; versions before 2
/// said `is_error` false at the turn limit, so a subtype that begins with `error` counts as well.
pub(super) fn verdict(outcome: &Outcome, signs: &Signs) -> AgentVerdict {
    if !outcome.is_error && !outcome.subtype.starts_with("error") {
        return AgentVerdict::Success;
    }
    let words = outcome.words();
    let text = if words.is_empty() { format!("the agent ended with {}", outcome.subtype) } else { head(&words, WORDS_MAX).to_owned() };
    let until = signs.resets_at.and_then(|s| Timestamp::from_second(s).ok());
    let status = outcome.api_error_status;
    if outcome.api_error == "usage_limit_reached" || (signs.limit_rejected && status == Some(429)) {
        return AgentVerdict::Limited { until, text };
    }
    let error = |reason, transient| AgentVerdict::Error { reason, transient, text };
    if outcome.subtype == "error_max_budget_usd" || outcome.terminal_reason == "budget_exhausted" {
        return error(Reason::Budget, false);
    }
    if matches!(signs.error.as_str(), "authentication_failed" | "billing_error") || status == Some(401) || logged_out(&words) {
        return error(Reason::Auth, false);
    }
    error(Reason::AgentError, passes(outcome, signs, &words))
}

/// The verdict of a program that ended with an error and these words on standard error, and never came to a result.
pub(super) fn refusal(words: &str) -> AgentVerdict {
    if words.contains("cannot be used with root") {
        let text = format!(
            "it does not run as root without asking ({words}); run the instance as another user ([instances.NAME] user), or set permission-mode = \"acceptEdits\" \
             in its profile, or, in a container made for it, IS_SANDBOX = \"1\" in the profile's environment"
        );
        return AgentVerdict::Error { reason: Reason::Spawn, transient: false, text };
    }
    AgentVerdict::Error { reason: Reason::AgentError, transient: false, text: words.to_owned() }
}

fn logged_out(words: &str) -> bool {
    ["Not logged in", "Please run /login", "Invalid API key", "Credit balance is too low", "OAuth token has expired"].iter().any(|sign| words.contains(sign))
}

/// Whether the same attempt may well succeed later.
fn passes(outcome: &Outcome, signs: &Signs, words: &str) -> bool {
    matches!(signs.error.as_str(), "rate_limit" | "server_error" | "overloaded")
        || outcome.api_error_status.is_some_and(|s| s == 408 || s == 429 || s >= 500)
        || (outcome.terminal_reason == "api_error"
            && outcome.api_error_status.is_none()
            && ["onnection", "imed out", "imeout", "fetch failed", "verloaded"].iter().any(|sign| words.contains(sign)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(error: &str, json: serde_json::Value) -> AgentVerdict {
        let outcome = serde_json::from_value(json).expect("an outcome");
        verdict(&outcome, &Signs { error: error.to_owned(), ..Signs::default() })
    }

    fn is(verdict: &AgentVerdict, wanted: Reason, passes: bool) -> bool {
        matches!(verdict, AgentVerdict::Error { reason, transient, .. } if *reason == wanted && *transient == passes)
    }

    #[test]
    fn errors_are_sorted() {
        use serde_json::json;
        let api = |status: serde_json::Value, words: &str| json!({"subtype":"success","is_error":true,"terminal_reason":"api_error","api_error_status":status,"result":words});
        assert!(is(&judge("authentication_failed", api(json!(401), "Invalid API key")), Reason::Auth, false));
        assert!(is(&judge("unknown", api(json!(null), "Not logged in · Please run /login")), Reason::Auth, false));
        assert!(is(&judge("billing_error", api(json!(400), "Credit balance is too low")), Reason::Auth, false));
        assert!(is(&judge("server_error", api(json!(529), "Repeated 529")), Reason::AgentError, true));
        assert!(is(&judge("rate_limit", api(json!(429), "Request rejected (429)")), Reason::AgentError, true));
        assert!(is(&judge("unknown", api(json!(null), "API Error: Connection error.")), Reason::AgentError, true));
        assert!(is(&judge("invalid_request", api(json!(400), "Prompt is too long")), Reason::AgentError, false));
        assert!(is(&judge("", json!({"subtype":"error_max_turns","is_error":false})), Reason::AgentError, false));
        assert!(is(&judge("", json!({"subtype":"error_max_budget_usd","is_error":true})), Reason::Budget, false));
        assert_eq!(judge("", json!({"subtype":"success","is_error":false,"result":"Not logged in is what I fixed"})), AgentVerdict::Success);
    }

    #[test]
    fn a_refusal_to_run_as_root_says_what_to_do() {
        let refused = refusal("--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons");
        assert!(is(&refused, Reason::Spawn, false) && format!("{refused:?}").contains("permission-mode"), "{refused:?}");
        assert!(is(&refusal("error: unknown option '--x'"), Reason::AgentError, false));
    }

    #[test]
    fn a_usage_limit_carries_its_reset() {
        let outcome: Outcome = serde_json::from_value(serde_json::json!({"is_error":true,"api_error_status":429,"result":"limit"})).expect("an outcome");
        let signs = Signs { limit_rejected: true, resets_at: Some(1_795_252_704), error: "rate_limit".into() };
        assert!(matches!(verdict(&outcome, &signs), AgentVerdict::Limited { until: Some(t), .. } if t.as_second() == 1_795_252_704));
        let allowed = Signs { limit_rejected: false, ..signs };
        assert!(is(&verdict(&outcome, &allowed), Reason::AgentError, true));
    }
}
