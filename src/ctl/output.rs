//! The only place that prints: tables, JSON, YAML, colour on a terminal alone, progress while waiting.

use super::args::Format;
use super::failure::Failure;
use comfy_table::{ContentArrangement, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// What colour means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    /// The number of an SGR sequence (ECMA-48).
    fn code(self) -> u8 {
        match self {
            Self::Good => 32,
            Self::Busy => 33,
            Self::Bad => 31,
            Self::Faint => 2,
            Self::Strong => 1,
        }
    }
}

/// States of units, tasks and checks that have a colour.
const STATES: [(&str, Tone); 19] = [
    ("active", Tone::Good),
    ("activating", Tone::Busy),
    ("deactivating", Tone::Busy),
    ("reloading", Tone::Busy),
    ("inactive", Tone::Faint),
    ("failed", Tone::Bad),
    ("pending", Tone::Faint),
    ("assigned", Tone::Busy),
    ("running", Tone::Busy),
    ("verifying", Tone::Busy),
    ("publishing", Tone::Busy),
    ("succeeded", Tone::Good),
    ("cancelled", Tone::Faint),
    ("limited", Tone::Busy),
    ("interrupted", Tone::Busy),
    ("ok", Tone::Good),
    ("warning", Tone::Busy),
    ("problem", Tone::Bad),
    ("degraded", Tone::Bad),
];

/// How to draw: decided once, so that everything else is a function of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// Escape sequences for colour.
    pub(super) colour: bool,
    /// A dot before each state.
    pub(super) dots: bool,
    /// Columns to fit into.
    pub(super) width: Option<u16>,
}

impl Style {
    /// Text in a tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }

    /// A state's name for a table cell or a line; [`Style::finish`] gives it its colour.
    pub(super) fn state(self, name: &str) -> String {
        if self.dots { format!("● {name}") } else { name.to_owned() }
    }

    /// Colours the states of finished text. Only after layout, since escape sequences have no width and the layout counts them.
    pub(super) fn finish(self, text: String) -> String {
        if !self.colour {
            return text;
        }
        STATES.iter().fold(text, |text, (name, tone)| {
            let plain = format!("● {name}");
            text.replace(&plain, &self.paint(*tone, &plain))
        })
    }

    /// A table without borders; rows wrap inside their columns if there is a width.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().map(|h| (*h).to_owned()));
        match self.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        for row in rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        if self.colour
            && let Some((first, rest)) = text.split_once('\n')
        {
            text = format!("{}\n{rest}", self.paint(Tone::Strong, first));
        }
        self.finish(text)
    }

    /// `Label: value` lines, the values one below the other; those without a value are left out.
    pub(super) fn fields(self, fields: &[(&str, String)]) -> String {
        let width = fields.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (label, value) in fields.iter().filter(|(_, v)| !v.is_empty()) {
            let indented = value.replace('\n', &format!("\n{:width$}  ", ""));
            text.push_str(&format!("{}{} {indented}\n", " ".repeat(width - label.len()), self.paint(Tone::Strong, &format!("{label}:"))));
        }
        self.finish(text)
    }
}

/// The YAML document that says the same as that JSON.
fn yaml(json: &[u8]) -> Result<String, Failure> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|error| Failure::Failed(format!("an answer that is no JSON: {error}")))?;
    let text = serde_saphyr::to_string(&value).map_err(|error| Failure::Failed(format!("cannot write it as YAML: {error}")))?;
    Ok(format!("---\n{}\n", text.trim_end()))
}

/// Standard output and standard error.
#[derive(Debug)]
pub(super) struct Screen {
    format: Format,
    style: Style,
}

impl Screen {
    /// What standard output is, and what the user wants (no-color.org: `NO_COLOR` counts unless it is empty).
    pub(super) fn detect(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let width = if terminal { rustix::termios::tcgetwinsize(io::stdout()).ok().map(|w| w.ws_col).filter(|w| *w >= 20) } else { None };
        Self { format, style: Style { colour: terminal && !refused, dots: terminal, width } }
    }

