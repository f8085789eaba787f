//! Opening: a file that is damaged, foreign or newer is found out before anything can change it.

use super::audit::last;
use super::{Fault, SqliteStore};
use crate::platform::store::StoreError;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// The schema's versions, embedded in the program.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a writer waits for another process, such as a person's `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read: one page of tasks must not wait behind another.
const READERS: u32 = 3;

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date. The directory must exist.
    ///
    /// # Errors
    /// Newer, damaged or unreadable; the file is untouched then.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let broken = |verb: &'static str| move |error: io::Error| StoreError::Other { path: path.to_owned(), verb, detail: error.to_string() };
        match fs::metadata(path) {
            Ok(data) if !data.is_file() => return Err(broken("open")(io::Error::other("not a regular file"))),
            Ok(data) if data.len() > 0 => inspect(path).await?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path).map_err(broken("create"))?,
            Err(error) => return Err(broken("open")(error)),
        }
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let reading = options.read_only(true);
        let fault = |verb: &'static str| move |error: sqlx::Error| Fault::Sql(error).at(path, verb);
        // Connections are never given up for age: the last one to close removes the write-ahead log, which a full disk could not make again.
        let pool = || SqlitePoolOptions::new().min_connections(1).idle_timeout(None).max_lifetime(None);
        let writer = pool().max_connections(1).connect_with(writing).await.map_err(fault("open"))?;
        MIGRATIONS.run(&writer).await.map_err(|error| fault("migrate")(sqlx::Error::from(error)))?;
        let end = last(&mut *writer.acquire().await.map_err(fault("open"))?).await.map_err(|fault| fault.at(path, "read the audit's end"))?;
        let readers = pool().max_connections(READERS).connect_with(reading).await.map_err(fault("open"))?;
        Ok(Self { path: path.into(), writer, readers, head: Arc::new(Mutex::new(Some(end))), heads: Arc::new(watch::Sender::new(end)) })
    }
}

/// Makes an empty file that only its owner can read, and its directory entry durable.
fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// The file beside a database that has its name and this suffix.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Looks at an existing file without changing it or leaving anything beside it.
async fn inspect(path: &Path) -> Result<(), StoreError> {
    let index = beside(path, "-shm");
    // Without a log to replay nothing but the file itself need be looked at, not even its locks.
    let logged = fs::metadata(beside(path, "-wal")).is_ok_and(|data| data.len() > 0);
    let had_index = index.exists();
    if !logged {
        whole(path)?;
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(!logged).busy_timeout(BUSY_TIMEOUT);
    let fault = |error: sqlx::Error| Fault::Sql(error).at(path, "open");
    let mut connection = options.connect().await.map_err(fault)?;
    let found = examine(&mut connection).await;
    let closed = connection.close().await;
    let verdict = match found {
        Ok(Found::Damaged(detail)) => Err(StoreError::Damaged { path: path.to_owned(), detail }),
        Ok(Found::Version(found)) if found > known() => Err(StoreError::Newer { path: path.to_owned(), found, known: known() }),
        Ok(Found::Version(_)) => closed.map_err(fault),
        Err(error) => Err(fault(error)),
    };
    if verdict.is_err() && !had_index {
        // Replaying the log needed it. If it is not there, nothing is left to do.
        let _absent = fs::remove_file(&index);
    }
    verdict
}

/// What the inside of a database says.
enum Found {
    /// One of ours, with that schema; 0 if it is still empty.
    Version(i64),
    /// Not usable.
    Damaged(String),
}

async fn examine(connection: &mut SqliteConnection) -> Result<Found, sqlx::Error> {
    let check: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *connection).await?;
    if check != "ok" {
        return Ok(Found::Damaged(check.replace('\n', " ")));
    }
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'").fetch_all(&mut *connection).await?;
    if tables.is_empty() {
        return Ok(Found::Version(0));
    }
    if !tables.iter().any(|name| name == "_sqlx_migrations") {
        return Ok(Found::Damaged("it is another program's database".to_owned()));
    }
    let version: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(connection).await?;
    Ok(Found::Version(version.unwrap_or(0)))
}

/// The newest schema that this program knows.
fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Compares the file's length with the one in its header (sqlite.org/fileformat2.html#the_database_header): a page cut short
/// at the end may be one that SQLite's own check does not look at.
fn whole(path: &Path) -> Result<(), StoreError> {
    let broken = |error: io::Error| StoreError::Other { path: path.to_owned(), verb: "read", detail: error.to_string() };
    let file = File::open(path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    let mut header = Vec::new();
    file.take(100).read_to_end(&mut header).map_err(broken)?;
    let page = match header.get(16..18).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes) {
        Some(1) => 65536,
        size => u64::from(size.unwrap_or(0)),
    };
    let pages = header.get(28..32).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let expected = page * u64::from(pages.unwrap_or(0));
    if header.len() < 100 || length < expected {
        let detail = format!("it has {length} bytes and should have {}", expected.max(512));
        return Err(StoreError::Damaged { path: path.to_owned(), detail });
    }
    Ok(())
}
