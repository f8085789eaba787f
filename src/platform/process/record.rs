//! What must survive the daemon, one file for each instance: who runs, and which limits were set by hand. Written as a whole
//! or not at all.

use super::named;
use crate::core::ids::{InstanceName, InvocationId};
use crate::core::limits::{Limits, MemoryLimit};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One instance's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The boot that it is about (random(4), `boot_id`): process numbers and limits do not outlive it.
    pub(super) boot: String,
    /// Its runner.
    pub(super) process: Option<ProcessRecord>,
    /// `NRestarts`.
    pub(super) restarts: u32,
    /// It is to be started again when its pause is over.
    pub(super) waiting: bool,
    /// Limits set at run time, over the configured ones.
    pub(super) limits: LimitsText,
}

/// A runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessRecord {
    /// Its process number; 0 when it is about to be started.
    pub(super) pid: u32,
    /// When it began, in clock ticks after boot (proc_pid_stat(5), field 22): the number alone may be another's by now.
    pub(super) began: u64,
    /// Its invocation.
    pub(super) invocation: InvocationId,
    /// Its cgroup's directory.
    pub(super) group: Option<PathBuf>,
    /// When it became ready, µs since 1970.
    pub(super) since: Option<i64>,
    /// A stop was asked for.
    pub(super) stopping: bool,
}

/// [`Limits`] as people write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LimitsText {
    memory: Option<String>,
    memory_high: Option<String>,
    swap: Option<String>,
    cpu: Option<String>,
    cpu_weight: Option<String>,
    io_weight: Option<String>,
    tasks: Option<String>,
}

impl ProcessRecord {
    /// A runner that is about to be started.
    pub(super) fn intended(invocation: InvocationId, group: Option<PathBuf>) -> Self {
        Self { pid: 0, began: 0, invocation, group, since: None, stopping: false }
    }
}

impl From<Limits> for LimitsText {
    fn from(limits: Limits) -> Self {
        Self {
            memory: limits.memory.map(|l| l.to_string()),
            memory_high: limits.memory_high.map(|l| l.to_string()),
            swap: limits.swap.map(|l| l.to_string()),
            cpu: limits.cpu.map(|l| l.to_string()),
            cpu_weight: limits.cpu_weight.map(|l| l.to_string()),
            io_weight: limits.io_weight.map(|l| l.to_string()),
            tasks: limits.tasks.map(|l| l.to_string()),
        }
    }
}

impl From<&LimitsText> for Limits {
    /// What no longer parses is no limit.
    fn from(text: &LimitsText) -> Self {
        fn parse<T: std::str::FromStr>(text: &Option<String>) -> Option<T> {
            text.as_deref().and_then(|text| text.parse().ok())
        }
        Self {
            memory: parse(&text.memory),
            memory_high: parse(&text.memory_high),
            // Not as memory: swap may be 0.
            swap: text.swap.as_deref().and_then(|text| MemoryLimit::from_swap(text).ok()),
            cpu: parse(&text.cpu),
            cpu_weight: parse(&text.cpu_weight),
            io_weight: parse(&text.io_weight),
            tasks: parse(&text.tasks),
        }
    }
}

/// This boot.
pub(super) fn boot() -> io::Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(named("read", path))
}

/// The records, in one directory.
#[derive(Clone, Debug)]
pub(super) struct Records {
    directory: PathBuf,
}

impl Records {
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory).map_err(named("make", &directory))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &InstanceName) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    /// All records of this boot. One that cannot be read is said and left alone.
    pub(super) fn all(&self, boot: &str) -> io::Result<Vec<(InstanceName, Record)>> {
        let entries = fs::read_dir(&self.directory).map_err(named("list", &self.directory))?;
        let mut records = Vec::new();
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_name().and_then(|f| f.to_str()).and_then(|f| f.strip_suffix(".json")).and_then(|n| n.parse::<InstanceName>().ok());
            let Some(name) = name else { continue };
            let read = fs::read(&path).map_err(named("read", &path)).and_then(|text| {
                serde_json::from_slice::<Record>(&text)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("parse {}: {error}", path.display())))
            });
            match read {
                Ok(record) if record.boot == boot => records.push((name, record)),
                Ok(_) => self.remove(&name)?,
                Err(error) => tracing::warn!(instance = %name, %error, "cannot take over what an earlier daemon left"),
            }
        }
        Ok(records)
    }

    pub(super) fn write(&self, name: &InstanceName, record: &Record) -> io::Result<()> {
        let (path, new) = (self.path(name), self.directory.join(format!(".{name}.new")));
        let text = serde_json::to_vec(record).map_err(io::Error::from)?;
        let written = (|| {
            let mut file = fs::File::create(&new).map_err(named("create", &new))?;
            file.write_all(&text).and_then(|()| file.sync_data()).map_err(named("write", &new))?;
            fs::rename(&new, &path).map_err(named("rename to", &path))
        })();
        if written.is_err() {
            // On a full disk the half-written file is the first thing that can go.
            let _ = fs::remove_file(&new);
        }
        written
    }

    pub(super) fn remove(&self, name: &InstanceName) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_for_this_boot_only() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let records = Records::open(directory.path().join("instances")).expect("opened");
        let name: InstanceName = "feature-x".parse().expect("valid");
        let limits = Limits {
            memory: "1.5G".parse().ok(),
            swap: MemoryLimit::from_swap("0").ok(),
            cpu: "infinity".parse().ok(),
            tasks: "64".parse().ok(),
            ..Limits::default()
        };
        let process = ProcessRecord {
            pid: 7,
            began: 8,
            invocation: InvocationId::from_bytes(&[1; 16]).expect("not zero"),
            group: Some("/sys/fs/cgroup/x".into()),
            since: Some(9),
            stopping: false,
        };
        let record = Record { boot: "b".into(), process: Some(process), restarts: 2, waiting: false, limits: limits.into() };
        records.write(&name, &record).expect("written");
        assert_eq!(Limits::from(&record.limits), limits);
        std::fs::write(directory.path().join("instances/other.json"), "{").expect("written");
        assert_eq!(records.all("b").expect("read"), [(name.clone(), record)]);
        assert_eq!(records.all("c").expect("read"), []);
        assert_eq!(records.all("b").expect("read"), [], "a record of an earlier boot is removed");
        records.remove(&name).expect("removing what is not there is fine");
    }
}
