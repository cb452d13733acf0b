//! What a guest's statement cannot do to an SQLite file, and how much of anything it may have.
//!
//! The authorizer sees every table, function and pragma that a statement would use, those of triggers and views
//! included, before it runs. It knows what is allowed and refuses the rest: rows of tables may be read and, with a
//! write grant, changed; the schema, the settings, other files and transactions may not be touched.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, Statement, StatementStatus};

use crate::backends::sql::engine::{Failure, Job, PARAMETERS_MAX, SQL_BYTES_MAX, VALUE_BYTES_MAX, Value};

/// The table of keys that have been used: Parole's own.
const RECORDS: &str = "parole_calls";

/// The shortest limit for a single value, so that small results can be made of larger values.
const LENGTH_MIN: u64 = 1 << 20;

/// What the values that one statement has in hand may take together, in bytes, and how short the limit for a single one
/// gets for that.
const VALUES_MAX: u64 = 1 << 30;
const LENGTH_LEAST: u64 = 64 << 10;
/// The size of a register of SQLite's machine and of the instruction that fills it: what a prepared statement takes,
/// divided by this, is more values than it can have in hand.
const REGISTER: u64 = 56 + 24;

/// Pragmas that describe tables; all may have an argument.
const DESCRIBING: [&str; 7] =
    ["foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo"];

/// Pragmas that read a number; the full-text indexes use them. An argument would set it.
const NUMBERS: [&str; 3] = ["data_version", "page_size", "user_version"];

/// Functions that reach out of the database, and those whose time or memory has no proportion to their arguments: the
/// groups of JSON grow to 2 GiB whatever `LENGTH` is (`group_concat(json_quote(x))` doesn't).
const FUNCTIONS: [&str; 10] = [
    "fts3_tokenizer",
    "json_group_array",
    "json_group_object",
    "json_patch",
    "json_pretty",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_patch",
    "load_extension",
    "sqlite_log",
];

/// What gives the same without that.
const INSTEAD: [(&str, &str); 2] = [
    ("json_group_array", "'[' || group_concat(json_quote(x)) || ']'"),
    ("json_group_object", "'{' || group_concat(json_quote(name) || ':' || json_quote(x)) || '}'"),
];

