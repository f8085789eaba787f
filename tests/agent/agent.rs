//! The scripted agent: speaks the stream-json of Claude Code 2.1.329 as recorded in `tests/samples`, and does what the lines of
//! its prompt say (`script.rs`). For tests and the demonstration; it calls no model.
#![allow(clippy::indexing_slicing, reason = "a program of the tests; `Value` answers null for what it does not have")]

mod flags;
mod hooks;
mod output;
mod script;
mod session;

use flags::Flags;
use output::Output;
use script::{Directive, Failure};
use serde_json::Value;
use session::Session;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The version whose format it speaks.
pub(crate) const VERSION: &str = "2.1.329";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--version") {
        output::line(&format!("{VERSION} (scripted agent)"));
        return ExitCode::SUCCESS;
    }
    let flags = match Flags::parse(&arguments) {
        Ok(flags) => flags,
        Err(why) => return refuse(&why),
    };
    let mut session = match Session::open(&flags) {
        Ok(session) => session,
        Err(why) => {
            if flags.resume.is_some() {
                Output::new(&flags, &Session::default()).unknown_session(&why);
            }
            return refuse(&why);
        }
    };
    let stopped = Arc::new(AtomicBool::new(false));
    let prompts = listen(Arc::clone(&stopped));
    let mut failed = false;
    if let Some(prompt) = script::deaf() {
        return match Turn::new(&flags, &mut session, &stopped, &prompts).play(&prompt) {
            Turned::Ended { error } => ExitCode::from(u8::from(error)),
            Turned::Exit(code) => ExitCode::from(code),
        };
    }
    while let Ok(prompt) = prompts.recv() {
        stopped.store(false, Ordering::SeqCst);
        if !prompt.begins(&mut session, false) {
            continue;
        }
        match Turn::new(&flags, &mut session, &stopped, &prompts).play(&prompt.text) {
            Turned::Ended { error } => failed = error,
            Turned::Exit(code) => return ExitCode::from(code),
        }
    }
    ExitCode::from(u8::from(failed))
}

fn refuse(why: &str) -> ExitCode {
    output::error(&format!("Error: {why}"));
    ExitCode::FAILURE
}

/// Reads user messages from standard input; an interrupt stops the running turn and is answered at once.
fn listen(stopped: Arc<AtomicBool>) -> mpsc::Receiver<Prompt> {
    let (sender, prompts) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(message) = serde_json::from_str::<Value>(&line) else {
                output::error("Error: Invalid JSON on standard input");
                std::process::exit(1);
            };
            match message.get("type").and_then(Value::as_str) {
                Some("user") => {
                    let text = message.pointer("/message/content/0/text").or_else(|| message.pointer("/message/content")).and_then(Value::as_str);
                    let uuid = message.get("uuid").and_then(Value::as_str).map(str::to_owned);
                    if let Some(uuid) = &uuid {
                        output::lifecycle(uuid, "queued");
                    }
                    if sender.send(Prompt { text: text.unwrap_or_default().to_owned(), uuid }).is_err() {
                        return;
                    }
                }
                Some("control_request") if message.pointer("/request/subtype").and_then(Value::as_str) == Some("interrupt") => {
                    stopped.store(script::deaf().is_none(), Ordering::SeqCst);
                    output::line(&output::control_response(&message).to_string());
                }
                _ => {}
            }
        }
    });
    prompts
}

/// A user message, with its number if it has one.
struct Prompt {
    text: String,
    uuid: Option<String>,
}

impl Prompt {
    /// Takes it into the session, and then says so: whoever resumes that finds it there. `false` if the session has had it
    /// already. What comes within a turn is to be acted on `later`.
    fn begins(&self, session: &mut Session, later: bool) -> bool {
        let new = session.takes(self.uuid.as_deref(), &self.text, later);
        if let Some(uuid) = &self.uuid {
            output::lifecycle(uuid, "started");
        }
        new
    }
}

enum Turned {
    Ended { error: bool },
    Exit(u8),
}

/// One turn: the directives of one prompt that the session has not done yet.
struct Turn<'a> {
    flags: &'a Flags,
    session: &'a mut Session,
    stopped: &'a AtomicBool,
    prompts: &'a mpsc::Receiver<Prompt>,
    output: Output,
}

impl<'a> Turn<'a> {
    fn new(flags: &'a Flags, session: &'a mut Session, stopped: &'a AtomicBool, prompts: &'a mpsc::Receiver<Prompt>) -> Self {
        let output = Output::new(flags, session);
        Self { flags, session, stopped, prompts, output }
    }

