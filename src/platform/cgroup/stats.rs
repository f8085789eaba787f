//! What is read of a group: each file once, whole, and parsed. A missing file or a line that makes no sense is a missing
//! number, never an error: kernels differ, and a group may go away while it is read.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use std::os::fd::OwnedFd;
use std::path::Path;

/// `some` or `full` of a `*.pressure` file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Per cent of the last ten seconds.
    pub avg10: f64,
    /// Total stall time, µs.
    pub total_usec: u64,
}

/// All that is read of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// `cpu.stat` `user_usec`.
    pub cpu_user_usec: Option<u64>,
    /// `cpu.stat` `system_usec`.
    pub cpu_system_usec: Option<u64>,
    /// `cpu.stat` `nr_periods`.
    pub cpu_periods: Option<u64>,
    /// `cpu.stat` `nr_throttled`.
    pub cpu_throttled_periods: Option<u64>,
    /// `cpu.stat` `throttled_usec`.
    pub cpu_throttled_usec: Option<u64>,
    /// `memory.current`.
    pub memory_current: Option<u64>,
    /// `memory.peak` (Linux 5.19).
    pub memory_peak: Option<u64>,
    /// `memory.swap.current`.
    pub swap_current: Option<u64>,
    /// `memory.events` as it stands: low, high, max, oom, oom_kill, oom_group_kill.
    pub memory_events: Vec<(String, u64)>,
    /// `pids.current`.
    pub pids_current: Option<u64>,
    /// `pids.events` `max`: refused forks.
    pub pids_refused: Option<u64>,
    /// `io.stat` `rbytes`, over all devices.
    pub io_read_bytes: Option<u64>,
    /// `io.stat` `wbytes`.
    pub io_write_bytes: Option<u64>,
    /// `io.stat` `rios`.
    pub io_reads: Option<u64>,
    /// `io.stat` `wios`.
    pub io_writes: Option<u64>,
    /// `cpu.pressure` `some`, `full`.
    pub cpu_pressure: (Option<Pressure>, Option<Pressure>),
    /// `memory.pressure` `some`, `full`.
    pub memory_pressure: (Option<Pressure>, Option<Pressure>),
    /// `io.pressure` `some`, `full`.
    pub io_pressure: (Option<Pressure>, Option<Pressure>),
}

