//! The program `claudectl`; all of it is in [`clauded::ctl`].

fn main() -> std::process::ExitCode {
    clauded::ctl::run()
}
