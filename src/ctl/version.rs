//! `claudectl version`: this program's and the running daemon's.

use super::client::Client;
use super::failure::{Failure, Outcome};
use super::output::Screen;
use super::quantity::clean;
use crate::proto::api::Health;

/// Prints both. A daemon that does not answer is a note, not a failure: the question was about versions.
pub(super) async fn run(client: &Client, screen: &Screen) -> Result<Outcome, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let health = client.read::<Health>("/api/v1/health").await;
    if screen.data() {
        let daemon = health.as_ref().ok().map(|h| &h.version);
        screen.value(&serde_json::json!({ "claudectl": own, "clauded": daemon }))?;
    } else {
        let daemon = health.as_ref().map_or_else(|_| "unknown".to_owned(), |h| format!("{} ({})", clean(&h.version), clean(&h.supervisor)));
        screen.print(&format!("claudectl {own}\nclauded   {daemon}\n"))?;
    }
    match health {
        Ok(h) if h.version != own => screen.note("the versions differ; restart clauded after an upgrade, no agent is disturbed: systemctl restart clauded"),
        Ok(_) => {}
        Err(failure) => screen.note(&failure.to_string()),
    }
    Ok(Outcome::Done)
}
