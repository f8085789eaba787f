//! Names of git branches by the rules of git-check-ref-format(1), and the names that are made from tasks.

/// Longest name of a branch, in bytes: with a lock file's suffix each part is still a file name.
pub const BRANCH_MAX: usize = 200;
/// Longest slug, in bytes.
const SLUG_MAX: usize = 40;

/// Whether git takes it as a branch, and a command line takes it without taking it for an option.
///
/// # Errors
/// What is wrong with it.
pub fn check_branch(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > BRANCH_MAX {
        return Err("it is longer than 200 bytes");
    }
    if name.starts_with('-') {
        return Err("it begins with '-'");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it has white space or control characters");
    }
    if name.contains(|c| "~^:?*[\\".contains(c)) {
        return Err("it has one of ~ ^ : ? * [ \\");
    }
    if name.contains("..") || name.contains("@{") || name == "@" || name == "HEAD" {
        return Err("it has \"..\" or \"@{\" in it, or is \"@\" or \"HEAD\"");
    }
    if name.ends_with('.') {
        return Err("it ends with '.'");
    }
    for part in name.split('/') {
        if part.is_empty() {
            return Err("a '/' stands at an end or beside another one");
        }
        if part.starts_with('.') || part.ends_with(".lock") {
            return Err("a part begins with '.' or ends with \".lock\"");
        }
    }
    Ok(())
}

/// A title as part of a branch's name: lower-case letters, digits and single dashes, cut at a word.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for word in title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        if slug.is_empty() {
            slug.push_str(word.get(..SLUG_MAX.min(word.len())).unwrap_or_default());
        } else if slug.len() + 1 + word.len() <= SLUG_MAX {
            slug.push('-');
            slug.push_str(&word);
        } else {
            break;
        }
    }
    // A title in another script leaves nothing, and an empty part is no name.
    if slug.is_empty() { "task".to_owned() } else { slug }
}

/// An instance's name as a part of a ref, which may not end with ".lock" or '.', nor have ".." in it.
pub fn part(name: &str) -> String {
    name.replace("..", "_.").trim_end_matches('.').replace(".lock", "_lock")
}

/// A task's kind as branches and commits have it.
pub fn short_kind(kind: &str) -> &str {
    match kind {
        "feature" => "feat",
        "bugfix" => "fix",
        other => other,
    }
}

/// What a branch is named after.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// The instance's stable ID.
    pub id: &'a str,
    /// The instance's name.
    pub instance: &'a str,
    /// The task's kind.
    pub kind: &'a str,
    /// The task's title.
    pub title: &'a str,
    /// The task's number.
    pub task: i64,
}

/// The template of branches' names, `claude-{id}/{type}/{slug}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchTemplate(String);

impl Default for BranchTemplate {
    fn default() -> Self {
        Self("claude-{id}/{type}/{slug}".to_owned())
    }
}

impl std::str::FromStr for BranchTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KNOWN: &str = "{id}, {instance}, {type}, {slug} and {task}";
        let mut rest = text;
        while let Some((_, after)) = rest.split_once('{') {
            let (word, tail) = after.split_once('}').ok_or_else(|| format!("{text:?} has a '{{' without a '}}'; known are {KNOWN}"))?;
            if !["id", "instance", "type", "slug", "task"].contains(&word) {
                return Err(format!("{text:?} has {{{word}}}; known are {KNOWN}"));
            }
            rest = tail;
        }
        if !text.contains("{slug}") && !text.contains("{task}") {
            return Err(format!("{text:?} names every task's branch alike; put {{slug}} or {{task}} into it"));
        }
        let template = Self(text.to_owned());
        // The longest and the shortest that can stand there.
        for (instance, slug) in [("a", "a"), ("a".repeat(64).as_str(), "a".repeat(SLUG_MAX).as_str())] {
            let name = template.name(Naming { id: "12345678", instance, kind: "task", title: slug, task: i64::MAX });
            check_branch(&name).map_err(|why| format!("{text:?} cannot be the name of a branch: {why}"))?;
        }
        Ok(template)
    }
}

impl BranchTemplate {
    /// The branch of a task.
    pub fn name(&self, of: Naming<'_>) -> String {
        let name = self.0.replace("{id}", of.id).replace("{instance}", &part(of.instance)).replace("{type}", short_kind(of.kind));
        name.replace("{slug}", &slug(of.title)).replace("{task}", &of.task.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(template: &str, title: &str) -> String {
        let template: BranchTemplate = template.parse().expect("a template");
        template.name(Naming { id: "1234abcd", instance: "feature-x", kind: "feature", title, task: 7 })
    }

    #[test]
    fn branches_are_named_after_their_tasks() {
        assert_eq!(BranchTemplate::default(), "claude-{id}/{type}/{slug}".parse().expect("valid"));
        assert_eq!(named("claude-{id}/{type}/{slug}", "User auth"), "claude-1234abcd/feat/user-auth");
        assert_eq!(named("{instance}/{task}", "x"), "feature-x/7");
        assert_eq!(named("a/{slug}", "--upload-pack=x; rm -rf /"), "a/upload-pack-x-rm-rf");
        assert_eq!(named("a/{slug}", "Ünïcode 日本"), "a/n-code");
        assert_eq!(named("a/{slug}", "日本"), "a/task");
        for instance in ["a..b", "a.lock", "a.", "a...lock"] {
            let name = "{instance}/{slug}".parse::<BranchTemplate>().map(|t| t.name(Naming { id: "", instance, kind: "x", title: "x", task: 1 }));
            assert_eq!(name.as_deref().map(check_branch), Ok(Ok(())), "{instance}");
        }
        assert_eq!(slug("a title that goes on for far longer than any branch should"), "a-title-that-goes-on-for-far-longer-than");
    }

    #[test]
    fn templates_that_make_no_branches_are_refused() {
        for (text, why) in [
            ("{slug", "without a '}'"),
            ("{name}/{slug}", "{name}; known are"),
            ("main", "names every task's branch alike"),
            ("-{slug}", "begins with '-'"),
            ("a..b/{slug}", "\"..\""),
            ("a b/{slug}", "white space"),
            ("a//{slug}", "beside another"),
            ("{slug}.lock", "ends with \".lock\""),
            ("{slug}/.x", "begins with '.'"),
            ("a\n{slug}", "control"),
        ] {
            let error = text.parse::<BranchTemplate>().expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_title_makes_a_branch(title in ".{0,200}", kind in "[a-z0-9-]{1,32}") {
            let name = BranchTemplate::default().name(Naming { id: "00000000", instance: "a", kind: &kind, title: &title, task: 1 });
            prop_assert_eq!(check_branch(&name), Ok(()), "{}", name);
        }
    }
}
