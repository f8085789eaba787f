//! systemd.syntax(7): values written so that systemd reads back exactly what was meant.

/// A word for settings that take a list of quoted words and expand specifiers (`Environment=`, `RequiresMountsFor=`).
pub(super) fn quoted(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            // Paths have none (the configuration refuses them), and messages can do without.
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The rest of a line that is taken as it is, save for specifiers (the path of `LoadCredential=`).
pub(super) fn plain(text: &str) -> String {
    text.replace('%', "%%")
}
