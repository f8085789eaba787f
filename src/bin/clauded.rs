//! The program `clauded`; all of it is in [`clauded::daemon`].

fn main() -> std::process::ExitCode {
    clauded::daemon::run()
}
