//! `query` on an SQLite file: one statement on a connection of its own, behind the walls of `walls.rs`.
//!
//! The statement runs on a thread of its own. One atomic says whose turn it is: the caller (its deadline, or that it
//! went away) may stop the work until the moment at which the work says that it commits, and not after. So what was
//! stopped has changed nothing, and only a commit that was under way can be unknown.
//!
//! # What bounds a statement, and what does not
//!
//! Time: a handler that SQLite calls every thousand instructions, an interrupt that its longer loops look at, and a
//! caller that waits for neither. Functions whose single call could take minutes are guarded (`guarded.rs`) or refused.
//!
//! Memory: values by `LENGTH`, sorts and intermediate tables by the page cache (the rest goes to temporary files
//! without a name), what a statement has in hand at once by the number of its registers, the result by its limits. What
//! is left is the disk that temporary files take until the deadline. (SQLite's own heap limit would hold for the whole
//! process, the store of executions included.)

mod guarded;
mod walls;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, OptionalExtension as _, ToSql};
use rustix::fs::FileType;
use tokio::sync::{Semaphore, oneshot};

use self::walls::Walls;
use super::engine::{self, Budget, COMMIT_GRACE, Failure, Job, Rows, Value};
use crate::clock;
use crate::lack;

/// The most statements that run at once in this process, those included that nobody waits for any more.
const STATEMENTS_MAX: usize = 16;
static STATEMENTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(STATEMENTS_MAX)));

/// How many instructions of SQLite's machine run between two looks at the clock.
const INSTRUCTIONS: i32 = 1_000;

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS main.parole_calls
    (id TEXT NOT NULL PRIMARY KEY, result TEXT NOT NULL, at INTEGER NOT NULL)";

/// Runs the job on the file at `path`: absolute, without symbolic links. Dropping the future stops the statement; a
/// write whose commit has not begun is undone.
pub async fn run(path: PathBuf, job: Job) -> Result<Rows, Failure> {
    engine::check(&job)?;
    let deadline = job.limits.deadline;
    let turn = Arc::new(Turn::new(deadline));
    let guard = Guard(Arc::clone(&turn));
    let permit = Arc::clone(&STATEMENTS).acquire_owned();
    let permit = match clock::timeout_at(deadline, permit).await {
        Ok(Ok(permit)) => permit,
        Ok(Err(_)) | Err(_) => return Err(Failure::EXPIRED),
    };
    let (answer, mut work) = oneshot::channel();
    // A thread of its own, and not one of the runtime's: the runtime waits for those when it ends.
    let thread = std::thread::Builder::new().name("parole-query".into()).spawn(move || {
        let result = perform(&path, &job, &turn);
        drop(permit);
        drop(answer.send(result));
    });
    thread.map_err(|_| Failure::Lack(lack::THREADS))?;
    let result = match clock::timeout_at(deadline, &mut work).await {
        Ok(result) => result,
        Err(_) if guard.0.stop() => return Err(Failure::EXPIRED),
        // It commits at this moment.
        Err(_) => {
            let late = Failure::Expired { unknown: true };
            clock::timeout(COMMIT_GRACE, work).await.map_err(|_| late)?
        }
    };
    let unknown = guard.0.commits();
    result.unwrap_or_else(|_| Err(Failure::Failed { text: "the database engine stopped".into(), unknown }))
}

/// Whose turn it is.
struct Turn {
    state: AtomicU8,
    deadline: Instant,
    interrupt: Mutex<Option<InterruptHandle>>,
}

impl Turn {
    const RUNS: u8 = 0;
    const COMMITS: u8 = 1;
    const STOPPED: u8 = 2;

    fn new(deadline: Instant) -> Self {
        Self { state: AtomicU8::new(Self::RUNS), deadline, interrupt: Mutex::new(None) }
    }

