//! The runner that the supervisors start: this executable, told by its environment. Its instance's name says how it behaves.

use sd_notify::{NotifyState, notify};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Says that this process is to be the runner.
pub(crate) const MARK: &str = "CLAUDED_CONTRACT_RUNNER";

/// The instance's name, if this process is to be its runner.
pub(crate) fn is_asked_for() -> Option<String> {
    std::env::var_os(MARK)?;
    std::env::args().nth(1)
}

fn say(state: &[NotifyState<'_>]) {
    notify(state).expect("the notify socket");
}

/// Behaves as the part of the name before the first dash says.
pub(crate) fn run(name: &str) -> ExitCode {
    match name.split('-').next().unwrap_or_default() {
        "good" => ready("good and ready"),
        "gated" => {
            let socket = std::env::var_os("NOTIFY_SOCKET").expect("the notify socket");
            while !std::path::Path::new(&socket).with_file_name("go").exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            ready("gated and ready")
        }
        "failing" => {
            say(&[NotifyState::Ready, NotifyState::Status("about to fail")]);
            ExitCode::from(1)
        }
        "config" => {
            say(&[NotifyState::Status("no such directory: /nowhere")]);
            ExitCode::from(78)
        }
        "deaf" => {
            say(&[NotifyState::Ready]);
            for_ever()
        }
        "slow" => for_ever(),
        "stubborn" => {
            let mut term = nix::sys::signal::SigSet::empty();
            term.add(nix::sys::signal::Signal::SIGTERM);
            term.thread_block().expect("blocked");
            ready("stubborn")
        }
        "brood" => {
            // In a session of its own, and nobody's child: what an agent may leave behind.
            let mut parent = Command::new("setsid").args(["-f", "sh", "-c", "echo $$; exec sleep 1000"]).stdout(Stdio::piped()).spawn().expect("setsid");
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(parent.stdout.take().expect("piped")), &mut line).expect("a line");
            parent.wait().expect("it forks and ends");
            ready(&format!("child {}", line.trim()))
        }
        other => {
            eprintln!("no such behaviour: {other}");
            ExitCode::from(2)
        }
    }
}

fn ready(status: &str) -> ExitCode {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
    let period = sd_notify::watchdog_enabled().unwrap_or(Duration::from_secs(10)) / 4;
    loop {
        std::thread::sleep(period);
        // The socket is missing while the daemon is restarted; the runner goes on.
        let _ = notify(&[NotifyState::Watchdog]);
    }
}

fn for_ever() -> ExitCode {
    loop {
        std::thread::park();
    }
}
