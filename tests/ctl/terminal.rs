//! What only a terminal gets: colour, and the line that moves while something is waited for. script(1) is the terminal; it shows
//! standard output and standard error in one, as people see them.

use crate::fake::{Fake, Ran, answer, finish, until, wait};
use crate::tasks::{Life, looked};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

const LIST: &str = "task list --state failed";

fn failed() -> Fake {
    Fake::new(|_, out| crate::fake::answer(out, 200, &format!("[{}]", crate::fake::task(12, "failed", 1))))
}

/// claudectl in a terminal of its own. No argument has a blank in it.
fn on_a_terminal(fake: &Fake, arguments: &str) -> Command {
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("{} {arguments}", env!("CARGO_BIN_EXE_claudectl")), "/dev/null"]).env("CLAUDED_SOCKET", fake.socket());
    script.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    script
}

fn coloured(ran: &Ran) -> bool {
    assert!(ran.code == Some(0) && ran.out.contains("(oom)"), "{ran:?}");
    ran.out.contains("\x1b[31m")
}

#[test]
fn colour_is_for_terminals_and_for_those_who_want_it() {
    let fake = failed();
    assert!(coloured(&finish(on_a_terminal(&fake, LIST))));
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = on_a_terminal(&fake, LIST);
        command.env(variable, value);
        assert!(!coloured(&finish(command)), "{variable}={value}");
    }
    let ran = fake.run(&LIST.split(' ').collect::<Vec<_>>());
    assert!(!coloured(&ran) && !ran.out.contains('\x1b'), "{ran:?}");
}

/// In a pipe there is none: `waiting_ends_with_the_task` holds standard error to nothing at all.
#[test]
fn waiting_shows_on_a_terminal_what_is_waited_for() {
    // It is drawn before the second look, a second after the first; without it there are no looks in between.
    for (arguments, shown, looks) in [("task wait 12", true, 2), ("task wait 12 -o json", false, 1)] {
        let life = Life::new("running", 1);
        let fake = life.fake();
        let child = on_a_terminal(&fake, arguments).spawn().expect("script(1) starts");
        until("these looks", || looked(&fake) >= looks);
        life.set("succeeded", 1);
        let ran = wait(child);
        assert_eq!((ran.code, ran.out.contains("task 12 running on a (added ")), (Some(0), shown), "{ran:?}");
    }
}

/// A line of two for one file, as clauded shows it: all of it, or to who asks with its own ticket that one's place alone.
#[derive(Default)]
struct Line {
    /// The ticket that was drawn, and whether the lock is given at last.
    drawn: Mutex<(Option<String>, bool)>,
    moved: Condvar,
}

impl Line {
    fn fake(self: &Arc<Self>) -> Fake {
        let line = self.clone();
        let row = |owner: &str, position: u32, way: &str| {
            json!({"place": "shop", "kind": "path", "pattern": "x", "mode": "exclusive", "owner": owner, "instance": null,
                "since": "2026-11-21T10:00:00Z", "position": position, "waits_for": way})
        };
        let (first, own) = (row("b", 1, "x is held by a"), row("me", 2, "x is held by a; b waits for x and comes first"));
        Fake::new(move |asked, out| match (asked.line.as_str(), serde_json::from_str::<Value>(&asked.body).unwrap_or_default()) {
            ("POST /api/v1/locks", lock) if lock.get("wait_seconds").is_none() => {
                answer(out, 409, r#"{"type":"","title":"","status":409,"code":"locked","detail":"x is held by a. You may wait"}"#);
            }
            ("POST /api/v1/locks", lock) => {
                let mut drawn = line.drawn.lock().expect("lock");
                drawn.0 = lock.get("ticket").and_then(Value::as_str).map(str::to_owned);
                drop(line.moved.wait_while(drawn, |drawn| !drawn.1).expect("lock"));
                answer(
                    out,
                    200,
                    &json!({"result": "created", "id": 7, "place": "shop", "kind": "path", "pattern": "x", "mode": "exclusive", "owner": "me",
                    "instance": null, "task": null, "person": "me", "reason": "", "since": "2026-11-21T10:00:00Z", "expires": "2026-11-21T11:00:00Z"})
                    .to_string(),
                );
            }
            (asked, _) => {
                let ticket = asked.strip_prefix("GET /api/v1/locks?ticket=");
                let own_alone = ticket.is_some() && ticket == line.drawn.lock().expect("lock").0.as_deref();
                let waiting = if own_alone {
                    vec![own.clone()]
                } else if ticket.is_some() {
                    vec![]
                } else {
                    vec![first.clone(), own.clone()]
                };
                answer(out, 200, &json!({"locks": [], "waiting": waiting}).to_string());
            }
        })
    }

    fn give(&self) {
        self.drawn.lock().expect("lock").1 = true;
        self.moved.notify_all();
    }
}

/// The next look comes after the answer to the one before has been shown.
fn looked_for_its_place(fake: &Fake, line: &Line) -> bool {
    let ticket = line.drawn.lock().expect("lock").0.clone();
    let own = |ticket: String| fake.asked().iter().filter(|asked| asked.line.ends_with(&ticket)).count() > 2;
    ticket.is_some_and(own) || fake.asked().iter().filter(|asked| asked.line == "GET /api/v1/locks").count() > 2
}

#[test]
fn who_waits_for_a_lock_sees_its_own_place_in_line_and_who_holds_it() {
    for terminal in [true, false] {
        let line = Arc::<Line>::default();
        let fake = line.fake();
        let arguments = "lock acquire --repository shop x --wait";
        let mut command = if terminal { on_a_terminal(&fake, arguments) } else { fake.ctl(&arguments.split(' ').collect::<Vec<_>>()) };
        let child = command.spawn().expect("it starts");
        until("its place is looked for", || looked_for_its_place(&fake, &line));
        line.give();
        let ran = wait(child);
        assert!(ran.code == Some(0) && ran.out.contains("lock 7 on x"), "{ran:?}");
        let shown = if terminal { &ran.out } else { &ran.err };
        assert!(shown.contains("place 2 in line: x is held by a; b waits for x and comes first") && !shown.contains("place 1"), "{ran:?}");
        if !terminal {
            assert_eq!(ran.err.lines().count(), 2, "whom it waits for, and its place, once each: {ran:?}");
        }
    }
}
