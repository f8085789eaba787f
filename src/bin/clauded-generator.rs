//! The program `clauded-generator`; all of it is in [`clauded::generator`].

fn main() -> std::process::ExitCode {
    clauded::generator::run()
}
