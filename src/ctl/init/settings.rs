//! Claude Code's settings with clauded's hook in them; every other byte stays as it stood.

use crate::core::label::Label;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode, CstStringLit};
use serde::de::IgnoredAny;

/// The tools that write.
const TOOLS: &str = "Edit|Write|MultiEdit|NotebookEdit";
/// How long Claude Code waits for the hook, in seconds; longer than the hook waits for clauded.
const TIMEOUT: u32 = 10;

/// What a hook's command has around the repository's name. Where there is no claudectl it is no hook, and however claudectl fails the
/// tool goes on: the exit status 2 alone would stop it.
fn around(user: bool) -> (&'static str, &'static str) {
    const AFTER: &str = " || exit 1";
    match user {
        false => ("! command -v claudectl >/dev/null || claudectl hook pre-tool-use --repository ", AFTER),
        true => ("! command -v claudectl >/dev/null || claudectl --user hook pre-tool-use --repository ", AFTER),
    }
}

/// The text with the hook; `None` if it is in it, or one that a person has made of it.
///
/// # Errors
/// What is in the way, in words: the text is no JSON, or something that has to be an object or a list is none.
pub(super) fn with_hook(text: &str, repository: &Label, user: bool) -> Result<Option<String>, String> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    // The other parser takes comments and the like, which Claude Code does not.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("is not JSON: {error}"))?;
    let root = CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| format!("is not JSON: {error}"))?;
    let settings = root.object_value().ok_or("is not a JSON object")?;
    let entries = list(&object(&settings, "hooks")?, "PreToolUse")?;
    let (before, after) = around(user);
    let command = format!("{before}{repository}{after}");
    let ours = |text: &str| [true, false].into_iter().map(around).any(|(before, after)| text.starts_with(before) && text.ends_with(after));
    match commands(&entries).into_iter().find(|(_, text)| text.contains("claudectl") && text.contains("hook pre-tool-use")) {
        Some((_, text)) if text == command || !ours(&text) => return Ok(None),
        // It names what the repository was called before.
        Some((literal, _)) => drop(literal.replace_with(command.into())),
        None => drop(entries.append(entry(command))),
    }
    Ok(Some(root.to_string()))
}

fn entry(command: String) -> CstInputValue {
    let hook = [("type", "command".into()), ("command", command.into()), ("timeout", TIMEOUT.into())];
    let object = |fields: Vec<(&str, CstInputValue)>| CstInputValue::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    object(vec![("matcher", TOOLS.into()), ("hooks", CstInputValue::Array(vec![object(hook.into())]))])
}

fn object(parent: &CstObject, key: &str) -> Result<CstObject, String> {
    parent.object_value_or_create(key).ok_or_else(|| format!("has a {key:?} that is not an object"))
}

fn list(parent: &CstObject, key: &str) -> Result<CstArray, String> {
    parent.array_value_or_create(key).ok_or_else(|| format!("has a {key:?} under \"hooks\" that is not a list"))
}

/// The commands of all hooks.
fn commands(entries: &CstArray) -> Vec<(CstStringLit, String)> {
    let hooks = entries.elements().into_iter().filter_map(|entry| entry.as_object()?.array_value("hooks"));
    let commands =
        hooks.flat_map(|hooks| hooks.elements()).filter_map(|hook| hook.as_object()?.get("command")?.value().as_ref().and_then(CstNode::as_string_lit));
    commands.filter_map(|literal| literal.decoded_value().ok().map(|text| (literal, text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn hooked(text: &str) -> Result<Option<String>, String> {
        with_hook(text, &"shop".parse().expect("a name"), false)
    }

    const COMMAND: &str = "! command -v claudectl >/dev/null || claudectl hook pre-tool-use --repository shop || exit 1";

    #[test]
    fn the_hook_is_added_once_and_what_a_person_wrote_stays_as_it_is_written() {
        let before = "{\n    \"zeta\": 1.50,\n    \"hooks\": {\"PreToolUse\": [{\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"mine\"}]}]},\n    \"alpha\": [1,  2]\n}\n";
        let after = hooked(before).expect("JSON").expect("changed");
        let (head, tail) = before.split_at(before.find(']').expect("a list") + 2);
        assert!(after.starts_with("{\n    \"zeta\": 1.50,\n    \"hooks\": {") && after.ends_with("\n    \"alpha\": [1,  2]\n}\n"), "{after}\n{head}{tail}");
        let value: Value = serde_json::from_str(&after).expect("JSON");
        assert_eq!(value["hooks"]["PreToolUse"][0]["hooks"][0]["command"], "mine");
        assert_eq!(value["hooks"]["PreToolUse"][1], json!({"matcher": TOOLS, "hooks": [{"type": "command", "command": COMMAND, "timeout": 10}]}));
        assert_eq!(hooked(&after), Ok(None));
        let narrowed = after.replace(TOOLS, "Edit");
        assert_eq!(hooked(&narrowed), Ok(None), "what a person has changed stays");
        let own = after.replace("! command -v claudectl >/dev/null || claudectl", "/opt/claudectl");
        assert_eq!(hooked(&own), Ok(None), "so does a command of their own");
        let renamed = after.replace("--repository shop", "--repository store");
        assert_eq!(hooked(&renamed), Ok(Some(after)));
    }

    #[test]
    fn no_file_and_an_empty_one_are_the_same() {
        let made = hooked("").expect("good").expect("made");
        assert_eq!(hooked("{}\n"), Ok(Some(made.clone())));
        assert!(made.starts_with("{\n  \"hooks\": {\n    \"PreToolUse\": [\n") && made.ends_with("}\n"), "{made}");
        let user = with_hook("", &"shop".parse().expect("a name"), true).expect("good").expect("made");
        assert_eq!(user, made.replace("claudectl hook", "claudectl --user hook"));
        assert_eq!(hooked(&user), Ok(Some(made)));
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        for (text, word) in [
            ("{", "not JSON"),
            ("{} x", "not JSON"),
            ("{\"a\": 1,}", "not JSON"),
            ("// mine\n{}", "not JSON"),
            ("[]", "not a JSON object"),
            ("{\"hooks\": 1}", "\"hooks\""),
            ("{\"hooks\": {\"PreToolUse\": {}}}", "\"PreToolUse\""),
        ] {
            assert!(hooked(text).is_err_and(|e| e.contains(word)), "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i32>().prop_map(Value::from), "\\PC{0,6}".prop_map(Value::from)];
        let key = prop_oneof!["hooks", "PreToolUse", "command", "\\PC{0,4}"];
        leaf.prop_recursive(5, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_stands_there_stays_and_the_second_time_changes_nothing(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("JSON");
            let Ok(Some(after)) = hooked(&text) else { return Ok(()) };
            let mut after_value: Value = serde_json::from_str(&after).expect("JSON");
            prop_assert_eq!(hooked(&after), Ok(None));
            let entries = after_value.pointer_mut("/hooks/PreToolUse").and_then(Value::as_array_mut).expect("there");
            prop_assert!(entries.pop().is_some_and(|entry| entry["hooks"][0]["command"] == COMMAND));
            let mut before = value;
            let hooks = before.as_object_mut().expect("an object").entry("hooks").or_insert_with(|| json!({}));
            hooks.as_object_mut().expect("an object").entry("PreToolUse").or_insert_with(|| json!([]));
            prop_assert_eq!(after_value, before);
        }
    }
}
