//! Any program: the prompt on its standard input, judged by its exit status.

use super::{Agent, Condition, Interrupt, Stream, Totals, WORDS_MAX, tail};
use crate::core::attempt::{Exit, Reason};
use crate::core::ids::SessionId;
use crate::core::verdict::AgentVerdict;
use crate::proto::link::Work;
use uuid::Uuid;

pub(super) struct Command {
    prompt: String,
    follow_up: Option<String>,
    out: String,
    last_error: String,
    condition: Condition,
}

impl Command {
    pub(super) fn new(work: &Work) -> Self {
        let condition = Condition { doing: "running".to_owned(), ..Condition::default() };
        Self { prompt: work.prompt.clone(), follow_up: None, out: String::new(), last_error: String::new(), condition }
    }
}

impl Agent for Command {
    fn arguments(&self) -> Vec<String> {
        Vec::new()
    }

    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn input(&self) -> Vec<u8> {
        match &self.follow_up {
            Some(words) => format!("{}\n\n{words}", self.prompt).into_bytes(),
            None => self.prompt.clone().into_bytes(),
        }
    }

    fn message(&self, _uuid: Uuid, _text: &str) -> Option<Vec<u8>> {
        None
    }

    fn taken(&mut self) -> Vec<Uuid> {
        Vec::new()
    }

    fn input_done(&self) -> bool {
        true
    }

    fn line(&mut self, stream: Stream, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        match stream {
            Stream::Err if text.trim().is_empty() => {}
            Stream::Err => tail(&text, 400).clone_into(&mut self.last_error),
            Stream::Out => {
                self.out.push_str(tail(&text, WORDS_MAX));
                self.out.push('\n');
                if self.out.len() > 2 * WORDS_MAX {
                    self.out = tail(&self.out, WORDS_MAX).to_owned();
                }
            }
        }
    }

    fn interrupt(&self, _input_open: bool) -> Interrupt {
        Interrupt::Group
    }

    fn terminate_group(&self) -> bool {
        true
    }

    fn again(&mut self, _exit: Exit) -> Option<&'static str> {
        None
    }

    /// It has no conversation to go on with, so it is told all.
    fn follow_up(&mut self, words: String) {
        self.follow_up = Some(words);
        self.out.clear();
        self.last_error.clear();
    }

    fn condition(&self) -> &Condition {
        &self.condition
    }

    fn session(&self) -> Option<SessionId> {
        None
    }

    fn totals(&self) -> Option<Totals> {
        None
    }

    fn verdict(&self, exit: Exit) -> AgentVerdict {
        match exit {
            Exit::Code(0) => AgentVerdict::Success,
            Exit::Code(code) if self.last_error.is_empty() => {
                AgentVerdict::Error { reason: Reason::AgentError, transient: false, text: format!("it exited with status {code}") }
            }
            Exit::Code(code) => {
                let text = format!("it exited with status {code}: {}", self.last_error);
                AgentVerdict::Error { reason: Reason::AgentError, transient: false, text }
            }
            Exit::Signal(_) => AgentVerdict::Silent,
        }
    }

    fn last_words(&self) -> String {
        tail(self.out.trim_end(), WORDS_MAX).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command { prompt: "p".into(), follow_up: None, out: String::new(), last_error: String::new(), condition: Condition::default() }
    }

    #[test]
    fn the_exit_status_decides_and_the_last_error_explains() {
        let mut command = command();
        command.line(Stream::Err, b"no such model");
        command.line(Stream::Err, b"");
        assert_eq!(command.verdict(Exit::Code(0)), AgentVerdict::Success);
        assert!(matches!(command.verdict(Exit::Code(3)), AgentVerdict::Error { text, .. } if text == "it exited with status 3: no such model"));
        assert_eq!(command.verdict(Exit::Signal(9)), AgentVerdict::Silent);
    }

    #[test]
    fn the_tail_is_kept_within_its_bound() {
        let mut command = command();
        for n in 0..20_000 {
            command.line(Stream::Out, format!("line {n} é\u{0}").as_bytes());
        }
        command.line(Stream::Out, b"half \xc3");
        let words = command.last_words();
        assert!(words.len() <= WORDS_MAX && words.contains("line 19999") && words.ends_with("half \u{fffd}"), "{} bytes", words.len());
    }
}
