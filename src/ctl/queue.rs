//! `claudectl pause` and `resume`.

use super::args::{Pause, ScopeArgs};
use super::client::{Client, decode, query_value};
use super::failure::{Failure, Outcome};
use super::output::Screen;
use super::quantity::clean;
use crate::core::queue::Scope;
use crate::proto::api;
use hyper::Method;

impl ScopeArgs {
    fn scope(&self) -> Scope {
        let Self { all: _, instance, team, group, account } = self.clone();
        let named = [instance.map(Scope::Instance), team.map(Scope::Team), group.map(Scope::Group), account.map(Scope::Account)];
        named.into_iter().flatten().next().unwrap_or(Scope::All)
    }
}

/// `claudectl pause`
pub(super) async fn pause(client: &Client, screen: &Screen, args: &Pause) -> Result<Outcome, Failure> {
    let scope = args.scope.scope();
    let wanted = api::NewPause {
        kind: scope.kind().to_owned(),
        name: scope.name().to_owned(),
        by: super::client::user_name(),
        why: args.reason.clone().unwrap_or_default(),
    };
    let body = client.send(Method::POST, "/api/v1/pauses", &wanted).await?;
    report(screen, &body, &format!("{scope} is paused; what runs goes on. Let it go on with: claudectl resume {}", scope.option()))
}

/// `claudectl resume`
pub(super) async fn resume(client: &Client, screen: &Screen, args: &ScopeArgs) -> Result<Outcome, Failure> {
    let scope = args.scope();
    let name = query_value(scope.name());
    let body = client.whole(Method::DELETE, &format!("/api/v1/pauses?kind={}&name={name}", scope.kind()), None).await?;
    report(screen, &body, &format!("{scope} goes on"))
}

fn report(screen: &Screen, body: &[u8], done: &str) -> Result<Outcome, Failure> {
    if screen.data() {
        screen.body(body)?;
        return Ok(Outcome::Done);
    }
    let outcome: api::Outcome = decode(body)?;
    let text = if outcome.message.is_empty() { done.to_owned() } else { clean(&outcome.message) };
    screen.print(&format!("{text}\n"))?;
    Ok(Outcome::Done)
}
