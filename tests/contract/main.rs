//! What every supervisor must do, one suite for all. `CLAUDED_TEST_SUPERVISOR` names the one to try: `process` (the default),
//! or `systemd`, as root on a machine made for it (tests/vm). Arguments select cases by a part of their names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: what goes wrong is to stop it, and it prints its own report"
)]

mod cases;
mod fake;
#[path = "../skip/mod.rs"]
mod skip;
mod stage;

use stage::{Kind, Stage};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    if let Some(name) = fake::is_asked_for() {
        return fake::run(&name);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let kind = Kind::from_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (mut failed, mut passed, mut inapplicable) = (0, 0, 0);
    for case in cases::ALL.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|w| case.name.contains(w.as_str()))) {
        if let Some(reason) = (case.inapplicable)(kind) {
            println!("n/a  {} ({reason})", case.name);
            inapplicable += 1;
            continue;
        }
        let began = Instant::now();
        let outcome = runtime.block_on(async {
            let run = tokio::spawn(async move { (case.run)(Stage::set(kind).await).await });
            tokio::time::timeout(std::time::Duration::from_secs(120), run).await
        });
        let took = began.elapsed().as_millis();
        match outcome {
            Ok(Ok(())) => {
                println!("ok   {} ({took} ms)", case.name);
                passed += 1;
            }
            Ok(Err(panic)) => {
                println!("FAIL {} ({took} ms): {panic}", case.name);
                failed += 1;
            }
            Err(_) => {
                println!("FAIL {} ({took} ms): it did not end", case.name);
                failed += 1;
            }
        }
    }
    println!("supervisor {kind:?}: {passed} passed, {failed} failed, {inapplicable} not applicable");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
