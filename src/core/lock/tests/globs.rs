//! Patterns: what is refused, what matches, and that two meet if and only if there is a path that is in both.

use crate::core::lock::{InvalidPattern, Pattern};
use proptest::prelude::*;
use std::sync::LazyLock;

fn glob(text: &str) -> Pattern {
    Pattern::glob(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn paths_stay_in_the_worktree_and_on_one_line() {
    for bad in ["", "/", "./", "..", "a/../b", "/etc/passwd", "a\nb", "a\u{1b}[2J", "x\0", &"x".repeat(5000), &"a/".repeat(2500)] {
        let refused = Pattern::path(bad).map_err(|error| error.to_string());
        assert!(refused.as_ref().is_err_and(|error| error.contains(';') && !error.contains(char::is_control)), "{bad:.20?}: {refused:?}");
        assert!(Pattern::glob(bad).is_err(), "{bad:.20?}");
    }
    let path = |text: &str| Pattern::path(text).expect("good").text().to_owned();
    assert_eq!([path("./a//b"), path("-rf"), path("a/b/"), path("...")], ["a/b", "-rf", "a/b/", "..."]);
}

#[test]
fn globs_that_are_none_say_why() {
    for (bad, why) in [
        ("a**", InvalidPattern::DoubleStar("a**".into())),
        ("a/[b", InvalidPattern::Bracket("a/[b".into())),
        ("a/{b,c", InvalidPattern::Brace("a/{b,c".into())),
        ("{a,b}/../c", InvalidPattern::Parent("{a,b}/../c".into())),
        (r"\.\.", InvalidPattern::Parent(r"\.\.".into())),
        ("{/etc,b}", InvalidPattern::Absolute("/etc".into())),
        ("[z-a]", InvalidPattern::NoCharacter("[z-a]".into())),
    ] {
        assert!(Pattern::glob(bad).is_err(), "{bad}");
        if !matches!(why, InvalidPattern::Parent(_)) {
            assert_eq!(Pattern::glob(bad), Err(why));
        }
    }
    assert!(matches!(Pattern::glob("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"), Err(InvalidPattern::Many(_))));
    assert!(Pattern::feature("auth", &[]).is_err());
}

#[test]
fn what_matches_and_what_does_not() {
    for (pattern, yes, no) in [
        ("src/*.rs", vec!["src/a.rs", "src/.rs"], vec!["src/a/b.rs", "src/a.rsx", "a.rs"]),
        ("src/**", vec!["src/a", "src/a/b"], vec!["src", "srcs/a"]),
        ("**", vec!["a", "a/b/c"], vec![]),
        ("**/x", vec!["x", "a/x", "a/b/x"], vec!["a/xx", "x/a"]),
        ("a/**/b", vec!["a/b", "a/c/b", "a/c/d/b"], vec!["ab", "a/c"]),
        ("{src,lib}/[a-c]?.{rs,toml}", vec!["src/ax.rs", "lib/cé.toml"], vec!["src/dx.rs", "src/a.rs"]),
        ("[!a]", vec!["b", "é", "]"], vec!["a", "bb"]),
        ("[]a]", vec!["]", "a"], vec!["b"]),
        ("[!]]x", vec!["ax"], vec!["]x"]),
        (r"app/\[id\]/*", vec!["app/[id]/page.tsx"], vec!["app/i/page.tsx"]),
        ("{a,b{c,d}}", vec!["a", "bc", "bd"], vec!["b", "bcd"]),
        ("a[{,}]b", vec!["a{b", "a,b"], vec!["ab"]),
        ("docs/", vec!["docs/a"], vec!["docs"]),
    ] {
        let pattern = glob(pattern);
        assert!(yes.iter().all(|path| pattern.matches(path)) && !no.iter().any(|path| pattern.matches(path)), "{pattern}");
    }
    let exact = Pattern::path("app/[id]/page.tsx").expect("a path");
    assert!(exact.matches("app/[id]/page.tsx") && !exact.matches("app/i/page.tsx"));
}

#[test]
fn covering_is_never_said_where_it_is_not_so() {
    let feature = Pattern::feature("auth", &["src/auth/**".to_owned(), "login.rs".to_owned()]).expect("good");
    assert!(feature.covers(&glob("src/auth/**")) && feature.covers(&Pattern::path("login.rs").expect("good")) && feature.covers(&feature));
    assert!(
        glob("src/**").covers(&glob("src/auth/*/x"))
            && glob("**").covers(&feature)
            && !glob("src/**").covers(&glob("src*/**"))
            && !glob("src/*").covers(&glob("src/a/*"))
    );
    assert!(!feature.covers(&glob("src/**")) && !glob("src/auth/**").covers(&feature));
}

/// All names of up to `length` letters `a`, `b`.
fn words(length: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    for _ in 0..length {
        all = all.iter().flat_map(|word| ["", "a", "b"].map(|letter| format!("{word}{letter}"))).collect();
    }
    all.sort();
    all.dedup();
    all.retain(|word| !word.is_empty());
    all
}

/// Names of up to 6 letters: two patterns of three pieces each that meet, meet in one of them.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| words(6));
/// Paths of up to 6 names of one letter.
static PATHS: LazyLock<Vec<String>> =
    LazyLock::new(|| words(6).iter().map(|word| word.split("").filter(|l| !l.is_empty()).collect::<Vec<_>>().join("/")).collect());

fn name_pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "?", "[ab]", "[!a]", "{a,bb}", "{*a,b}"]), 1..4).prop_map(|pieces| pieces.concat())
}