/// How the connection is set up: before anything of the file is read.
pub(super) fn raise(connection: &Connection, job: &Job) -> rusqlite::Result<()> {
    use DbConfig::{
        SQLITE_DBCONFIG_DEFENSIVE, SQLITE_DBCONFIG_DQS_DDL, SQLITE_DBCONFIG_DQS_DML,
        SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE,
        SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, SQLITE_DBCONFIG_TRUSTED_SCHEMA, SQLITE_DBCONFIG_WRITABLE_SCHEMA,
    };
    for (switch, on) in [
        (SQLITE_DBCONFIG_DEFENSIVE, true),
        (SQLITE_DBCONFIG_DQS_DDL, false),
        (SQLITE_DBCONFIG_DQS_DML, false),
        (SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
        (SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
        (SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        (SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
    ] {
        connection.set_db_config(switch, on)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 500),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, i32::try_from(SQL_BYTES_MAX).unwrap_or(i32::MAX)),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 100),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, i32::try_from(PARAMETERS_MAX).unwrap_or(i32::MAX)),
        (Limit::SQLITE_LIMIT_VDBE_OP, 250_000),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    // A file can ask for a cache of any size. Temporary tables and sorts beyond it go to files.
    connection.execute_batch("PRAGMA cache_size = -4096; PRAGMA temp_store = FILE; PRAGMA cell_size_check = ON")?;
    // A commit is answered when it survives a power cut, the directory's entry for the journal included.
    connection.execute_batch(if job.write { "PRAGMA synchronous = EXTRA" } else { "PRAGMA query_only = ON" })
}

/// The walls while a guest's statement is prepared and runs.
pub(super) struct Walls {
    refused: Arc<Mutex<Option<String>>>,
    /// Only reading is granted.
    reads: bool,
    length: u64,
    length_before: i32,
}

impl Walls {
    pub(super) fn new(connection: &mut Connection, job: &Job) -> rusqlite::Result<Self> {
        let refused = Arc::new(Mutex::new(None));
        let first = Arc::clone(&refused);
        connection.authorizer(Some(move |context: AuthContext<'_>| match refusal(&context.action) {
            None => Authorization::Allow,
            Some(text) => {
                first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
                Authorization::Deny
            }
        }))?;
        let length = job.limits.max_bytes.clamp(LENGTH_MIN, VALUE_BYTES_MAX as u64);
        // What is given may be used.
        let longest = job.parameters.iter().map(Value::length).max().unwrap_or(0);
        let length = length.max(longest as u64);
        let most = i32::try_from(length).unwrap_or(i32::MAX);
        let length_before = connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most)?;
        Ok(Self { refused, reads: !job.write, length, length_before })
    }

    /// Shortens the limit for values so that all the registers of the statement together stay within theirs.
    pub(super) fn fit(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        let size = u64::try_from(statement.get_status(StatementStatus::MemUsed)).unwrap_or(u64::MAX);
        let each = VALUES_MAX / (size / REGISTER).max(1);
        self.length = self.length.min(each.max(LENGTH_LEAST));
        let most = i32::try_from(self.length).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most).map(|_| ())
    }

    pub(super) fn lower(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, self.length_before).map(|_| ())
    }

    /// The error of a statement that ran into a wall.
    pub(super) fn explain(&self, error: &rusqlite::Error) -> Option<Failure> {
        let code = super::code(error);
        let text = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match code {
            Some(ErrorCode::TooBig) => Some(Failure::TooLarge(self.length)),
            Some(ErrorCode::ReadOnly) if self.reads && super::situation(error).is_none() => {
                Some(Failure::reading_only())
            }
            Some(ErrorCode::ReadOnly) if text.is_none() => None,
            // Which code a refusal has depends on where it was met.
            _ => text.map(Failure::Denied),
        }
    }
}

/// Why a statement may not do this; `None`: it may.
fn refusal(action: &AuthAction<'_>) -> Option<String> {
    match *action {
        AuthAction::Select | AuthAction::Recursive => None,
        AuthAction::Read { table_name, .. } => own(table_name),
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name } => change(table_name),
        AuthAction::Update { table_name, .. } => change(table_name),
        AuthAction::Function { function_name: name } => {
            let refused = FUNCTIONS.iter().any(|function| function.eq_ignore_ascii_case(name));
            refused.then(|| {
                let instead = INSTEAD.iter().find(|(function, _)| function.eq_ignore_ascii_case(name));
                let instead = instead.map(|(_, sql)| format!(": its result grows past every limit; write {sql}"));
                format!("the function `{name}` is not allowed{}", instead.unwrap_or_default())
            })
        }
        AuthAction::Pragma { pragma_name: name, pragma_value } => {
            let is = |pragma: &&str| pragma.eq_ignore_ascii_case(name);
            let allowed = DESCRIBING.iter().any(is) || pragma_value.is_none() && NUMBERS.iter().any(is);
            (!allowed).then(|| format!("the pragma `{name}` is not allowed here"))
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            Some("transactions are Parole's: each call is one".into())
        }
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            Some("ATTACH, DETACH and VACUUM are not allowed".into())
        }
        _ => Some("only SELECT, INSERT, UPDATE and DELETE on tables that are there are allowed".into()),
    }
}

fn own(table: &str) -> Option<String> {
    table.eq_ignore_ascii_case(RECORDS).then(|| format!("`{RECORDS}` is Parole's own table"))
}

/// A reader's index of ranges prepares writes to its own tables, so this can't be where readers are kept from writing:
/// the statement is looked at as a whole, the connection is set to `query_only`, and the file is opened for reading.
fn change(table: &str) -> Option<String> {
    let schema = table.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
    if schema { Some(format!("`{table}` belongs to SQLite")) } else { own(table) }
}
