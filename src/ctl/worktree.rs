//! `claudectl worktree`: the instances' worktrees, what they take on disk, and which of them may go.

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::quantity::{age, bytes, clean, line};
use crate::core::ids::InstanceName;
use crate::proto::api::{self, AddWorktree, CollectWorktrees, Worktree, WorktreeFate};
use clap::Subcommand;
use hyper::Method;
use jiff::Timestamp;

/// `claudectl worktree …`
#[derive(Debug, Subcommand)]
pub(super) enum WorktreeCommand {
    /// Show the worktrees, their branches and what they take on disk
    #[command(after_help = "Examples:\n  claudectl worktree list\n  claudectl worktree list -o json | jq 'map(.disk_bytes) | add'")]
    List,
    /// Give an instance a repository, in the configuration too, and make its worktree
    #[command(after_help = "Examples:\n  claudectl worktree add feature-x --repository shop")]
    Add {
        /// The instance; it must not run
        name: InstanceName,
        /// The repository's name in the configuration
        #[arg(long, value_name = "NAME")]
        repository: String,
    },
    /// Remove the worktree of an instance that does not run, if nothing is lost with it; its branches stay
    #[command(after_help = "Examples:\n  claudectl stop feature-x && claudectl worktree remove feature-x")]
    Remove {
        /// The instance
        name: InstanceName,
    },
    /// Remove the worktrees that are clean, merged or expired, and locked by nobody, of instances that do not run
    #[command(
        after_help = "Examples:\n  claudectl worktree gc --dry-run\n  claudectl worktree gc\n\nHow long one that is not merged is kept: [repositories.NAME] keep"
    )]
    Gc {
        /// Only say why each stays or goes
        #[arg(long)]
        dry_run: bool,
    },
}

/// `claudectl worktree …`
pub(super) async fn run(client: &Client, screen: &Screen, command: WorktreeCommand) -> Result<Outcome, Failure> {
    let body = match &command {
        WorktreeCommand::List => client.get("/api/v1/worktrees").await?,
        WorktreeCommand::Add { name, repository } => {
            client.send(Method::POST, &format!("/api/v1/worktrees/{name}/add"), &AddWorktree { repository: repository.clone() }).await?
        }
        WorktreeCommand::Remove { name } => client.whole(Method::POST, &format!("/api/v1/worktrees/{name}/remove"), None).await?,
        WorktreeCommand::Gc { dry_run } => client.send(Method::POST, "/api/v1/worktrees/gc", &CollectWorktrees { dry_run: *dry_run }).await?,
    };
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let style = screen.style();
    match command {
        WorktreeCommand::List => screen.print(&list(style, &decode::<Vec<Worktree>>(&body)?, Timestamp::now()))?,
        WorktreeCommand::Gc { dry_run } => screen.print(&fates(style, &decode::<Vec<WorktreeFate>>(&body)?, dry_run))?,
        WorktreeCommand::Add { name, .. } => screen.print(&format!("{name}: {}\n", clean(&decode::<api::Outcome>(&body)?.message)))?,
        WorktreeCommand::Remove { name } => screen.print(&format!("{name}: removed; {}\n", clean(&decode::<api::Outcome>(&body)?.message)))?,
    }
    Ok(Outcome::Done)
}

const NONE: &str = "no worktrees; give an instance one: claudectl worktree add NAME --repository R\n";

fn size(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), bytes)
}

fn list(style: Style, worktrees: &[Worktree], now: Timestamp) -> String {
    if worktrees.is_empty() {
        return NONE.to_owned();
    }
    let row = |tree: &Worktree| {
        vec![
            clean(&tree.instance),
            style.state(&clean(&tree.active)),
            clean(&tree.repository),
            tree.branch.as_deref().map_or_else(|| "-".to_owned(), |branch| line(branch, 60)),
            tree.task.map_or_else(|| "-".to_owned(), |task| task.to_string()),
            size(tree.disk_bytes),
            tree.measured.as_deref().map_or_else(|| "-".to_owned(), |at| age(at, now)),
            clean(&tree.directory),
        ]
    };
    style.table(&["INSTANCE", "STATE", "REPOSITORY", "BRANCH", "TASK", "DISK", "USED", "DIRECTORY"], worktrees.iter().map(row).collect())
}

fn fates(style: Style, fates: &[WorktreeFate], dry_run: bool) -> String {
    if fates.is_empty() {
        return NONE.to_owned();
    }
    let word = |goes| match (goes, dry_run) {
        (true, true) => "would go",
        (true, false) => "removed",
        (false, _) => "stays",
    };
    let row = |fate: &WorktreeFate| vec![clean(&fate.instance), word(fate.goes).to_owned(), size(fate.disk_bytes), line(&fate.why, 200)];
    style.table(&["INSTANCE", "FATE", "DISK", "WHY"], fates.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worktrees_and_their_fates() {
        let tree = Worktree {
            instance: "a".into(),
            repository: "shop".into(),
            directory: "/srv/a".into(),
            branch: Some("claude-1/feat/x".into()),
            disk_bytes: Some(1 << 30),
            measured: Some("2026-11-21T09:00:00Z".into()),
            active: "active".into(),
            task: Some(7),
        };
        let now = "2026-11-21T10:00:00Z".parse().expect("a time");
        assert_eq!(
            list(Style::default(), &[tree], now),
            "INSTANCE  STATE   REPOSITORY  BRANCH           TASK  DISK  USED    DIRECTORY\na         active  shop        claude-1/feat/x  7     1G    1h ago  /srv/a\n"
        );
        let fate = |goes| WorktreeFate { instance: "a".into(), goes, why: "it is\nso".into(), ..WorktreeFate::default() };
        assert_eq!(
            fates(Style::default(), &[fate(true), fate(false)], true),
            "INSTANCE  FATE      DISK  WHY\na         would go  -     it is so\na         stays     -     it is so\n"
        );
        assert!(fates(Style::default(), &[fate(true)], false).contains("removed"));
        assert_eq!(list(Style::default(), &[], now), NONE);
    }
}
