//! What the service manager is told (sd_notify(3)): readiness, what the instance is doing, in words, and that it is alive.

use sd_notify::NotifyState;
use std::time::Duration;

/// The line to the service manager; silent where there is none.
#[derive(Debug, Default)]
pub(super) struct Status {
    last: String,
}

impl Status {
    /// The runner is ready for work.
    pub(super) fn ready(&mut self, text: &str) {
        send(&[NotifyState::Ready]);
        self.show(text);
    }

    /// What it is doing, if that is new.
    pub(super) fn show(&mut self, text: &str) {
        let text = clean(text);
        if text != self.last {
            send(&[NotifyState::Status(&text)]);
            self.last = text;
        }
    }

    /// The main loop goes round.
    pub(super) fn alive(&self) {
        send(&[NotifyState::Watchdog]);
    }

    /// It is about to exit.
    pub(super) fn stopping(&mut self, text: &str) {
        send(&[NotifyState::Stopping]);
        self.show(text);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}

/// sd-notify does not escape: a newline would begin another assignment.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// How long, roughly: `12 s`, `3 min`, `2 h 5 min`.
pub(super) fn roughly(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_speak_to_the_service_manager() {
        assert_eq!(clean("a\nMAINPID=1\u{1b}[31m\u{85}"), "a MAINPID=1 [31m ");
        assert_eq!(clean(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn times_are_rough() {
        let words: Vec<String> = [5, 61, 7500].map(|s| roughly(Duration::from_secs(s))).into();
        assert_eq!(words, ["5 s", "1 min", "2 h 5 min"]);
    }
}