    /// What was asked for.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// How to draw on standard output.
    pub(super) fn style(&self) -> Style {
        self.style
    }

    /// Whether the user wants data, as JSON or YAML.
    pub(super) fn data(&self) -> bool {
        self.format != Format::Table
    }

    /// Writes to standard output, at once.
    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes an answer of the API, in JSON: as it came, on a line of its own; or as a YAML document of its own.
    pub(super) fn body(&self, body: &[u8]) -> Result<(), Failure> {
        if self.format == Format::Yaml {
            return self.print(&yaml(body)?);
        }
        let mut line = body.trim_ascii_end().to_vec();
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes data of our own in the same ways.
    pub(super) fn value(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let body = serde_json::to_vec(value).map_err(|error| Failure::Failed(format!("cannot write it as JSON: {error}")))?;
        self.body(&body)
    }

    fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Output(error),
        })
    }

    /// Says something beside the answer, on standard error. Nobody there to read it is no reason to stop.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "claudectl: {}", super::quantity::clean(text));
    }

    /// Says why it did not work.
    pub(super) fn failure(&self, failure: &Failure) {
        match failure {
            Failure::ReaderGone => {}
            _ if self.data() => {
                let _ = writeln!(io::stderr().lock(), "{}", failure.json());
            }
            _ => self.note(&failure.to_string()),
        }
    }

    /// A line that moves while something is waited for; on a terminal alone.
    pub(super) fn progress(&self) -> Progress {
        let visible = io::stderr().is_terminal() && !self.data();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        if visible {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Progress { bar, visible }
    }
}

/// The moving line; it goes away with this value.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    visible: bool,
}

impl Progress {
    /// What is being waited for.
    pub(super) fn say(&self, text: &str) {
        self.bar.set_message(super::quantity::line(text, 500));
    }

    /// Whether anybody sees it.
    pub(super) fn visible(&self) -> bool {
        self.visible
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        vec![vec!["feature-x".into(), Style::default().state("active"), "works on a rather long thing".into()]]
    }

    #[test]
    fn plain_tables_are_for_other_programs() {
        let text = Style::default().table(&["NAME", "STATE", "DOING"], rows());
        assert_eq!(text, "NAME       STATE   DOING\nfeature-x  active  works on a rather long thing\n");
    }

    #[test]
    fn tables_fit_the_terminal() {
        let text = Style { width: Some(34), ..Style::default() }.table(&["NAME", "STATE", "DOING"], rows());
        assert!(text.lines().count() > 2 && text.lines().all(|l| l.chars().count() <= 34), "{text}");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let style = Style { colour: true, dots: true, width: Some(80) };
        let coloured = style.table(&["NAME", "STATE", "X"], vec![vec!["a".into(), style.state("failed"), "1".into()]]);
        let plain = Style { colour: false, ..style }.table(&["NAME", "STATE", "X"], vec![vec!["a".into(), style.state("failed"), "1".into()]]);
        assert_eq!(coloured, "\x1b[1mNAME  STATE     X\x1b[0m\na     \x1b[31m● failed\x1b[0m  1\n");
        assert_eq!(plain, "NAME  STATE     X\na     ● failed  1\n");
    }

    #[test]
    fn yaml_says_what_the_json_says() {
        let all = serde_json::json!([
            { "title": "no", "number": "1e3", "text": "two\nlines: # and more\n", "none": null, "empty": [], "nothing": {} },
            { "deep": [{ "list": [[1, -2.5, true], "~", "", " a ", "- b", "c: d", "\u{1b}[0m"] }] },
        ]);
        let text = yaml(&serde_json::to_vec(&all).expect("JSON")).expect("YAML");
        assert!(text.starts_with("---\n- ") && text.ends_with('\n'), "{text}");
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&text).expect("YAML"), all, "{text}");
    }

    #[test]
    fn fields_line_up_and_empty_ones_are_left_out() {
        let text = Style::default().fields(&[("Unit", "u".into()), ("Directory", "d\ne".into()), ("User", String::new())]);
        assert_eq!(text, "     Unit: u\nDirectory: d\n           e\n");
    }
}
