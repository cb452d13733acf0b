//! The store that lasts: SQLite, WAL, `synchronous=FULL`, one transaction for each batch.
//!
//! * `rows` and `promise_row`: rows and their checksums.
//! * `apply`: what each write does; `read`: the reading side and the check.
//! * `grant` and `schedule`: the same for these; `aside` for what is damaged, `collect` for what is not needed.
//!
//! # The write-ahead log
//!
//! SQLite would fold the log into the database and delete it whenever the last connection
//! closes: three syncs at the end of every short process, and a fourth to make the log again
//! at the start of the next. So the log stays ([`PersistWal`](FileControl::PersistWal), no
//! checkpoint on close), and a run that opens, commits once and closes syncs once. We fold it
//! ourselves, *before* a commit rather than after it as SQLite does: only a commit that
//! follows a checkpoint in the same process starts the log again at its beginning; processes
//! that commit once each would otherwise fold a growing log each time and never reset it.

mod apply;
mod aside;
mod claims;
mod collect;
mod grant;
mod promise_id;
mod promise_row;
mod read;
mod rows;
mod schedule;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, FileControl, OpenFlags, TransactionBehavior, ffi};

use crate::state_dir::StateDir;
use crate::store::{Reader, Refusal, Store, StoreError, Write, Written};

/// The first release without the WAL-reset race, by which two processes can lose commits (3.51.3).
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long we wait for another process that writes. Longer than any commit or checkpoint, so
/// whoever holds the lock longer than this is stuck or stopped.
pub const BUSY_LIMIT: Duration = Duration::from_secs(60);
/// The longest pause between two attempts to get the lock.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a database page. A row of a table without rowid is kept in its page up to a
/// quarter of it: with 8 KiB that is a step that reads 1 KiB, with 4 KiB each such step would
/// take a page of its own.
const PAGE_SIZE: u32 = 8192;
/// Pages in the log at which a process folds it before it commits.
const LOG_LIMIT: u64 = 1000;
/// The same for the first commit of a process, and the length above which it is folded on
/// close. Whoever opens the log first reads all of it (10 us a page), and a fold costs two
/// syncs: with some three pages a run this is where the sum of both is least.
const LOG_LEFT: u64 = 16;
/// Bytes to which a log that has been longer is cut when it starts again.
const LOG_BYTES_KEPT: u32 = 32 << 20;
/// KiB of pages that each connection keeps in memory.
const CACHE_KIB: u32 = 16 << 10;
/// Statements that each connection keeps prepared: all that there are.
const STATEMENTS: usize = 64;

/// `MIGRATIONS[n]` leads from version `n` to `n + 1`.
const MIGRATIONS: [&str; 4] = [
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
];
/// The schema version that this program knows.
const VERSION: i64 = MIGRATIONS.len() as i64;

/// The writing side of a database.
#[derive(Debug)]
pub struct SqliteStore {
    dir: StateDir,
    /// None after a failure that leaves the state of the connection in doubt: the next batch opens it again.
    connection: Option<Connection>,
    /// Pages in the log at which the next commit folds it first.
    fold_at: u64,
    /// Pages in the log after the last commit, if that is known.
    log: Option<u64>,
}

