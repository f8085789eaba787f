//! `/proc/PID/stat`, for all who ask about a process (proc_pid_stat(5)).

use std::fs;

/// What the kernel says of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// It has ended, and its parent has not asked for it yet: a zombie.
    pub ended: bool,
    /// Its parent.
    pub parent: u32,
    /// Its session: the process ID of who made that.
    pub session: u32,
    /// When it began, in clock ticks after boot: a process ID alone may be another's by now.
    pub began: u64,
    /// Resident memory, in pages.
    pub resident: u64,
}

impl Stat {
    /// Of that process; `None` if it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is a name in parentheses that may hold anything, so what follows the last one counts.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from one, and two are cut off.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |at: usize| field(at)?.parse().ok();
        Some(Self {
            ended: matches!(field(3)?, "Z" | "X"),
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            began: number(22)?,
            // The kernel shows none of a zombie.
            resident: number(24)?,
        })
    }
}

/// When a process began, in clock ticks after boot; `None` if it is gone.
pub fn began(pid: u32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.began)
}

/// The name of a process, at most 15 bytes of it (proc_pid_comm(5)); `None` if it is gone.
pub fn name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

/// All processes that can be seen.
pub fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_whose_name_has_blanks_and_parentheses() {
        let line = "42 (a) Z 1 (b c) S 7 42 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 9000 321 18446744073709551615 0 0";
        assert_eq!(Stat::parse(line), Some(Stat { ended: false, parent: 7, session: 9, began: 4242, resident: 321 }));
        assert!(Stat::parse(&line.replace(" S 7", " Z 7")).is_some_and(|stat| stat.ended));
        assert_eq!([Stat::parse("7 (a"), Stat::parse("nonsense"), Stat::parse("7 (a) S 1")], [None; 3]);
    }

    #[test]
    fn this_process_is_there_and_began() {
        let own = std::process::id();
        let stat = Stat::of(own).expect("alive");
        assert!(stat.began > 0 && stat.resident > 0 && !stat.ended, "{stat:?}");
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(all().any(|pid| pid == own));
        assert_eq!((began(own), began(u32::MAX)), (Some(stat.began), None));
    }
}
