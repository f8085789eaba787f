//! A conversation, kept in CLAUDE_CONFIG_DIR so that a later process goes on where this one was ended.

use crate::flags::Flags;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

#[derive(Debug, Default)]
pub(crate) struct Session {
    path: PathBuf,
    pub id: String,
    prompt: String,
    done: usize,
    /// The numbers of the messages that it has had.
    had: Vec<String>,
    /// All that was said to it, as often as it has it.
    heard: Vec<String>,
    /// Those that are not acted on yet.
    open: Vec<String>,
    /// Over the whole session, as 2.1.329 counts.
    cost: f64,
    tokens: [u64; 4],
    /// Of this turn.
    turn_cost: f64,
    turn_tokens: [u64; 4],
    turns: u64,
    pub results: u64,
}

/// Per answer: input, output, cache read, cache creation, as the recorded runs have them.
const ANSWER: [u64; 4] = [1000, 50, 300, 200];
const ANSWER_COST: f64 = 0.00606;

impl Session {
    /// Makes the session of `--session-id`, or finds the one of `--resume`.
    pub(crate) fn open(flags: &Flags) -> Result<Self, String> {
        let config = std::env::var("CLAUDE_CONFIG_DIR").unwrap_or_else(|_| ".".to_owned());
        let directory = PathBuf::from(config).join("scripted-sessions");
        fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let id = flags.resume.clone().or_else(|| flags.session.clone()).unwrap_or_else(|| "00000000-0000-4000-8000-000000000000".to_owned());
        let mut session = Self { path: directory.join(format!("{id}.json")), id, ..Self::default() };
        match (fs::read(&session.path), &flags.resume) {
            (Ok(_), None) => return Err(format!("Session ID {} is already in use.", session.id)),
            (Err(_), Some(id)) => return Err(format!("No conversation found with session ID: {id}")),
            (Ok(bytes), Some(_)) => session.load(&bytes),
            (Err(_), None) => session.save(),
        }
        Ok(session)
    }

    fn load(&mut self, bytes: &[u8]) {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        self.prompt = value["prompt"].as_str().unwrap_or_default().to_owned();
        self.had = value["had"].as_array().into_iter().flatten().filter_map(|uuid| uuid.as_str().map(str::to_owned)).collect();
        self.heard = value["heard"].as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect();
        self.open = value["open"].as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect();
        self.done = value["done"].as_u64().unwrap_or(0) as usize;
        self.cost = value["cost"].as_f64().unwrap_or(0.0);
        for (n, total) in self.tokens.iter_mut().enumerate() {
            *total = value["tokens"][n].as_u64().unwrap_or(0);
        }
    }

    fn save(&self) {
        let value = json!({"prompt": self.prompt, "done": self.done, "had": self.had, "heard": self.heard, "open": self.open, "cost": self.cost, "tokens": self.tokens});
        let draft = self.path.with_extension("new");
        let _ = fs::write(&draft, value.to_string()).and_then(|()| fs::rename(&draft, &self.path));
    }

    /// A prompt comes; answers how many of its directives were done before, if it is the same one again.
    pub(crate) fn begin(&mut self, prompt: &str) -> usize {
        (self.turn_cost, self.turn_tokens, self.turns) = (0.0, [0; 4], 0);
        if self.prompt != prompt {
            prompt.clone_into(&mut self.prompt);
            self.done = 0;
        }
        self.save();
        self.done
    }

    /// A message comes, maybe to be acted on later; answers whether it is new.
    pub(crate) fn takes(&mut self, uuid: Option<&str>, text: &str, later: bool) -> bool {
        if uuid.is_some_and(|uuid| self.had.iter().any(|had| had == uuid)) {
            return false;
        }
        self.had.extend(uuid.map(str::to_owned));
        self.heard.push(text.to_owned());
        self.open.extend(later.then(|| text.to_owned()));
        self.save();
        true
    }

    /// The oldest message that is not acted on yet.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.open.first().cloned()
    }

    /// It is.
    pub(crate) fn acted(&mut self) {
        if !self.open.is_empty() {
            self.open.remove(0);
            self.save();
        }
    }

    pub(crate) fn done(&mut self) {
        self.done += 1;
        self.save();
    }

    /// The model answered once.
    pub(crate) fn answered(&mut self) {
        self.turns += 1;
        for (n, count) in ANSWER.iter().enumerate() {
            self.tokens[n] += count;
            self.turn_tokens[n] += count;
        }
        self.charge(ANSWER_COST);
    }

    pub(crate) fn charge(&mut self, usd: f64) {
        self.cost += usd;
        self.turn_cost += usd;
        self.save();
    }

    pub(crate) fn cost(&self) -> f64 {
        self.cost
    }

    pub(crate) fn turns_now(&self) -> u64 {
        self.turns
    }

    /// `modelUsage` over the session, and since the last result.
    pub(crate) fn usage(&self, model: &str) -> (Value, Value) {
        let of = |tokens: &[u64; 4], cost: f64| {
            if cost == 0.0 {
                return json!({});
            }
            json!({model: {"inputTokens": tokens[0], "outputTokens": tokens[1], "cacheReadInputTokens": tokens[2], "cacheCreationInputTokens": tokens[3],
                "thinkingTokens": 0, "cacheCreationEphemeral5mInputTokens": 0, "cacheCreationEphemeral1hInputTokens": 0, "webSearchRequests": 0,
                "costUSD": cost, "contextWindow": 1_000_000, "maxOutputTokens": 128_000, "canonicalModel": model, "provider": "firstParty", "costBasis": "list"}})
        };
        (of(&self.tokens, self.cost), of(&self.turn_tokens, self.turn_cost))
    }

    /// This turn's tokens.
    pub(crate) fn turn_tokens(&self) -> [u64; 4] {
        self.turn_tokens
    }
}
