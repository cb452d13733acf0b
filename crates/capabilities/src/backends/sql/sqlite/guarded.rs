//! Functions that compare every place of one text with all of another. SQLite cannot be interrupted inside a function,
//! and two texts of a megabyte can take an hour. These do what SQLite's own do, because they ask them, on a connection
//! without tables; but not for texts that are long together.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::limits::Limit;
use rusqlite::types::Value as Owned;
use rusqlite::{Connection, Error, params_from_iter};

use crate::backends::sql::engine::VALUE_BYTES_MAX;

/// The most that the lengths of the first two arguments, multiplied, may be: a second or two of work.
const WORK_MAX: u64 = 1 << 30;

/// Name, number of arguments, and the call.
const GUARDED: [(&str, i32, &str); 6] = [
    ("instr", 2, "SELECT instr(?1, ?2)"),
    ("ltrim", 2, "SELECT ltrim(?1, ?2)"),
    ("replace", 3, "SELECT replace(?1, ?2, ?3)"),
    ("rtrim", 2, "SELECT rtrim(?1, ?2)"),
    ("trim", 2, "SELECT trim(?1, ?2)"),
    ("unhex", 2, "SELECT unhex(?1, ?2)"),
];

/// Puts them in the place of SQLite's.
pub(super) fn install(connection: &Connection) -> rusqlite::Result<()> {
    // Opened by the first call of one of them.
    let plain = Arc::new(Mutex::new(None));
    // What SQLite's own are: indexes and views may use them.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    GUARDED.into_iter().try_for_each(|(name, arguments, sql)| {
        let plain = Arc::clone(&plain);
        connection.create_scalar_function(name, arguments, flags, move |context| call(&plain, name, sql, context))
    })
}

fn call(plain: &Mutex<Option<Connection>>, name: &str, sql: &str, context: &Context<'_>) -> rusqlite::Result<Owned> {
    let arguments = (0..context.len()).map(|index| context.get::<Owned>(index));
    let arguments = arguments.collect::<rusqlite::Result<Vec<Owned>>>()?;
    let work = arguments.iter().take(2).map(length).fold(1, u64::saturating_mul);
    if work > WORK_MAX {
        return Err(Error::UserFunctionError(format!("`{name}` over texts of this length takes too long").into()));
    }
    let mut plain = plain.lock().unwrap_or_else(PoisonError::into_inner);
    let connection = match &mut *plain {
        Some(connection) => connection,
        none => {
            let connection = Connection::open_in_memory()?;
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(VALUE_BYTES_MAX).unwrap_or(i32::MAX))?;
            none.insert(connection)
        }
    };
    let result = connection.prepare_cached(sql)?.query_row(params_from_iter(arguments), |row| row.get(0));
    result.map_err(|error| match error {
        // With a text the code would be lost.
        Error::SqliteFailure(code, _) => Error::SqliteFailure(code, None),
        error => error,
    })
}

fn length(value: &Owned) -> u64 {
    match value {
        Owned::Text(text) => text.len() as u64,
        Owned::Blob(bytes) => bytes.len() as u64,
        Owned::Null | Owned::Integer(_) | Owned::Real(_) => 32,
    }
}
