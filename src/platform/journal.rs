//! The journal as a place for what the programs say, with syslog's own priorities.

use tracing_journald::{Layer, Priority, PriorityMappings};

/// The way to the journal, where systemd has connected our standard error to it: `$JOURNAL_STREAM` is set exactly then
/// (systemd.exec(5)). Fields are named as in the code; `info` is 6 and not 5, which people are shown as of note.
pub fn layer() -> Option<Layer> {
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok())?;
    let priorities = PriorityMappings { info: Priority::Informational, debug: Priority::Debug, trace: Priority::Debug, ..PriorityMappings::new() };
    Some(journal.with_field_prefix(None).with_priority_mappings(priorities))
}