impl SqliteStore {
    /// Opens the database in a state directory, makes it if there is none, and brings its
    /// schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unfit`]: the files are not ours alone. [`StoreError::Version`]: a newer
    /// program made it. [`StoreError::Damaged`]: it is no database.
    pub fn open(dir: &StateDir) -> Result<Self, StoreError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            let text =
                format!("SQLite {} can lose commits in WAL mode; 3.51.3 or newer is needed", rusqlite::version());
            return Err(StoreError::Unfit(text.into()));
        }
        let connection = open_current(dir)?;
        Ok(Self { dir: dir.clone(), connection: Some(connection), fold_at: LOG_LEFT, log: None })
    }

    fn attempt(&mut self, batch: &[Write]) -> Result<Vec<Result<Written, Refusal>>, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(open_current(&self.dir)?);
        }
        let Some(connection) = &mut self.connection else { return Err(StoreError::Closed) };
        let log = match self.log {
            Some(log) => log,
            None => log_pages(connection)?,
        };
        if log >= self.fold_at {
            // Passive: it takes what no reader needs and waits for nobody. If a reader keeps it from
            // all of it, the next attempt is due only once the log has grown by as much again.
            let done: bool = connection
                .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
                .and_then(|mut s| s.query_row([], |row| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)))
                .map_err(|e| failed(&e))?;
            self.fold_at = if done { LOG_LIMIT } else { log + LOG_LIMIT };
        }
        self.log = None;
        let note = is_note(batch);
        if note {
            // Not worth a sync of its own: the next commit syncs the log as a whole. But one that starts the log
            // again at its beginning syncs its new head, which NORMAL does and OFF does not: frames that reach the
            // disk under the old head would be taken for a part of the log before.
            connection.pragma_update(None, "synchronous", "NORMAL").map_err(|e| failed(&e))?;
        }
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| failed(&e))?;
        // A newer program may have changed the schema since this connection was opened.
        let found = transaction
            .prepare_cached("PRAGMA user_version")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(|e| failed(&e))?;
        if found != VERSION {
            return Err(StoreError::Version { found, known: VERSION });
        }
        let mut apply = apply::Apply::new(&transaction);
        let answers = batch.iter().map(|write| apply.write(write)).collect::<Result<Vec<_>, _>>()?;
        transaction.commit().map_err(|e| failed(&e))?;
        if note {
            connection.pragma_update(None, "synchronous", "FULL").map_err(|e| failed(&e))?;
        }
        self.log = log_pages(connection).ok();
        self.fold_at = self.fold_at.max(LOG_LIMIT);
        Ok(answers)
    }
}

/// Whether a batch may be lost in a power cut.
fn is_note(batch: &[Write]) -> bool {
    batch.iter().all(|write| matches!(write, Write::Shown { .. }))
}

impl Store for SqliteStore {
    fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<Written, Refusal>>, StoreError> {
        let answers = self.attempt(batch);
        if let Err(error) = &answers {
            // Who wants the batch committed is told, and says so.
            tracing::debug!(%error, writes = batch.len(), "a batch was not committed");
            // A transaction that is dropped rolls back. Whether it did is not known after an I/O
            // error, so the connection goes as well: a new one sees what the files say.
            if !matches!(error, StoreError::Busy(_))
                || is_note(batch)
                || self.connection.as_ref().is_some_and(|c| !c.is_autocommit())
            {
                self.connection = None;
                self.log = None;
            }
        }
        answers
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        open_reader(&self.dir)
    }

    fn warm(&mut self) {
        let Some(connection) = &self.connection else { return };
        if let Err(error) = apply::Apply::new(connection).warm() {
            tracing::debug!(%error, "not prepared");
        }
        self.log = log_pages(connection).ok();
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let (Some(connection), Some(log)) = (&self.connection, self.log) else { return };
        if log > LOG_LEFT {
            // Waits for nobody: if anybody is there, folding is theirs to do.
            let folded = connection
                .busy_timeout(Duration::ZERO)
                .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
            if let Err(error) = folded {
                tracing::debug!(%error, "the log was not folded");
            }
        }
    }
}

/// A reader of the database in a state directory, which is made if there is none.
///
/// # Errors
/// As for [`SqliteStore::open`].
pub fn open_reader(dir: &StateDir) -> Result<Box<dyn Reader>, StoreError> {
    Ok(Box::new(read::SqliteReader::new(open_current(dir)?)))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // NO_MUTEX: a connection is used by one thread at a time, the types see to it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| failed(&e))?;
    let set = |connection: &mut Connection| -> rusqlite::Result<()> {
        let mut since = Instant::now();
        connection.busy_handler(Some(move |attempt: i32| {
            if attempt == 0 {
                since = Instant::now();
            }
            std::thread::sleep(BUSY_PAUSE.min(Duration::from_micros(100) * attempt.unsigned_abs().min(50)));
            since.elapsed() < BUSY_LIMIT
        }))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.file_control(None::<&str>, FileControl::PersistWal(&mut 1))?;
        // None of these writes anything.
        connection.execute_batch(&format!(
            "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=0; \
             PRAGMA cache_size=-{CACHE_KIB}; PRAGMA journal_size_limit={LOG_BYTES_KEPT}; PRAGMA page_size={PAGE_SIZE};"
        ))
    };
    set(&mut connection).map_err(|e| failed(&e))?;
    Ok(connection)
}

