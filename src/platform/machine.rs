//! The machine's own ID (machine-id(5)), from which the instances' stable IDs are made.

use std::fs;
use std::sync::OnceLock;

/// The first is systemd's, the second D-Bus's; a container may have neither.
const FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The machine's ID, read once; all zeros where there is none.
pub fn id() -> [u8; 16] {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    *ID.get_or_init(|| FILES.iter().find_map(|file| parse(&fs::read_to_string(file).ok()?)).unwrap_or_default())
}

fn parse(text: &str) -> Option<[u8; 16]> {
    uuid::Uuid::try_parse(text.trim()).ok().map(uuid::Uuid::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits_on_a_line() {
        assert_eq!(parse(&format!("{}\n", "0f".repeat(16))), Some([15; 16]));
        assert_eq!((parse(""), parse("uninitialized\n")), (None, None));
    }
}
