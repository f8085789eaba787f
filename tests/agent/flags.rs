//! The flags of the real program that the runner uses; an unknown one is refused as there.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct Flags {
    pub session: Option<String>,
    pub resume: Option<String>,
    pub model: String,
    pub permission_mode: String,
    pub max_turns: Option<u64>,
    pub max_budget: Option<f64>,
    pub schema: bool,
    pub settings: Option<String>,
}

impl Flags {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut flags = Self { model: "claude-scripted".to_owned(), permission_mode: "default".to_owned(), ..Self::default() };
        let mut set = BTreeSet::new();
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            set.insert(flag.as_str());
            let mut value = || rest.next().cloned().ok_or_else(|| format!("option '{flag}' argument missing"));
            match flag.as_str() {
                "-p" | "--print" | "--verbose" | "--strict-mcp-config" => {}
                "--output-format" | "--input-format" => match value()?.as_str() {
                    "stream-json" => {}
                    other => return Err(format!("option '{flag}' argument '{other}' is not spoken here")),
                },
                "--setting-sources" | "--append-system-prompt" | "--mcp-config" | "--allowedTools" => drop(value()?),
                "--json-schema" => {
                    let text = value()?;
                    serde_json::from_str::<serde_json::Value>(&text).map_err(|e| format!("--json-schema is not valid JSON: {e}"))?;
                    flags.schema = true;
                }
                "--settings" => flags.settings = Some(value()?),
                "--session-id" => flags.session = Some(value()?),
                "--resume" => flags.resume = Some(value()?),
                "--model" => flags.model = value()?,
                "--permission-mode" => flags.permission_mode = value()?,
                "--max-turns" => flags.max_turns = Some(value()?.parse().map_err(|_| "option '--max-turns' is not a number".to_owned())?),
                "--max-budget-usd" => flags.max_budget = Some(value()?.parse().map_err(|_| "option '--max-budget-usd' is not a number".to_owned())?),
                other => return Err(format!("unknown option '{other}'")),
            }
        }
        if !set.contains("--verbose") {
            return Err("When using --print, --output-format=stream-json requires --verbose".to_owned());
        }
        if flags.session.is_some() && flags.resume.is_some() {
            return Err("--session-id can only be used with --resume if --fork-session is also specified.".to_owned());
        }
        Ok(flags)
    }
}