impl Stats {
    /// A counter of `memory.events`, such as `oom_kill`.
    pub fn memory_event(&self, name: &str) -> Option<u64> {
        self.memory_events.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

/// The limits of one group; `None` where there is no limit or no such file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    /// `memory.max`.
    pub memory_max: Option<u64>,
    /// `memory.high`.
    pub memory_high: Option<u64>,
    /// `memory.swap.max`.
    pub swap_max: Option<u64>,
    /// `cpu.max`: quota and period, µs.
    pub cpu_max: Option<(u64, u64)>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// `io.weight`, its `default` line.
    pub io_weight: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u64>,
}

impl Caps {
    /// What holds for a group with these limits below one with those of `outer`. Weights are shares among siblings: its own.
    #[must_use]
    pub fn below(self, outer: &Self) -> Self {
        let least = |own: Option<u64>, outer: Option<u64>| own.into_iter().chain(outer).min();
        let share = |&(quota, period): &(u64, u64)| u128::from(quota) * 1_000_000 / u128::from(period.max(1));
        Self {
            memory_max: least(self.memory_max, outer.memory_max),
            memory_high: least(self.memory_high, outer.memory_high),
            swap_max: least(self.swap_max, outer.swap_max),
            cpu_max: self.cpu_max.into_iter().chain(outer.cpu_max).min_by_key(share),
            pids_max: least(self.pids_max, outer.pids_max),
            ..self
        }
    }
}

/// What a buffer begins with: the files are a tenth of it, `io.stat` of a host with many devices excepted.
pub(super) const BUFFER: usize = 4096;

/// The files of one group.
pub(super) trait Files {
    /// The text of a file; `None` if it cannot be read.
    fn read(&mut self, name: &'static str) -> Option<&str>;

    /// A file that is one number.
    fn number(&mut self, name: &'static str) -> Option<u64> {
        self.read(name)?.trim().parse().ok()
    }

    /// A file of pressure, `some` and `full`.
    fn pressure(&mut self, name: &'static str) -> (Option<Pressure>, Option<Pressure>) {
        self.read(name).map(pressure).unwrap_or_default()
    }
}

/// Reads a file from its beginning; answers how much of the buffer it fills. The kernel makes the text of a control file at
/// once and gives as much of it as there is room for, so what comes short of the room is all.
pub(super) fn whole(file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match pread(file, room, i64::try_from(filled).unwrap_or(i64::MAX)) {
            Ok(count) => filled += count,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        }
        if filled < buffer.len() {
            return Ok(filled);
        }
        buffer.resize(filled * 2, 0);
    }
}

/// Opens the files of one directory as they are asked for.
struct Reader {
    directory: OwnedFd,
    buffer: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> Option<Self> {
        let directory = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        Some(Self { directory, buffer: vec![0; BUFFER] })
    }
}

impl Files for Reader {
    fn read(&mut self, name: &'static str) -> Option<&str> {
        let file = openat(&self.directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let filled = whole(&file, &mut self.buffer).ok()?;
        std::str::from_utf8(self.buffer.get(..filled)?).ok()
    }
}

/// The lines `KEY VALUE` of a flat keyed file.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| line.split_once(' ').and_then(|(key, value)| Some((key, value.trim().parse().ok()?))))
}

/// A number of a flat keyed file.
fn keyed(text: &str, key: &str) -> Option<u64> {
    pairs(text).find(|(k, _)| *k == key).map(|(_, v)| v)
}

/// The two lines of a pressure file (Documentation/accounting/psi.rst).
fn pressure(text: &str) -> (Option<Pressure>, Option<Pressure>) {
    let line = |kind: &str| {
        let fields = text.lines().find_map(|l| l.strip_prefix(kind)?.strip_prefix(' '))?;
        let field = |key: &str| fields.split(' ').find_map(|f| f.strip_prefix(key)?.strip_prefix('='));
        Some(Pressure { avg10: field("avg10")?.parse().ok().filter(|a: &f64| a.is_finite())?, total_usec: field("total")?.parse().ok()? })
    };
    (line("some"), line("full"))
}

/// A field of `io.stat` (`8:0 rbytes=1 wbytes=2 …`), over all devices: 0 if there is no device yet.
fn io_total(text: &str, key: &str) -> u64 {
    let fields = text.lines().flat_map(|line| line.split(' ').skip(1));
    fields.filter_map(|field| field.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

/// `cpu.max`: `QUOTA PERIOD`, or `max PERIOD`.
fn cpu_max(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

/// `io.weight`: a line `default WEIGHT`, then one for each device that differs; `io.bfq.weight` once had the bare number.
fn default_weight(text: &str) -> Option<u64> {
    let line = text.lines().next()?;
    line.strip_prefix("default ").unwrap_or(line).trim().parse().ok()
}

/// Reads all numbers of the group at `path`.
pub(super) fn read_stats(path: &Path) -> Stats {
    Reader::open(path).map(|mut group| stats(&mut group)).unwrap_or_default()
}

/// Reads `oom_kill` of the group at `path`.
pub(super) fn read_oom_kills(path: &Path) -> Option<u64> {
    keyed(Reader::open(path)?.read("memory.events")?, "oom_kill")
}

/// What a group uses of its memory, and what bounds it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// `memory.current` without the file cache that nobody has used lately (`memory.stat` `inactive_file`): that is given back at need.
    pub used: Option<u64>,
    /// The lower of `memory.high` and `memory.max`.
    pub limit: Option<u64>,
    /// `memory.pressure` `some avg10`, per cent.
    pub pressure: Option<f64>,
}

/// Reads what the group at `path` uses and may use.
pub(super) fn read_memory(path: &Path) -> Memory {
    let Some(mut group) = Reader::open(path) else { return Memory::default() };
    let cache = group.read("memory.stat").and_then(|text| keyed(text, "inactive_file")).unwrap_or(0);
    let used = group.number("memory.current").map(|current| current.saturating_sub(cache));
    let limit = [group.number("memory.high"), group.number("memory.max")].into_iter().flatten().min();
    Memory { used, limit, pressure: group.pressure("memory.pressure").0.map(|some| some.avg10) }
}

/// Reads all limits of the group at `path`.
pub(super) fn read_caps(path: &Path) -> Caps {
    let Some(mut group) = Reader::open(path) else { return Caps::default() };
    Caps {
        cpu_weight: group.number("cpu.weight"),
        io_weight: group.read("io.weight").and_then(default_weight).or_else(|| group.read("io.bfq.weight").and_then(default_weight)),
        ..limits(&mut group)
    }
}

/// All numbers.
pub(super) fn stats(group: &mut impl Files) -> Stats {
    let mut stats = Stats {
        memory_current: group.number("memory.current"),
        memory_peak: group.number("memory.peak"),
        swap_current: group.number("memory.swap.current"),
        pids_current: group.number("pids.current"),
        pids_refused: group.read("pids.events").and_then(|text| keyed(text, "max")),
        cpu_pressure: group.pressure("cpu.pressure"),
        memory_pressure: group.pressure("memory.pressure"),
        io_pressure: group.pressure("io.pressure"),
        ..Stats::default()
    };
    for (key, value) in group.read("cpu.stat").into_iter().flat_map(pairs) {
        match key {
            "user_usec" => stats.cpu_user_usec = Some(value),
            "system_usec" => stats.cpu_system_usec = Some(value),
            "nr_periods" => stats.cpu_periods = Some(value),
            "nr_throttled" => stats.cpu_throttled_periods = Some(value),
            "throttled_usec" => stats.cpu_throttled_usec = Some(value),
            _ => {}
        }
    }
    if let Some(text) = group.read("memory.events") {
        stats.memory_events = pairs(text).map(|(key, value)| (key.to_owned(), value)).collect();
    }
    if let Some(text) = group.read("io.stat") {
        stats.io_read_bytes = Some(io_total(text, "rbytes"));
        stats.io_write_bytes = Some(io_total(text, "wbytes"));
        stats.io_reads = Some(io_total(text, "rios"));
        stats.io_writes = Some(io_total(text, "wios"));
    }
    stats
}

/// The limits without the weights.
pub(super) fn limits(group: &mut impl Files) -> Caps {
    Caps {
        memory_max: group.number("memory.max"),
        memory_high: group.number("memory.high"),
        swap_max: group.number("memory.swap.max"),
        cpu_max: group.read("cpu.max").and_then(cpu_max),
        pids_max: group.number("pids.max"),
        ..Caps::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files as Linux 6.1 shows them.
    const FILES: &[(&str, &str)] = &[
        (
            "cpu.stat",
            "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\ncore_sched.force_idle_usec 0\nnr_periods 40\nnr_throttled 10\nthrottled_usec 812345\nnr_bursts 0\nburst_usec 0\n",
        ),
        ("memory.current", "467000\n"),
        ("memory.peak", "1048576\n"),
        ("memory.swap.current", "0\n"),
        ("memory.events", "low 0\nhigh 2200\nmax 7\noom 3\noom_kill 3\noom_group_kill 1\n"),
        ("memory.max", "max\n"),
        ("memory.high", "33554432\n"),
        ("memory.swap.max", "0\n"),
        ("pids.current", "12\n"),
        ("pids.events", "max 4\n"),
        ("pids.max", "512\n"),
        ("cpu.max", "20000 100000\n"),
        ("cpu.weight", "100\n"),
        ("io.weight", "default 200\n8:16 300\n"),
        ("io.stat", "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n253:70000 rbytes=100 wbytes=1 rios=1 wios=1\n8:0 \n"),
        ("cpu.pressure", "some avg10=14.20 avg60=3.00 avg300=0.65 total=1234567\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
        ("memory.pressure", "some avg10=40.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=37.51 avg60=0.00 avg300=0.00 total=8\n"),
        ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
    ];

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        directory
    }

    #[test]
    fn every_number_is_read() {
        let group = directory(FILES);
        let stats = read_stats(group.path());
        assert_eq!((stats.cpu_user_usec, stats.cpu_system_usec), (Some(2_500_000), Some(1_000_000)));
        assert_eq!((stats.cpu_periods, stats.cpu_throttled_periods, stats.cpu_throttled_usec), (Some(40), Some(10), Some(812_345)));
        assert_eq!((stats.memory_current, stats.memory_peak, stats.swap_current), (Some(467_000), Some(1_048_576), Some(0)));
        assert_eq!((stats.memory_event("oom_kill"), stats.memory_event("high"), stats.memory_event("x")), (Some(3), Some(2200), None));
        assert_eq!((read_oom_kills(group.path()), read_oom_kills(Path::new("/nonexistent/group"))), (Some(3), None));
        assert_eq!((stats.pids_current, stats.pids_refused), (Some(12), Some(4)));
        assert_eq!((stats.io_read_bytes, stats.io_write_bytes, stats.io_reads, stats.io_writes), (Some(1_459_300), Some(314_773_505), Some(193), Some(354)));
        assert_eq!(stats.cpu_pressure.0, Some(Pressure { avg10: 14.2, total_usec: 1_234_567 }));
        assert_eq!(stats.memory_pressure.1, Some(Pressure { avg10: 37.51, total_usec: 8 }));
        assert_eq!(stats.io_pressure.1, None);
        let caps = read_caps(group.path());
        assert_eq!((caps.memory_max, caps.memory_high, caps.swap_max), (None, Some(33_554_432), Some(0)));
        assert_eq!((caps.cpu_max, caps.cpu_weight, caps.io_weight, caps.pids_max), (Some((20_000, 100_000)), Some(100), Some(200), Some(512)));
    }

    #[test]
    fn what_is_missing_has_no_number() {
        let group = directory(&[("cpu.stat", "usage_usec 1\n"), ("io.stat", ""), ("cpu.max", "max 100000\n"), ("io.bfq.weight", "150\n")]);
        assert_eq!(
            read_stats(group.path()),
            Stats { io_read_bytes: Some(0), io_write_bytes: Some(0), io_reads: Some(0), io_writes: Some(0), ..Stats::default() }
        );
        assert_eq!(read_caps(group.path()), Caps { io_weight: Some(150), ..Caps::default() });
        assert_eq!(read_stats(Path::new("/nonexistent/group")), Stats::default());
    }

    #[test]
    fn a_file_longer_than_the_buffer_is_read_whole() {
        let many: String = (0..1000).map(|n| format!("8:{n} rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n")).collect();
        assert_eq!(read_stats(directory(&[("io.stat", &many)]).path()).io_writes, Some(4000));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(text in "(\\PC|\n| |=|[0-9]|max|some|full|default|total=|avg10=){0,60}") {
            let (some, full) = pressure(&text);
            prop_assert!([some, full].into_iter().flatten().all(|p| p.avg10.is_finite()));
            let _ = (io_total(&text, "rbytes"), cpu_max(&text), default_weight(&text), keyed(&text, "max"));
        }
    }
}
