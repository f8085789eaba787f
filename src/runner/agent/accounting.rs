//! From the agent's cumulative account of a session to what one attempt used.

use super::stream::{ModelUsage, Outcome};
use crate::core::ids::SessionId;
use crate::core::usage::{AgentUsage, Tokens, Usd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a session had used by a certain moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::runner) struct Totals {
    /// The session.
    pub(in crate::runner) session: SessionId,
    /// Cost.
    pub(in crate::runner) cost: Usd,
    /// Tokens by model.
    pub(in crate::runner) tokens: BTreeMap<String, Tokens>,
}

/// The account of one attempt.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What the session had used before this attempt's process began; stays empty for versions that count per process.
    before: (Usd, BTreeMap<String, Tokens>),
    /// What the attempt's earlier processes have used, for versions that count per process.
    carried: AgentUsage,
    /// What was settled by results so far.
    settled: AgentUsage,
    /// Input tokens of answers that no result has settled yet, by model: what there is if none comes.
    open: BTreeMap<String, Tokens>,
    /// The last answer counted in `open`: one answer comes in several events.
    last_answer: String,
    tool_calls: u64,
    /// The last result's cumulative figures.
    pub(super) cumulative: (Usd, BTreeMap<String, Tokens>),
}

/// The last version whose totals began at nothing with every process.
const PER_PROCESS: (u64, u64, u64) = (2, 1, 197);

fn version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Whether that version's totals go on over a resumption.
pub(super) fn counts_over_sessions(program_version: &str) -> bool {
    version(program_version).is_some_and(|v| v > PER_PROCESS)
}

fn tokens(usage: &BTreeMap<String, ModelUsage>) -> BTreeMap<String, Tokens> {
    usage.iter().map(|(model, u)| (model.clone(), u.tokens())).collect()
}

impl Account {
    /// The session's totals from before go off what results say without their own difference.
    pub(super) fn starts_from(&mut self, before: &Totals) {
        self.before = (before.cost, before.tokens.clone());
    }

    /// An answer of the model began. Its output tokens are not known yet.
    pub(super) fn answer(&mut self, id: &str, model: &str, input: Tokens) {
        if self.last_answer != id {
            id.clone_into(&mut self.last_answer);
            let open = self.open.entry(model.to_owned()).or_default();
            *open = sum(*open, Tokens { output: 0, ..input });
        }
    }

    /// The agent calls a tool.
    pub(super) fn tool_call(&mut self) {
        self.tool_calls = self.tool_calls.saturating_add(1);
    }

    /// A result settles what went before it.
    pub(super) fn result(&mut self, outcome: &Outcome) {
        self.open.clear();
        self.settled.turns = self.settled.turns.saturating_add(outcome.num_turns);
        let total = (Usd::from_dollars(outcome.total_cost_usd), tokens(&outcome.model_usage));
        match &outcome.since_last_result {
            Some(since) => {
                for (model, used) in since {
                    self.settled.cost += Usd::from_dollars(used.cost_usd);
                    let entry = self.settled.tokens.entry(model.clone()).or_default();
                    *entry = sum(*entry, used.tokens());
                }
            }
            None => {
                self.settled.cost = total.0 - self.before.0;
                self.settled.tokens =
                    total.1.iter().map(|(model, t)| (model.clone(), t.since(self.before.1.get(model).copied().unwrap_or_default()))).collect();
                self.settled.tokens.retain(|_, t| t.total() > 0);
            }
        }
        self.cumulative = total;
    }

    /// Another process of the attempt begins.
    pub(super) fn next_process(&mut self, over_sessions: bool) {
        if !over_sessions {
            let used = std::mem::take(&mut self.settled);
            self.carried = add(&self.carried, &used);
        }
    }

    /// What the attempt has used so far.
    pub(super) fn usage(&self) -> AgentUsage {
        let mut usage = AgentUsage { tool_calls: self.tool_calls, ..add(&self.carried, &self.settled) };
        for (model, open) in &self.open {
            let entry = usage.tokens.entry(model.clone()).or_default();
            *entry = sum(*entry, *open);
        }
        usage
    }
}

fn add(a: &AgentUsage, b: &AgentUsage) -> AgentUsage {
    let mut total = AgentUsage { turns: a.turns.saturating_add(b.turns), cost: a.cost, ..a.clone() };
    total.cost += b.cost;
    for (model, tokens) in &b.tokens {
        let entry = total.tokens.entry(model.clone()).or_default();
        *entry = sum(*entry, *tokens);
    }
    total
}

fn sum(a: Tokens, b: Tokens) -> Tokens {
    Tokens {
        input: a.input.saturating_add(b.input),
        output: a.output.saturating_add(b.output),
        cache_read: a.cache_read.saturating_add(b.cache_read),
        cache_creation: a.cache_creation.saturating_add(b.cache_creation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(counts_over_sessions("2.1.329") && counts_over_sessions("2.1.329 (Claude Code)") && counts_over_sessions("3.0.0"));
        assert!(!counts_over_sessions("2.1.197") && !counts_over_sessions("1.0.128") && !counts_over_sessions("") && !counts_over_sessions("x"));
    }

    #[test]
    fn processes_of_one_attempt_add_up_however_the_program_counts() {
        let outcome = |cost: f64| Outcome { num_turns: 1, total_cost_usd: cost, ..Outcome::default() };
        for (over_sessions, second, sum) in [(true, 0.75, 0.75), (false, 0.25, 0.75)] {
            let mut account = Account::default();
            account.result(&outcome(0.5));
            account.next_process(over_sessions);
            account.result(&outcome(second));
            assert_eq!((account.usage().cost, account.usage().turns), (Usd::from_dollars(sum), 2), "{over_sessions}");
        }
    }

    #[test]
    fn several_events_of_one_answer_count_once() {
        let mut account = Account::default();
        let input = Tokens { input: 10, output: 1, cache_read: 3, cache_creation: 0 };
        account.answer("m1", "opus", input);
        account.answer("m1", "opus", input);
        account.answer("m2", "opus", input);
        assert_eq!(account.usage().tokens["opus"], Tokens { input: 20, output: 0, cache_read: 6, cache_creation: 0 });
    }
}
