//! A repository's file: written once, changed where that is asked for, and never made wrong.

use super::*;
use std::fs;
use std::path::PathBuf;

/// A throw-away `/etc/clauded`.
struct Etc(tempfile::TempDir, Paths);

impl Etc {
    fn new(main: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = Paths { config: directory.path().join("clauded.toml"), ..Paths::system() };
        fs::write(&paths.config, main).expect("written");
        fs::create_dir(directory.path().join("clauded.toml.d")).expect("made");
        Self(directory, paths)
    }

    fn drop_in(&self, file: &str) -> PathBuf {
        self.0.path().join("clauded.toml.d").join(file)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.drop_in(file)).unwrap_or_default()
    }

    fn declare(&self, name: &str, change: &RepositoryChange) -> Result<Persisted, PersistError> {
        let (persisted, repository) = declare_repository(&self.1, &name.parse().expect("a name"), change, false)?;
        assert_eq!(Config::load(&self.1).expect("valid").repositories.get(name), Some(&repository), "what is told is what is there");
        Ok(persisted)
    }
}

fn words(command: &str) -> Option<Vec<String>> {
    Some(command.split(' ').map(str::to_owned).collect())
}

fn local(path: &str) -> RepositoryChange {
    RepositoryChange { source: Source::Path(path.into()), default_branch: None, verify: None, proposed_branch: None, proposed_verify: None }
}

fn proposed() -> RepositoryChange {
    RepositoryChange { proposed_branch: Some("main".into()), proposed_verify: words("cargo test"), ..local("/srv/shop") }
}

#[test]
fn a_repository_is_written_once_and_keeps_what_people_changed() {
    let etc = Etc::new("");
    let file = "repository-shop.toml";
    assert_eq!(declare_repository(&etc.1, &"shop".parse().expect("a name"), &proposed(), true).expect("valid").0, Persisted::Created);
    assert_eq!(etc.text(file), "", "a dry run writes nothing");
    assert_eq!(etc.declare("shop", &proposed()).expect("written"), Persisted::Created);
    let said = "[repositories.shop]\npath = \"/srv/shop\"\ndefault-branch = \"main\"\nverify = [\"cargo\", \"test\"]\n";
    assert!(etc.text(file).starts_with("# The repository shop, written by") && etc.text(file).ends_with(said), "{}", etc.text(file));
    // An operator has other ideas: what was proposed once is not proposed again, nor what was taken out.
    fs::write(etc.drop_in(file), "[repositories.shop]\npath = \"/srv/shop\"\ndefault-branch = \"next\" # until May\n").expect("written");
    assert_eq!(etc.declare("shop", &proposed()).expect("the same"), Persisted::Unchanged);
    let asked = RepositoryChange { default_branch: Some("main".into()), verify: words("make test"), ..proposed() };
    assert_eq!(etc.declare("shop", &asked).expect("written"), Persisted::Changed);
    assert!(etc.text(file).ends_with("default-branch = \"main\" # until May\nverify = [\"make\", \"test\"]\n"), "{}", etc.text(file));
    assert_eq!(etc.declare("shop", &asked).expect("the same"), Persisted::Unchanged);
    let url = RepositoryChange { source: "git@example.org:api.git".parse().expect("a URL"), ..proposed() };
    assert_eq!(etc.declare("api", &url).expect("written"), Persisted::Created);
    assert!(etc.text("repository-api.toml").contains("[repositories.api]\nurl = \"git@example.org:api.git\"\n"));
}

#[test]
fn a_check_with_a_time_limit_keeps_it() {
    let etc = Etc::new("[repositories.shop]\npath = \"/srv/shop\"\n[repositories.shop.verify]\ncommand = [\"true\"]\ntimeout = \"2h\"\n");
    for command in ["make test", "make check"] {
        assert_eq!(etc.declare("shop", &RepositoryChange { verify: words(command), ..local("/srv/shop") }).expect("written"), Persisted::Changed);
    }
    assert!(etc.text("repository-shop.toml").ends_with("[repositories.shop]\n\n[repositories.shop.verify]\ncommand = [\"make\", \"check\"]\n"));
    let config = Config::load(&etc.1).expect("valid");
    assert_eq!(config.repositories["shop"].verify.as_ref().map(|verify| verify.timeout.as_secs()), Some(7200));
}

#[test]
fn what_would_be_wrong_is_not_written() {
    let etc = Etc::new("[repositories.shop]\npath = \"/srv/shop\"\n[instances.a]\ndirectory = \"/srv/b/inner\"\nrepository = \"shop\"\n");
    fs::write(etc.drop_in("zz.toml"), "[repositories.last]\npath = \"/srv/last\"\nverify = [\"true\"]\n").expect("written");
    let verify = |command| RepositoryChange { verify: words(command), ..local("/srv/last") };
    for (name, change, told) in [
        ("shop", local("/srv/other"), "[repositories.shop] is there already, and is /srv/shop, not /srv/other; give another name"),
        ("store", local("/srv/shop/"), "/srv/shop/ is [repositories.shop] already, not store; say: claudectl init --name shop"),
        ("last", verify("false"), "[repositories.last] was not changed: a file that comes after"),
        ("x.git", local("/srv/x"), "ends with '.' or \".git\""),
        ("x", RepositoryChange { proposed_branch: Some("--upload-pack=x".into()), ..local("/srv/x") }, "cannot be a branch"),
        ("x", RepositoryChange { verify: words("./../x"), ..local("/srv/x") }, "names no program of the worktree"),
        ("x", local("~/x"), "'~' is not expanded"),
    ] {
        let error = etc.declare(name, &change).expect_err(told).to_string();
        assert!(error.contains(told), "{error}\nlacks {told}");
    }
    let left: Vec<_> = fs::read_dir(etc.drop_in("")).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left, ["zz.toml"]);
    fs::write(etc.drop_in("repository-shop.toml"), "repositories = 1\n").expect("written");
    assert!(etc.declare("shop", &verify("false")).is_err());
    assert_eq!(etc.text("repository-shop.toml"), "repositories = 1\n");
}
