//! The program `clauded-runner`; all of it is in [`clauded::runner`].

fn main() -> std::process::ExitCode {
    clauded::runner::run()
}
