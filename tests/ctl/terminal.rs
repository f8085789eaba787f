//! What only a terminal gets: colour, and the line that moves while something is waited for. script(1) is the terminal; it shows
//! standard output and standard error in one, as people see them.

use crate::fake::{Fake, Ran, finish, until, wait};
use crate::tasks::{Life, looked};
use std::process::{Command, Stdio};

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
        until("these looks", || looked(&fake) == looks);
        life.set("succeeded", 1);
        let ran = wait(child);
        assert_eq!((ran.code, ran.out.contains("task 12 running on a (added ")), (Some(0), shown), "{ran:?}");
    }
}