/// A connection to a database of the current version.
fn open_current(dir: &StateDir) -> Result<Connection, StoreError> {
    let mut connection = connect(&dir.database()?)?;
    let version = schema_version(&connection)?;
    if version > VERSION {
        return Err(StoreError::Version { found: version, known: VERSION });
    }
    // Only a database that has never been finished is not in WAL mode: the mode is in the file.
    if version < VERSION {
        set_wal(&connection)?;
        // The names of the files, and that the rollback journal of the change to the log is gone, are durable before
        // the schema is: a database that is finished has had this done, whoever was killed or failed on the way.
        dir.sync()?;
        migrate(&mut connection).map_err(|e| failed(&e))?;
    }
    Ok(connection)
}

fn schema_version(connection: &Connection) -> Result<i64, StoreError> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| failed(&e))
}

/// Changing the mode does not go through the busy handler in every case, so we wait ourselves.
fn set_wal(connection: &Connection) -> Result<(), StoreError> {
    let since = Instant::now();
    loop {
        match connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => return Err(StoreError::Unfit(format!("no WAL here: the journal mode stays {mode}").into())),
            Err(error) => match failed(&error) {
                StoreError::Busy(_) if since.elapsed() < BUSY_LIMIT => std::thread::sleep(BUSY_PAUSE),
                error => return Err(error),
            },
        }
    }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it while we waited for the lock.
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    if version < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// How many pages the log holds.
fn log_pages(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")
        .and_then(|mut s| s.query_row([], |row| row.get::<_, i64>(1)))
        .map(|pages| u64::try_from(pages).unwrap_or(0))
        .map_err(|e| failed(&e))
}

/// Which of our errors an error of SQLite is.
fn failed(error: &rusqlite::Error) -> StoreError {
    let Some(code) = error.sqlite_error() else {
        // The library itself: a row holds a type that the schema does not allow.
        return StoreError::Damaged(error.to_string().into());
    };
    match code.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Busy(BUSY_LIMIT.as_millis().try_into().unwrap_or(u64::MAX))
        }
        ErrorCode::DiskFull => StoreError::Full,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Damaged(error.to_string().into()),
        // SQLite keeps the reason to itself, so it is looked for where nothing else can be the reason.
        ErrorCode::CannotOpen if let Err(reason) = std::fs::File::open("/") => {
            StoreError::Io(format!("the database cannot be opened: {reason}").into())
        }
        _ => {
            let name = ffi::code_to_str(code.extended_code);
            StoreError::Io(format!("SQLite: {error} ({name}, {})", code.extended_code).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Digest, Fence};
    use crate::store::{Commit, Lease, NewExecution, Usage};
    use crate::{ExecutionId, OwnerId, Secret};

    /// SQLite's own limit is the one that a test can set.
    #[test]
    fn a_full_disk_is_said_and_the_store_goes_on() {
        let temporary = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&StateDir::open(&temporary.path().join("state")).unwrap()).unwrap();
        store.connection.as_ref().unwrap().pragma_update(None, "max_page_count", 20).unwrap();
        let first = |bytes: Vec<u8>| {
            let id = ExecutionId::generate();
            Write::Commit(Box::new(Commit {
                execution: id,
                fence: Fence::FIRST,
                create: Some(Box::new(NewExecution {
                    component: Digest::of(b""),
                    setup: Digest::of(&bytes),
                    secret: Secret([0; 32]),
                    owner: OwnerId(id.0),
                    created_at: 0,
                })),
                payloads: vec![(Digest::of(&bytes), bytes.into())],
                steps: Vec::new(),
                promises: Vec::new(),
                usage: Usage::default(),
                lease: Lease::Keep,
                admits: None,
                now: 0,
            }))
        };
        assert_eq!(store.write(&[first(vec![1]), first(vec![2; 1_000_000])]), Err(StoreError::Full));
        assert_eq!(store.reader().unwrap().executions(true).unwrap().whole, []);
        assert_eq!(store.write(&[first(vec![3])]), Ok(vec![Ok(Written::Committed)]));
        assert_eq!(store.reader().unwrap().executions(true).unwrap().whole.len(), 1);
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let of = |code: i32| failed(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert_eq!(of(ffi::SQLITE_BUSY), StoreError::Busy(60_000));
        assert_eq!(of(ffi::SQLITE_FULL), StoreError::Full);
        assert!(matches!(of(ffi::SQLITE_IOERR_FSYNC), StoreError::Io(text) if text.contains("1034")));
        assert!(matches!(of(ffi::SQLITE_CORRUPT_INDEX), StoreError::Damaged(_)));
        assert!(matches!(of(ffi::SQLITE_NOTADB), StoreError::Damaged(_)));
    }
}