    fn become_(&self, state: u8) -> bool {
        self.state.compare_exchange(Self::RUNS, state, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The caller's: no commit will begin. Not when one has.
    fn stop(&self) -> bool {
        let stopped = self.become_(Self::STOPPED);
        if stopped && let Some(handle) = &*self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
        stopped
    }

    /// The work's: from here on it cannot be stopped.
    fn commit(&self) -> Result<(), Failure> {
        self.go_on()?;
        if self.become_(Self::COMMITS) { Ok(()) } else { Err(Failure::EXPIRED) }
    }

    fn commits(&self) -> bool {
        self.state.load(Ordering::SeqCst) == Self::COMMITS
    }

    fn go_on(&self) -> Result<(), Failure> {
        let runs = self.state.load(Ordering::Relaxed) == Self::RUNS && clock::now() < self.deadline;
        if runs { Ok(()) } else { Err(Failure::EXPIRED) }
    }
}

/// Stops the work when the caller goes away.
struct Guard(Arc<Turn>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn perform(path: &Path, job: &Job, turn: &Arc<Turn>) -> Result<Rows, Failure> {
    turn.go_on()?;
    let mut connection = open(path, job, turn)?;
    // Readers are in a transaction too: that is what stops VACUUM, which the authorizer isn't asked about.
    let begin = if job.write { "BEGIN IMMEDIATE" } else { "BEGIN" };
    connection.execute_batch(begin).map_err(|error| explain(&error))?;
    if !job.write {
        return guest(&mut connection, job);
    }
    // Whatever returns before the commit leaves the transaction to be undone when the connection is closed.
    if let Some(key) = &job.key
        && let Some(rows) = earlier(&connection, key)?
    {
        return Ok(rows);
    }
    let rows = guest(&mut connection, job)?;
    if let Some(key) = &job.key {
        let insert = "INSERT INTO main.parole_calls VALUES (?1, ?2, CAST(unixepoch('subsec') * 1000 AS INTEGER))";
        connection.execute(insert, (key, engine::record(&rows)?)).map_err(|error| explain(&error))?;
    }
    turn.commit()?;
    match connection.execute_batch("COMMIT") {
        Ok(()) => Ok(rows),
        Err(error) => Err(uncommitted(&error)),
    }
}

/// What an earlier run with this key has recorded. Makes the table for it where there is none.
fn earlier(connection: &Connection, key: &str) -> Result<Option<Rows>, Failure> {
    connection.execute_batch(RECORDS).map_err(|error| explain(&error))?;
    let select = "SELECT result FROM main.parole_calls WHERE id = ?1";
    let text: Option<String> =
        connection.query_row(select, [key], |row| row.get(0)).optional().map_err(|error| explain(&error))?;
    text.map(|text| engine::recorded(&text)).transpose()
}

/// Opens what is there, and never makes a file. A pipe would block for ever, so it is looked at first.
fn open(path: &Path, job: &Job, turn: &Arc<Turn>) -> Result<Connection, Failure> {
    // A relative path that starts with `file:` would be a URI with options of its own.
    if !path.is_absolute() {
        return Err(Failure::failed("the path of the database is not absolute"));
    }
    match rustix::fs::lstat(path).map(|found| FileType::from_raw_mode(found.st_mode)) {
        Ok(FileType::RegularFile) => {}
        Ok(FileType::Symlink) => return Err(Failure::failed("the database is a symbolic link")),
        Ok(_) => return Err(Failure::failed("the database is not a plain file")),
        Err(rustix::io::Errno::NOENT) => return Err(Failure::failed("the database is missing")),
        Err(_) => return Err(Failure::failed("the database cannot be reached")),
    }
    let mode = if job.write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let flags = mode
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| explain(&error))?;
    connection.set_prepared_statement_cache_capacity(0);
    *turn.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
    let clock = Arc::clone(turn);
    let stopped = move || !clock.commits() && clock.go_on().is_err();
    let clock = Arc::clone(turn);
    let wait = move |count: i32| {
        let waits = (clock.commits() || clock.go_on().is_ok()) && crate::clock::now() < clock.deadline;
        if waits {
            std::thread::sleep(Duration::from_millis(u64::from(count.unsigned_abs()).clamp(1, 20)));
        }
        waits
    };
    let prepare = || {
        connection.progress_handler(INSTRUCTIONS, Some(stopped))?;
        connection.busy_handler(Some(wait))?;
        guarded::install(&connection)?;
        walls::raise(&connection, job)
    };
    prepare().map_err(|error| explain(&error))?;
    Ok(connection)
}

/// The guest's statement, behind the walls; they are taken down for Parole's own statements.
fn guest(connection: &mut Connection, job: &Job) -> Result<Rows, Failure> {
    let mut walls = Walls::new(connection, job).map_err(|error| explain(&error))?;
    let rows = statement(connection, job, &mut walls)?;
    walls.lower(connection).map_err(|error| explain(&error))?;
    Ok(rows)
}

fn statement(connection: &Connection, job: &Job, walls: &mut Walls) -> Result<Rows, Failure> {
    let mut statement = connection.prepare(&job.sql).map_err(|error| {
        let wrong = code(&error) == Some(ErrorCode::Unknown);
        match walls.explain(&error).unwrap_or_else(|| explain(&error)) {
            Failure::Failed { text, .. } if wrong => Failure::Invalid(text),
            other => other,
        }
    })?;
    if statement.expanded_sql().is_none() {
        return Err(Failure::Invalid("there is no statement".into()));
    }
    walls.fit(connection, &statement).map_err(|error| explain(&error))?;
    let failed = |error: rusqlite::Error| walls.explain(&error).unwrap_or_else(|| explain(&error));
    if !job.write && !statement.readonly() {
        return Err(Failure::reading_only());
    }
    engine::counted(statement.parameter_count(), job.parameters.len())?;
    for (index, value) in job.parameters.iter().enumerate() {
        if matches!(value, Value::Real(real) if real.is_nan()) {
            return Err(Failure::Invalid(format!("parameter {} is not a number (NaN)", index + 1)));
        }
        statement.raw_bind_parameter(index + 1, value).map_err(failed)?;
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut budget = Budget::new(job.limits);
    budget.columns(&columns)?;
    let mut found = Rows { columns, rows: Vec::new() };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(failed)? {
        budget.row()?;
        let values = (0..found.columns.len()).map(|column| {
            let value = row.get_ref(column).map_err(failed)?;
            take(value, &mut budget, &found.columns, column)
        });
        let values = values.collect::<Result<Vec<Value>, Failure>>()?;
        found.rows.push(values);
    }
    Ok(found)
}

fn take(value: ValueRef<'_>, budget: &mut Budget, columns: &[String], column: usize) -> Result<Value, Failure> {
    let length = match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
    };
    budget.value(length)?;
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8(bytes.to_vec()).map_err(|_| {
            let name = columns.get(column).map_or("", String::as_str);
            Failure::failed(format!("column `{name}` has text that is not UTF-8: cast it to a blob"))
        })?),
    })
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        error => error.sqlite_error_code(),
    }
}

