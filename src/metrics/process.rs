//! The daemon's own process, under the names that Prometheus gives to every program's (proc(5)).

use super::page::{Kind, Page};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::path::Path;

/// Fields of `/proc/self/stat`, counted from the one after the command's closing parenthesis (proc_pid_stat(5): `state`, field 3).
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START: usize = 19;
const VSIZE: usize = 20;
const RSS: usize = 21;

/// Adds what can be read; a family whose file cannot be is missing.
pub(super) fn add(page: &mut Page, proc: &Path) {
    let stat = fs::read_to_string(proc.join("self/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().map(|f| f.parse().unwrap_or(f64::NAN)).collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number).copied().filter(|value| value.is_finite());
    let ticks = |number: usize| Some(field(number)? / system(SysconfVar::CLK_TCK)?);
    if let (Some(user), Some(kernel)) = (ticks(UTIME), ticks(STIME)) {
        page.family("process_cpu_seconds_total", "CPU time that clauded has used.", Kind::Counter).add(&[], user + kernel);
    }
    page.gauge("process_resident_memory_bytes", "Resident memory of clauded.", field(RSS).zip(system(SysconfVar::PAGE_SIZE)).map(|(pages, size)| pages * size));
    page.gauge("process_virtual_memory_bytes", "Virtual memory of clauded.", field(VSIZE));
    page.gauge("process_threads", "Threads of clauded.", field(THREADS));
    page.gauge(
        "process_start_time_seconds",
        "When clauded was started, in seconds since the epoch.",
        ticks(START).zip(boot_time(proc)).map(|(start, boot)| boot + start),
    );
    page.gauge("process_open_fds", "File descriptors that clauded has open.", open_descriptors(proc));
    let most = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| float(soft));
    page.gauge("process_max_fds", "File descriptors that clauded may have open.", most);
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

fn system(variable: SysconfVar) -> Option<f64> {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).map(float)
}

/// `btime` of `/proc/stat`: when the kernel started.
fn boot_time(proc: &Path) -> Option<f64> {
    fs::read_to_string(proc.join("stat")).ok()?.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// The size of `/proc/self/fd` is their number since Linux 6.2. Before, they are listed, which costs as much as reading a file
/// of each; one of them is the listing itself.
fn open_descriptors(proc: &Path) -> Option<f64> {
    let path = proc.join("self/fd");
    match fs::metadata(&path).ok()?.len() {
        0 => u64::try_from(fs::read_dir(path).ok()?.count().saturating_sub(1)).ok().map(float),
        number => Some(float(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted() {
        let number = || open_descriptors(Path::new("/proc")).expect("proc");
        let opened = || {
            let before = number();
            let many: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").expect("opened")).collect();
            number() - before - many.len() as f64
        };
        // Other tests open and close files at the same time, and some of them many; but not each time.
        let off: Vec<f64> = (0..5).map(|_| opened()).collect();
        assert!(off.iter().any(|off| off.abs() < 100.0), "{off:?}");
    }
}
