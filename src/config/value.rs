//! Readers of single values: from a node of the tree to a checked value, or the words for what is wrong with it.

use super::tree::{Node, Value};
use crate::core::checkout::{Cache, Source};
use crate::core::label::Label;
use crate::core::limits::{MemoryLimit, TasksMax, Weight, parse_duration};
use crate::core::lock::Pattern;
use crate::core::refname::check_branch;
use crate::core::task::TaskType;
use crate::core::usage::Usd;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Component, PathBuf};
use std::str::FromStr;
use std::time::Duration;

type Read<T> = Result<T, String>;

fn wrong_type<T>(node: &Node, wanted: &str) -> Read<T> {
    Err(format!("is {}, must be {wanted}", node.value.kind()))
}

/// Any text.
pub(super) fn text(node: &Node) -> Read<&str> {
    match &node.value {
        Value::Text(text) => Ok(text),
        _ => wrong_type(node, "a text in quotes"),
    }
}

/// A text with something in it, on one line.
pub(super) fn line(node: &Node) -> Read<String> {
    let text = text(node)?;
    match text.trim().is_empty() || text.chars().any(char::is_control) {
        true => Err("is empty or has control characters; write a line of text, or leave the key out".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Read<bool> {
    match node.value {
        Value::Boolean(truth) => Ok(truth),
        _ => wrong_type(node, "true or false, without quotes"),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(node: &Node, choices: &[(&str, T)]) -> Read<T> {
    let given = text(node)?;
    let words = || choices.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    choices.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| format!("{given:?} is none of {}", words()))
}

/// A text of a type that can tell what is wrong with it.
pub(super) fn parsed<T: FromStr<Err: Display>>(node: &Node) -> Read<T> {
    match &node.value {
        Value::Integer(number) => Err(format!("{number} has no unit; write a text in quotes, such as \"{number}G\" or \"{number}%\"")),
        _ => text(node)?.parse().map_err(|error: T::Err| error.to_string()),
    }
}

/// A bound of memory. Less than a megabyte is a forgotten unit, not a bound.
pub(super) fn memory(node: &Node) -> Read<MemoryLimit> {
    match parsed(node)? {
        MemoryLimit::Bytes(bytes) if bytes < 1 << 20 => Err(format!("{bytes} bytes is less than a megabyte; write the unit, such as \"4G\"")),
        limit => Ok(limit),
    }
}

/// Amounts of memory in an array, each more than the one before.
pub(super) fn sizes(node: &Node) -> Read<Vec<u64>> {
    const EXAMPLE: &str = "an array of amounts of memory, such as [\"2G\", \"4G\", \"8G\"]";
    let Value::Array(items) = &node.value else { return wrong_type(node, EXAMPLE) };
    let size = |item: &Node| match memory(item)? {
        MemoryLimit::Bytes(bytes) => Ok(bytes),
        other => Err(format!("{other} is no size class; write {EXAMPLE}")),
    };
    let sizes: Vec<u64> = items.iter().map(size).collect::<Result<_, _>>()?;
    match sizes.windows(2).find(|pair| pair.first() >= pair.last()) {
        Some(_) => Err("the size classes have to rise, such as [\"2G\", \"4G\", \"8G\"]".to_owned()),
        None => Ok(sizes),
    }
}

/// A bound of swap, `"0"` included.
pub(super) fn swap(node: &Node) -> Read<MemoryLimit> {
    if let Value::Integer(0) = node.value {
        return Ok(MemoryLimit::Bytes(0));
    }
    match parsed::<SwapLimit>(node)?.0 {
        MemoryLimit::Bytes(bytes @ 1..0x10_0000) => Err(format!("{bytes} bytes is less than a megabyte; write the unit, such as \"1G\", or \"0\" for none")),
        limit => Ok(limit),
    }
}

struct SwapLimit(MemoryLimit);

impl FromStr for SwapLimit {
    type Err = crate::core::limits::InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        MemoryLimit::from_swap(text).map(Self)
    }
}

/// A count or weight, as a number or a text.
fn number<T: FromStr<Err: Display>>(node: &Node) -> Read<T> {
    match &node.value {
        Value::Integer(number) => number.to_string().parse().map_err(|error: T::Err| error.to_string()),
        Value::Text(text) => text.parse().map_err(|error: T::Err| error.to_string()),
        _ => wrong_type(node, "a number"),
    }
}

/// A weight, 1 to 10000.
pub(super) fn weight(node: &Node) -> Read<Weight> {
    number(node)
}

/// A number of processes.
pub(super) fn tasks(node: &Node) -> Read<TasksMax> {
    number(node)
}

/// A whole number within bounds.
pub(super) fn count(node: &Node, bounds: RangeInclusive<u32>) -> Read<u32> {
    let refused = || format!("must be a whole number from {} to {}, without quotes", bounds.start(), bounds.end());
    match node.value {
        Value::Integer(number) => u32::try_from(number).ok().filter(|number| bounds.contains(number)).ok_or_else(refused),
        _ => Err(refused()),
    }
}

/// An amount of money, more than nothing.
pub(super) fn dollars(node: &Node) -> Read<Usd> {
    let dollars = match node.value {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 dollars")]
        Value::Integer(number) => number as f64,
        Value::Float(number) => number,
        _ => return wrong_type(node, "a number of US dollars such as 10.0, without quotes"),
    };
    let amount = Usd::from_dollars(dollars);
    if dollars.is_finite() && amount > Usd(0) { Ok(amount) } else { Err(format!("{dollars} is no amount to spend; write a number of US dollars above 0")) }
}

/// Words by which tasks find who does them; the same as a task's type can be.
pub(super) fn words(node: &Node) -> Read<Vec<String>> {
    let Value::Array(items) = &node.value else { return wrong_type(node, "an array of words, such as [\"frontend\", \"testing\"]") };
    let word = |item: &Node| {
        let word = text(item)?;
        let fits = word.parse::<TaskType>().is_ok();
        fits.then(|| word.to_owned()).ok_or_else(|| format!("{word:?} is no such word; use 1 to 32 lower-case letters, digits and dashes"))
    };
    let words: BTreeSet<String> = items.iter().map(word).collect::<Result<_, _>>()?;
    Ok(words.into_iter().collect())
}

/// Plain names in an array.
pub(super) fn labels(node: &Node) -> Read<BTreeSet<Label>> {
    let Value::Array(items) = &node.value else { return wrong_type(node, "an array of names, such as [\"frontend\", \"testing\"]") };
    items.iter().map(|item| text(item)?.parse().map_err(|error: crate::core::label::InvalidLabel| error.to_string())).collect()
}

/// A share from 1 to 100.
pub(super) fn percent(node: &Node) -> Read<u8> {
    let refused = || "must be a number from 1 to 100, without quotes or '%'".to_owned();
    match node.value {
        Value::Integer(number) => u8::try_from(number).ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(refused),
        _ => Err(refused()),
    }
}

/// A span of time.
pub(super) fn duration(node: &Node) -> Read<Duration> {
    match &node.value {
        Value::Integer(number) => Err(format!("{number} has no unit; write a span of time in quotes, such as \"{number}s\" or \"{number}min\"")),
        _ => parse_duration(text(node)?).map_err(|error| error.to_string()),
    }
}

/// A number of things, at least so many.
pub(super) fn at_least(node: &Node, least: u64) -> Read<u64> {
    let refused = || format!("must be a number of at least {least}, without quotes");
    match node.value {
        Value::Integer(number) => u64::try_from(number).ok().filter(|number| *number >= least).ok_or_else(refused),
        _ => Err(refused()),
    }
}

/// A size on disk, at least a megabyte.
pub(super) fn size(node: &Node) -> Read<u64> {
    match memory(node)? {
        MemoryLimit::Bytes(bytes) => Ok(bytes),
        MemoryLimit::PercentOfHost(_) | MemoryLimit::Infinity => Err("must be a size such as \"64M\"".to_owned()),
    }
}

/// An absolute path that a unit file can carry and that means the same to everyone.
pub(super) fn path(node: &Node) -> Read<PathBuf> {
    let text = text(node)?;
    let path = PathBuf::from(text);
    if text.starts_with('~') {
        return Err("'~' is not expanded here; write the path from the root".to_owned());
    }
    if !path.is_absolute() {
        return Err(format!("{text:?} is not absolute; write the path from the root"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{text:?} has \"..\" in it; write the path that is meant"));
    }
    // systemd.syntax(7): a line's trailing white space is dropped, and a backslash at its end joins it with the next.
    if text.chars().any(char::is_control) || text.ends_with(|c: char| c.is_whitespace() || c == '\\') {
        return Err(format!("{text:?} has control characters, or ends in white space or a backslash; systemd takes no such path"));
    }
    // Built again from its parts, so that `/a//b/` and `/a/b` compare equal everywhere.
    Ok(path.components().collect())
}

/// The program and its arguments, as a text (the program alone) or an array. Never a shell's line.
pub(super) fn command(node: &Node) -> Read<Vec<String>> {
    let words: Vec<String> = match &node.value {
        Value::Text(program) if program.contains(char::is_whitespace) => {
            return Err(format!("no shell takes {program:?} apart; write an array, such as [\"gemini\", \"--yolo\"]"));
        }
        Value::Text(program) => vec![program.clone()],
        Value::Array(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>()?,
        _ => return wrong_type(node, "a program, or an array of a program and its arguments"),
    };
    let program = words.first().map_or("", String::as_str);
    if program.is_empty() || words.iter().any(|word| word.contains('\0')) {
        return Err("names no program".to_owned());
    }
    if program.contains('/') && !program.starts_with('/') {
        return Err(format!("{program:?} is relative; write the path from the root, or the name alone to look on the PATH"));
    }
    Ok(words)
}

/// The name of an environment variable (POSIX: letters, digits and `_`, not beginning with a digit).
fn is_variable(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}

/// The name of an environment variable.
pub(super) fn variable(node: &Node) -> Read<String> {
    let name = text(node)?;
    is_variable(name).then(|| name.to_owned()).ok_or_else(|| format!("{name:?} cannot be an environment variable; use letters, digits and '_'"))
}

/// Environment variables with their values.
pub(super) fn environment(node: &Node) -> Read<BTreeMap<String, String>> {
    let Value::Table(table) = &node.value else { return wrong_type(node, "a table, such as { RUST_LOG = \"info\" }") };
    let entry = |(name, value): (&String, &Node)| {
        let value = text(value).map_err(|error| format!("{name} {error}"))?;
        if !is_variable(name) {
            return Err(format!("{name:?} cannot be an environment variable; use letters, digits and '_'"));
        }
        if value.contains('\0') {
            return Err(format!("{name} has a NUL in it"));
        }
        Ok((name.clone(), value.to_owned()))
    };
    table.iter().map(entry).collect()
}

/// Names for globs: a table of arrays.
pub(super) fn features(node: &Node) -> Read<BTreeMap<String, Pattern>> {
    let Value::Table(table) = &node.value else { return wrong_type(node, "a table, such as { auth = [\"src/auth/**\"] }") };
    let entry = |(name, value): (&String, &Node)| {
        let globs: Vec<String> = match &value.value {
            Value::Text(glob) => vec![glob.clone()],
            Value::Array(items) => {
                items.iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>().map_err(|error| format!("{name}: {error}"))?
            }
            _ => return Err(format!("{name} is {}, must be an array of globs", value.value.kind())),
        };
        if !is_plain_name(name) {
            return Err(format!("{name:?} is no name; use 1 to 64 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"));
        }
        Pattern::feature(name, &globs).map(|pattern| (name.clone(), pattern)).map_err(|error| format!("{name}: {error}"))
    };
    table.iter().map(entry).collect()
}

/// A loopback address with a port, or `off`.
pub(super) fn listen(node: &Node) -> Read<Option<SocketAddr>> {
    let text = text(node)?;
    if text == "off" {
        return Ok(None);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
        Ok(address) => Err(format!(
            "{} is not a loopback address: the API speaks plain HTTP; listen on \"127.0.0.1:8888\" and put a proxy with TLS or an SSH tunnel before it",
            address.ip()
        )),
        Err(_) => Err(format!("{text:?} is not an address with a port; write \"127.0.0.1:8888\", \"[::1]:8888\" or \"off\"")),
    }
}

/// A user's name (as useradd(8) takes it) or number.
pub(super) fn user(node: &Node) -> Read<String> {
    let name = text(node)?;
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let body = name.strip_suffix('$').unwrap_or(name);
    let named = body.bytes().next().is_some_and(letter) && body.bytes().all(|b| letter(b) || b.is_ascii_digit() || b == b'-' || b == b'.');
    let numbered = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) && name.parse::<u32>().is_ok_and(|id| id < u32::MAX);
    if name.len() <= 32 && (named || numbered) { Ok(name.to_owned()) } else { Err(format!("{name:?} cannot be a user's name")) }
}

/// A git branch's name.
pub(super) fn branch(node: &Node) -> Read<String> {
    let name = line(node)?;
    match check_branch(&name) {
        Ok(()) => Ok(name),
        Err(why) => Err(format!("{name:?} cannot be a branch: {why}")),
    }
}

/// A remote's name: what git takes as one level of a ref's name.
pub(super) fn remote(node: &Node) -> Read<String> {
    let name = line(node)?;
    match check_branch(&name) {
        Ok(()) if !name.contains('/') => Ok(name),
        _ => Err(format!("{name:?} cannot be the name of a remote; write one that `git remote` lists, such as \"origin\"")),
    }
}

/// The URL of a repository.
pub(super) fn url(node: &Node) -> Read<Source> {
    match text(node)?.parse()? {
        Source::Path(path) => Err(format!("{:?} is a path; write it as path, or as \"file://{}\" to have it cloned", path, path.display())),
        url @ Source::Url(_) => Ok(url),
    }
}

/// A part of a commit's author, which git writes as `NAME <EMAIL>`.
pub(super) fn author(node: &Node) -> Read<String> {
    let text = line(node)?;
    if text.contains(['<', '>']) { Err(format!("{text:?} has '<' or '>' in it, which git takes away")) } else { Ok(text) }
}

/// The program that checks a worktree, and its arguments; it may be a file of the worktree.
pub(super) fn check_command(node: &Node) -> Read<Vec<String>> {
    match &node.value {
        Value::Array(items) if items.first().is_some_and(|first| matches!(&first.value, Value::Text(program) if program.starts_with("./"))) => {
            let words = items.iter().map(|item| text(item).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
            if words.iter().any(|word| word.contains('\0') || word.starts_with("./../")) {
                Err("names no program of the worktree".to_owned())
            } else {
                Ok(words)
            }
        }
        _ => command(node),
    }
}

/// A number from 0 to 10.
pub(super) fn few(node: &Node) -> Read<u32> {
    let refused = || "must be a number from 0 to 10, without quotes".to_owned();
    match node.value {
        Value::Integer(number) => u32::try_from(number).ok().filter(|n| *n <= 10).ok_or_else(refused),
        _ => Err(refused()),
    }
}

/// The names of build caches.
pub(super) fn caches(node: &Node) -> Read<Vec<Cache>> {
    let Value::Array(items) = &node.value else { return wrong_type(node, "an array, such as [\"cargo\", \"npm\"]") };
    let mut caches = items.iter().map(|item| choice(item, &Cache::ALL)).collect::<Read<Vec<_>>>()?;
    caches.sort_unstable();
    caches.dedup();
    Ok(caches)
}

/// Whether that can be the name of a profile or a repository.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-';
    (1..=64).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(plain)
}