/// Why the file cannot be used as it lies there, though nobody asked for a change: what SQLite has to write so that it
/// can read. None: it is something else.
fn situation(error: &rusqlite::Error) -> Option<&'static str> {
    use rusqlite::ffi::{
        SQLITE_READONLY_CANTINIT, SQLITE_READONLY_CANTLOCK, SQLITE_READONLY_DBMOVED, SQLITE_READONLY_DIRECTORY,
        SQLITE_READONLY_RECOVERY, SQLITE_READONLY_ROLLBACK,
    };
    let extended = match error {
        rusqlite::Error::SqlInputError { error, .. } | rusqlite::Error::SqliteFailure(error, _) => error.extended_code,
        _ => return None,
    };
    match extended {
        SQLITE_READONLY_CANTINIT | SQLITE_READONLY_CANTLOCK | SQLITE_READONLY_DIRECTORY => Some(
            "a log or journal has to be made beside the file of the database for this, and this program may not make any \
             in its directory",
        ),
        SQLITE_READONLY_RECOVERY | SQLITE_READONLY_ROLLBACK => Some(
            "a writer died in the middle of a change to the database, which has to be undone before it can be read, and \
             this program may not write the file or its directory",
        ),
        SQLITE_READONLY_DBMOVED => Some("the file of the database was moved or removed"),
        _ => None,
    }
}

/// What a guest is told of an error of SQLite: its text where it speaks of the statement, ours where it could have the
/// path of the file.
fn explain(error: &rusqlite::Error) -> Failure {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, text) => text.as_deref(),
        rusqlite::Error::SqlInputError { msg, .. } => Some(msg.as_str()),
        rusqlite::Error::MultipleStatement => return Failure::Invalid("only one statement is run at a time".into()),
        _ => None,
    };
    let Some(code) = code(error) else { return Failure::failed("the database engine failed") };
    let said = |text: &str| Failure::failed(text);
    if let Some(text) = situation(error) {
        return said(text);
    }
    match code {
        ErrorCode::OperationInterrupted | ErrorCode::DatabaseBusy => Failure::EXPIRED,
        ErrorCode::DatabaseLocked => said("the database is locked"),
        ErrorCode::NotADatabase => said("the file is not an SQLite database"),
        ErrorCode::DatabaseCorrupt => said("the database is damaged"),
        // The engine keeps the reason to itself, so it is looked for where nothing else can be the reason.
        ErrorCode::CannotOpen => match lack::of_descriptors() {
            Some(what) => Failure::Lack(what),
            None => said("the database, or a file beside it, cannot be opened"),
        },
        ErrorCode::PermissionDenied => said("the operating system denies the database"),
        ErrorCode::ReadOnly => said("the database cannot be written"),
        ErrorCode::DiskFull => said("no space left on the device"),
        ErrorCode::SystemIoFailure => said("the database could not be read or written"),
        ErrorCode::OutOfMemory => Failure::Lack(lack::MEMORY),
        ErrorCode::ParameterOutOfRange => Failure::Invalid("a parameter that the statement doesn't have".into()),
        _ => said(text.unwrap_or("the statement failed")),
    }
}

/// A commit that is refused has changed nothing; one that broke may have.
fn uncommitted(error: &rusqlite::Error) -> Failure {
    use ErrorCode::{ConstraintViolation, DatabaseBusy, DiskFull};
    let known = matches!(code(error), Some(DatabaseBusy | ConstraintViolation | DiskFull));
    match explain(error) {
        Failure::Failed { text, .. } => Failure::Failed { text, unknown: !known },
        Failure::Expired { .. } => Failure::Expired { unknown: !known },
        Failure::Lack(what) => Failure::Failed { text: format!("the host is short of {what}"), unknown: true },
        other => other,
    }
}
