//! Which worktree a path is in, and what it is called from there. Symbolic links are followed here, by who has the file system.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Most symbolic links on the way to a file (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Why a path is not one to lock.
#[derive(Debug, thiserror::Error)]
pub(in crate::ctl) enum PlaceError {
    /// No `.git` anywhere above.
    #[error("{} is in no git worktree; change into one, or say --repository", .0.display())]
    NoWorktree(PathBuf),
    /// A symbolic link.
    #[error("{} leads out of the worktree {}, to {}; lock and edit the file that is meant", from.display(), root.display(), to.display())]
    Leads { from: PathBuf, root: PathBuf, to: PathBuf },
    /// The path itself is elsewhere.
    #[error("{} is not in the worktree {}", path.display(), root.display())]
    Outside { path: PathBuf, root: PathBuf },
    /// A path that JSON cannot carry.
    #[error("{} is not UTF-8; lock its directory", .0.display())]
    NotText(PathBuf),
    /// It cannot be looked at.
    #[error("cannot look at {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// A worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) struct Worktree {
    /// Its root, without symbolic links.
    pub(in crate::ctl) root: PathBuf,
}

impl Worktree {
    /// The one that the runner says, else the one around a directory.
    pub(in crate::ctl) fn around(directory: &Path) -> Result<Self, PlaceError> {
        let directory = whole(directory)?;
        if let Some(root) = said().filter(|root| directory.starts_with(root)) {
            return Ok(Self { root });
        }
        let found = directory.ancestors().find(|ancestor| fs::symlink_metadata(ancestor.join(".git")).is_ok());
        found.map(|root| Self { root: root.to_owned() }).ok_or(PlaceError::NoWorktree(directory))
    }

    /// The one that a path is in as it is written: a link in a worktree that leads to another one does not make it that one's.
    pub(in crate::ctl) fn of(base: &Path, path: &Path) -> Result<Self, PlaceError> {
        let (asked, said) = (base.join(path), said());
        let written = plain(&asked);
        let mut above: Vec<&Path> = written.ancestors().skip(1).collect();
        above.reverse();
        let mut root = None;
        for directory in above {
            if root.is_some() && directory.is_symlink() {
                break;
            }
            let is_said = || said.is_some() && fs::canonicalize(directory).ok() == said;
            if fs::symlink_metadata(directory.join(".git")).is_ok() || is_said() {
                root = Some(directory);
            }
        }
        // A path from elsewhere may lead into a worktree, too.
        Self::around(root.or_else(|| asked.ancestors().skip(1).find(|directory| directory.is_dir())).unwrap_or(base))
    }

    /// Whether it is the one that the runner says.
    pub(in crate::ctl) fn is_said(&self) -> bool {
        said().is_some_and(|said| said == self.root)
    }

    /// The repository that it is a worktree of, if it is not the repository's own (gitrepository-layout(5): `.git` is a file then).
    pub(in crate::ctl) fn repository(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.root.join(".git")).ok()?;
        let git = self.root.join(text.strip_prefix("gitdir:")?.trim());
        let common = git.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "worktrees"))?.parent()?;
        let own = if common.file_name().is_some_and(|name| name == ".git") { common.parent()? } else { common };
        fs::canonicalize(own).ok()
    }

    /// What a path is called from the root; the last of its names need not exist. `base` is where a relative one begins.
    pub(in crate::ctl) fn name(&self, base: &Path, path: &Path) -> Result<String, PlaceError> {
        let asked = base.join(path);
        let real = resolve(&asked, LINKS_MAX)?;
        let inside = real.strip_prefix(&self.root).map_err(|_| {
            let lexical = plain(&asked);
            let begins_here =
                lexical.starts_with(&self.root) || lexical.starts_with(plain(base)) && fs::canonicalize(base).is_ok_and(|base| base.starts_with(&self.root));
            match begins_here {
                true => PlaceError::Leads { from: asked.clone(), root: self.root.clone(), to: real.clone() },
                false => PlaceError::Outside { path: asked.clone(), root: self.root.clone() },
            }
        })?;
        inside.to_str().map(str::to_owned).ok_or_else(|| PlaceError::NotText(asked.clone()))
    }
}

/// The worktree that the runner says.
fn said() -> Option<PathBuf> {
    std::env::var_os("CLAUDED_WORKTREE").filter(|said| !said.is_empty()).and_then(|said| fs::canonicalize(said).ok())
}

fn whole(path: &Path) -> Result<PathBuf, PlaceError> {
    fs::canonicalize(path).map_err(|error| PlaceError::Io { path: path.to_owned(), error })
}