    fn play(mut self, prompt: &str) -> Turned {
        self.output.init();
        let resumed = self.session.begin(prompt);
        if resumed > 0 && script::deaf().is_none() {
            self.output.text(self.session, &format!("resuming after {resumed} directives that are done"));
        }
        if let Some(turned) = self.boundary() {
            return turned;
        }
        let directives = script::parse(prompt);
        for directive in directives.into_iter().skip(resumed) {
            if let Some(most) = self.flags.max_turns
                && self.session.turns_now() >= most
            {
                return self.end(Failure::MaxTurns(most));
            }
            if let Some(most) = self.flags.max_budget
                && self.session.cost() > most
            {
                return self.end(Failure::Budget(most));
            }
            // Counted before it is done where it ends the process, or the next process would end the same way.
            if directive.ends_the_process() {
                self.session.done();
            }
            match self.perform(&directive, prompt) {
                Some(turned) => return turned,
                None if self.stopped.load(Ordering::SeqCst) => return self.end(Failure::Interrupted),
                None => {}
            }
            if !directive.ends_the_process() {
                self.session.done();
            }
            if let Some(turned) = self.boundary() {
                return turned;
            }
        }
        self.output.result(self.session, None);
        Turned::Ended { error: false }
    }

    /// Between two steps: what has come on standard input meanwhile is put in.
    fn boundary(&mut self) -> Option<Turned> {
        while let Ok(prompt) = self.prompts.try_recv() {
            prompt.begins(self.session, true);
        }
        while let Some(text) = self.session.waiting() {
            for directive in script::parse(&text) {
                if let Some(turned) = self.perform(&directive, &text) {
                    return Some(turned);
                }
            }
            self.session.acted();
        }
        None
    }

    fn end(&mut self, failure: Failure) -> Turned {
        self.output.result(self.session, Some(&failure));
        Turned::Ended { error: true }
    }

    fn write(&mut self, file: &str, text: &str, append: bool) {
        self.output.tool(self.session, "Write", file);
        let opened = std::fs::OpenOptions::new().create(true).write(true).append(append).truncate(!append).open(file);
        if let Err(error) = opened.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())) {
            self.output.text(self.session, &format!("{file}: {error}"));
        }
    }

    fn perform(&mut self, directive: &Directive, prompt: &str) -> Option<Turned> {
        match directive {
            Directive::Say(text) => self.output.text(self.session, text),
            Directive::Output(value) => self.output.structured(self.session, value),
            Directive::NextOutput(file) => {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                if let Ok(value) = serde_json::from_str(first) {
                    let _ = std::fs::write(file, rest);
                    self.output.structured(self.session, &value);
                }
            }
            Directive::Cost(usd) => self.session.charge(*usd),
            Directive::Turns(n) => (0..*n).for_each(|_| self.output.tool(self.session, "Bash", "true")),
            Directive::Write(file, text) => self.write(file, text, false),
            Directive::Append(file, text) => self.write(file, text, true),
            Directive::Edit(tool, file, text) => match hooks::run(self.flags, &self.session.id, "PreToolUse", tool, file) {
                Some(reason) => self.output.text(self.session, &format!("PreToolUse:{tool} hook error: {reason}")),
                None => {
                    self.write(file, text, false);
                    hooks::run(self.flags, &self.session.id, "PostToolUse", tool, file);
                }
            },
            Directive::Pid(file) => self.write(file, &std::process::id().to_string(), false),
            Directive::Once(directive) => return self.perform(directive, prompt),
            Directive::Sleep(time) => {
                self.output.tool(self.session, "Bash", &format!("sleep {}", time.as_secs_f64()));
                script::wait(*time, self.stopped);
            }
            Directive::Run(line) => {
                self.output.tool(self.session, "Bash", line);
                let done = std::process::Command::new("sh").args(["-c", line]).stdin(std::process::Stdio::null()).output();
                self.output.text(self.session, &done.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into_owned()));
            }
            Directive::Await(file) => {
                while !std::path::Path::new(file).exists() && !self.stopped.load(Ordering::SeqCst) {
                    script::wait(Duration::from_millis(50), self.stopped);
                    // Many short steps.
                    if let Some(turned) = self.boundary() {
                        return Some(turned);
                    }
                }
            }
            Directive::Hang => script::wait(Duration::MAX, self.stopped),
            Directive::Fail(failure) => {
                self.output.before(failure);
                return Some(self.end(failure.clone()));
            }
            Directive::LongLine(bytes) => output::long_line(*bytes),
            Directive::Garbage => output::garbage(),
            Directive::HalfUtf8 => output::half_utf8(),
            Directive::NoResult => return Some(Turned::Exit(0)),
            Directive::Exit(code) => return Some(Turned::Exit(*code)),
            Directive::Burn(burn) => {
                self.output.tool(self.session, "Bash", &format!("{burn:?}"));
                burn.perform(self.stopped);
            }
            Directive::IgnoreSignals => {
                output::error(&format!("sh: {}", script::become_deaf(&self.session.id, prompt)));
                return Some(Turned::Exit(1));
            }
            Directive::Crash => std::process::abort(),
        }
        None
    }
}
