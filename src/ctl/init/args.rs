//! The command line of `claudectl init`.

use crate::core::checkout::Source;
use crate::core::label::Label;
use clap::Args;
use std::path::PathBuf;

/// `claudectl init`
#[derive(Debug, Args)]
pub(in crate::ctl) struct Init {
    /// A directory of the repository
    #[arg(default_value = ".", hide_default_value = true)]
    pub(super) directory: PathBuf,
    /// Its name in the configuration [default: that of its directory]
    #[arg(long)]
    pub(super) name: Option<Label>,
    /// Let agents work on a clone of this URL
    #[arg(long, conflicts_with = "path", value_parser = url)]
    pub(super) url: Option<String>,
    /// Let agents work in worktrees of this repository, which the instances' user has to own
    #[arg(long)]
    pub(super) path: Option<PathBuf>,
    /// The branch that work starts from
    #[arg(long, value_name = "NAME")]
    pub(super) branch: Option<String>,
    /// What checks finished work, such as 'make test'
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    pub(super) verify: Option<Words>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) struct Words(pub(super) Vec<String>);

/// A line as the configuration takes it: words, or a shell where the line is for one.
fn words(line: &str) -> Result<Words, String> {
    if line.contains(['\'', '"', '\\', '$', '`', '|', '&', ';', '<', '>', '(', ')', '*', '?', '[', '~', '#', '\n']) {
        return Ok(Words(vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]));
    }
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err("it names no program; write such as 'make test'".to_owned()) } else { Ok(Words(words)) }
}

fn url(text: &str) -> Result<String, String> {
    match text.parse()? {
        Source::Url(url) => Ok(url),
        Source::Path(path) => Err(format!("{} is a path; say --path", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_a_shell_gets_one() {
        let words = |line| words(line).map(|words| words.0.join("|"));
        assert_eq!(words(" make  test ").as_deref(), Ok("make|test"));
        assert_eq!(words("npm ci && npm test").as_deref(), Ok("sh|-c|npm ci && npm test"));
        assert!(words(" ").is_err_and(|error| error.contains("names no program")));
    }
}