fn path_pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "?", "**", "[!b]", "{a,b/a}", "{**,b}"]), 1..4).prop_map(|pieces| pieces.join("/"))
}

fn agrees(a: &str, b: &str, paths: &[String]) -> Result<(), TestCaseError> {
    let (Ok(a), Ok(b)) = (Pattern::glob(a), Pattern::glob(b)) else { return Ok(()) };
    let common = paths.iter().find(|path| a.matches(path) && b.matches(path));
    prop_assert_eq!(a.overlaps(&b), common.is_some(), "{} and {}: {:?}", a, b, common);
    prop_assert_eq!(b.overlaps(&a), common.is_some());
    if a.covers(&b) {
        prop_assert!(paths.iter().all(|path| a.matches(path) || !b.matches(path)), "{a} is said to cover {b}");
    }
    for path in paths.iter().step_by(17) {
        prop_assert_eq!(a.overlaps(&Pattern::path(path).expect("a path")), a.matches(path));
    }
    Ok(())
}

/// What a regular expression of the same meaning would say, by trying everything.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
        Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
        Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn names_meet_if_a_name_is_in_both(a in name_pattern(), b in name_pattern()) {
        agrees(&a, &b, &NAMES)?;
    }

    #[test]
    fn paths_meet_if_a_path_is_in_both(a in path_pattern(), b in path_pattern()) {
        agrees(&a, &b, &PATHS)?;
    }

    #[test]
    fn stars_match_what_trying_everything_matches(pattern in "[ab?]{0,2}\\*?[ab?]{1,2}\\*?[ab]{0,2}", text in "[ab]{1,7}") {
        if let Ok(glob) = Pattern::glob(&pattern) {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob.matches(&text), naive(&characters(&pattern), &characters(&text)));
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_refused(text in "[\\PC/*?{}\\[\\]!,\\\\.]{0,40}", other in "[a/*?{}\\[\\],.]{0,20}") {
        if let (Ok(a), Ok(b)) = (Pattern::glob(&text), Pattern::glob(&other)) {
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        }
        if let Ok(path) = Pattern::path(&text) {
            prop_assert!(path.overlaps(&path) && Pattern::path(path.text()) == Ok(path.clone()));
        }
    }
}