/// Without `.` and `..`, by the text alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Where a path leads, what does not exist at its end as it is written.
fn resolve(path: &Path, links: usize) -> Result<PathBuf, PlaceError> {
    let error = match fs::canonicalize(path) {
        Ok(real) => return Ok(real),
        Err(error) => error,
    };
    let cannot = |error| PlaceError::Io { path: path.to_owned(), error };
    if error.kind() != io::ErrorKind::NotFound || links == 0 {
        return Err(cannot(error));
    }
    let parent = path.parent().ok_or_else(|| cannot(io::ErrorKind::NotFound.into()))?;
    // A link to what does not exist yet: writing it makes that.
    if let Ok(target) = fs::read_link(path) {
        return resolve(&parent.join(target), links - 1);
    }
    match path.components().next_back() {
        Some(Component::Normal(name)) => Ok(resolve(parent, links)?.join(name)),
        // `missing/..` is nowhere.
        _ => Err(cannot(io::ErrorKind::NotFound.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn world() -> (tempfile::TempDir, Worktree) {
        let directory = tempfile::tempdir().expect("a directory");
        let root = fs::canonicalize(directory.path()).expect("there").join("tree");
        fs::create_dir_all(root.join("src/deep")).expect("made");
        fs::create_dir(root.join(".git")).expect("made");
        fs::write(root.join("src/a.rs"), "").expect("written");
        fs::create_dir(directory.path().join("elsewhere")).expect("made");
        let tree = Worktree::around(&root.join("src/deep")).expect("found");
        assert_eq!(tree.root, root);
        (directory, tree)
    }

    #[test]
    fn names_are_from_the_root_whatever_the_way() {
        let (_directory, tree) = world();
        let base = tree.root.join("src");
        symlink("a.rs", base.join("link.rs")).expect("linked");
        symlink("new.rs", base.join("dangling.rs")).expect("linked");
        symlink(&tree.root, tree.root.join("loop")).expect("linked");
        for (path, name) in [
            ("a.rs", "src/a.rs"),
            ("./deep/../a.rs", "src/a.rs"),
            ("link.rs", "src/a.rs"),
            ("dangling.rs", "src/new.rs"),
            ("../loop/loop/src/a.rs", "src/a.rs"),
            ("deep/new/x.rs", "src/deep/new/x.rs"),
            ("-rf", "src/-rf"),
            ("..", ""),
        ] {
            assert_eq!(tree.name(&base, Path::new(path)).ok().as_deref(), Some(name), "{path}");
        }
        assert_eq!(tree.name(Path::new("/"), &tree.root.join("src/a.rs")).ok().as_deref(), Some("src/a.rs"));
    }

    #[test]
    fn what_leads_out_is_told_from_what_is_outside() {
        let (directory, tree) = world();
        symlink(directory.path().join("elsewhere"), tree.root.join("out")).expect("linked");
        symlink("../elsewhere/new", tree.root.join("new")).expect("linked");
        symlink("circle", tree.root.join("circle")).expect("linked");
        for path in ["out/x", "new", "src/../../elsewhere/x"] {
            let error = tree.name(&tree.root, Path::new(path)).expect_err(path);
            assert_eq!(matches!(error, PlaceError::Leads { .. }), !path.starts_with("src"), "{path}: {error}");
        }
        assert!(matches!(tree.name(&tree.root, Path::new("/etc/passwd")), Err(PlaceError::Outside { .. })));
        assert!(matches!(tree.name(&tree.root, Path::new("circle")), Err(PlaceError::Io { .. })));
        assert!(matches!(tree.name(&tree.root, Path::new("missing/../x")), Err(PlaceError::Io { .. })));
        assert!(matches!(Worktree::around(&directory.path().join("elsewhere")), Err(PlaceError::NoWorktree(_))));
    }

    #[test]
    fn a_path_is_in_the_worktree_in_which_it_is_written() {
        let (directory, tree) = world();
        let other = fs::canonicalize(directory.path().join("elsewhere")).expect("there");
        for made in [other.join(".git"), other.join("deep"), tree.root.join("vendor/nested/.git")] {
            fs::create_dir_all(made).expect("made");
        }
        symlink(&other, tree.root.join("out")).expect("linked");
        symlink(tree.root.join("src"), directory.path().join("in")).expect("linked");
        let nested = tree.root.join("vendor/nested");
        for (path, root) in [
            ("a.rs", &tree.root),
            ("out/x", &tree.root),
            ("out/deep/x", &tree.root),
            ("missing/x", &tree.root),
            ("vendor/nested/x", &nested),
            ("../elsewhere/x", &other),
            ("../in/a.rs", &tree.root),
        ] {
            assert_eq!(Worktree::of(&tree.root, Path::new(path)).ok().as_ref().map(|tree| &tree.root), Some(root), "{path}");
        }
        for path in ["out/x", "out/deep/x"] {
            let found = Worktree::of(&tree.root, Path::new(path)).expect("found").name(&tree.root, Path::new(path));
            assert!(matches!(found, Err(PlaceError::Leads { .. })), "{path}: {found:?}");
        }
        assert!(matches!(Worktree::of(&tree.root, Path::new("../x")), Err(PlaceError::NoWorktree(_))));
    }

    #[test]
    fn a_linked_worktree_knows_its_repository() {
        let (directory, tree) = world();
        assert_eq!(tree.repository(), None);
        let linked = directory.path().join("linked");
        fs::create_dir_all(tree.root.join(".git/worktrees/linked")).expect("made");
        fs::create_dir(&linked).expect("made");
        fs::write(linked.join(".git"), format!("gitdir: {}\n", tree.root.join(".git/worktrees/linked").display())).expect("written");
        assert_eq!(Worktree::around(&linked).expect("found").repository(), Some(tree.root));
    }
}
