//! What the engines of `query` share: the values, the limits, and what can go wrong.

use std::time::{Duration, Instant};

use parole_policy::Mode;
use serde::{Deserialize, Serialize};

use crate::clock;

/// Why a statement that writes is refused where reading is granted.
const READING_ONLY: &str = "the database is granted for reading only";
/// PostgreSQL's codes for a change in a transaction that only reads, and for a right that the role lacks. They stand
/// in brackets at the end of what is told of a refusal.
pub(crate) const PG_READ_ONLY: &str = "25006";
pub(crate) const PG_NO_RIGHT: &str = "42501";

/// The longest statement, in bytes.
pub const SQL_BYTES_MAX: usize = 128 << 10;
/// The most parameters of one statement.
pub const PARAMETERS_MAX: usize = 1_000;
/// The longest text or blob, in or out, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// All parameters of one statement together, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 16 << 20;
/// The most columns of a result.
pub const COLUMNS_MAX: usize = 256;
/// What a value or a column name of a result counts beside its text or blob: its size in a guest's memory.
pub const VALUE_BYTES: u64 = 16;
/// What a row counts beside its values.
pub const ROW_BYTES: u64 = 8;
/// How long past the deadline an answer to a commit that is under way is waited for.
pub(crate) const COMMIT_GRACE: Duration = Duration::from_secs(1);

/// A value of a row, or of a parameter. As JSON a real number is text, because JSON has neither infinities nor NaN and
/// its readers round; a blob is base64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// No value.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number with a binary fraction.
    Real(#[serde(with = "real")] f64),
    /// Text, and everything that a database has no other form for.
    Text(String),
    /// Bytes.
    Blob(#[serde(with = "blob")] Vec<u8>),
}

impl Value {
    /// The bytes of its text or blob.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            Self::Null | Self::Integer(_) | Self::Real(_) => 0,
        }
    }
}

/// A result. A statement that returns nothing has no columns and no rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// The names of the columns, as the database has them.
    pub columns: Vec<String>,
    /// The rows in order, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// What one statement may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most rows of the result.
    pub max_rows: u64,
    /// The most bytes of the result: see [`VALUE_BYTES`] and [`ROW_BYTES`].
    pub max_bytes: u64,
    /// When the statement is stopped.
    pub deadline: Instant,
}

/// One statement to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The statement.
    pub sql: String,
    /// Its parameters, in order; there must be exactly as many as it names.
    pub parameters: Vec<Value>,
    /// Whether it may change rows.
    pub write: bool,
    /// Recorded in the transaction of a write with its result: with the same key the statement never runs twice.
    /// Without `write` it means nothing.
    pub key: Option<String>,
    /// What it may use.
    pub limits: Limits,
}

/// Why there are no rows. The text never has a place on this machine, a host, a user or a password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What no statement may do here.
    Denied(String),
    /// A statement or a parameter that cannot be right.
    Invalid(String),
    /// The statement, a value or the result is too large: the limit, in bytes.
    TooLarge(u64),
    /// Too many rows.
    Exhausted(String),
    /// The deadline has passed; the statement is stopped.
    Expired {
        /// Whether a change may have been committed none the less.
        unknown: bool,
    },
    /// The host is short of this, and nothing has changed.
    Lack(&'static str),
    /// It was tried and did not work.
    Failed {
        /// What the database said.
        text: String,
        /// Whether a change may have been committed none the less.
        unknown: bool,
    },
}

impl Failure {
    /// It did not work, and nothing has changed.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed { text: text.into(), unknown: false }
    }

    /// What a call that writes needs, and a grant for reading does not give.
    pub(crate) fn reading_only() -> Self {
        Self::Denied(READING_ONLY.into())
    }

    /// What would have let it, for a refusal: the words for a policy that grants `name` in this mode.
    pub(crate) fn remedy(reason: &str, name: &str, mode: Mode) -> String {
        let reads = reason == READING_ONLY || reason.ends_with(&format!(" ({PG_READ_ONLY})"));
        if mode == Mode::Ro && reads {
            return format!("for what only changes rows: {name} = {{ …, mode = \"rw\" }} in [grant.query.databases]");
        }
        if reason.ends_with(&format!(" ({PG_NO_RIGHT})")) {
            return "none in a policy: the role of the database lacks the right".to_owned();
        }
        "none: no policy lets a guest do that".to_owned()
    }

    /// It was too late, and nothing has changed.
    pub(crate) const EXPIRED: Self = Self::Expired { unknown: false };
}

/// What can be said of a job without a database.
pub(crate) fn check(job: &Job) -> Result<(), Failure> {
    if job.sql.len() > SQL_BYTES_MAX {
        return Err(Failure::TooLarge(SQL_BYTES_MAX as u64));
    }
    if job.sql.contains('\0') {
        return Err(Failure::Invalid("the statement has a zero byte in it".into()));
    }
    if job.parameters.len() > PARAMETERS_MAX {
        return Err(Failure::Invalid(format!("more than {PARAMETERS_MAX} parameters")));
    }
    if job.parameters.iter().any(|value| value.length() > VALUE_BYTES_MAX) {
        return Err(Failure::TooLarge(VALUE_BYTES_MAX as u64));
    }
    if job.parameters.iter().map(Value::length).sum::<usize>() > PARAMETER_BYTES_MAX {
        return Err(Failure::TooLarge(PARAMETER_BYTES_MAX as u64));
    }
    if job.limits.deadline <= clock::now() {
        return Err(Failure::EXPIRED);
    }
    Ok(())
}

/// The number of parameters that are given is the number that the statement names.
pub(crate) fn counted(named: usize, given: usize) -> Result<(), Failure> {
    if named == given {
        return Ok(());
    }
    Err(Failure::Invalid(format!("the statement has {named} parameters, and {given} are given")))
}

/// What is left of the limits while a result is read, row by row.
pub(crate) struct Budget {
    limits: Limits,
    rows: u64,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, rows: 0, bytes: 0 }
    }

    /// The names of the columns come first.
    pub(crate) fn columns(&mut self, names: &[String]) -> Result<(), Failure> {
        if names.len() > COLUMNS_MAX {
            return Err(Failure::Invalid(format!("the result has {} columns; at most {COLUMNS_MAX}", names.len())));
        }
        names.iter().try_for_each(|name| self.value(name.len()))
    }

    pub(crate) fn row(&mut self) -> Result<(), Failure> {
        self.rows = self.rows.saturating_add(1);
        if self.rows > self.limits.max_rows {
            return Err(Failure::Exhausted(format!("the result has more than {} rows", self.limits.max_rows)));
        }
        self.take(ROW_BYTES)
    }

    /// Asked before a value is copied.
    pub(crate) fn value(&mut self, length: usize) -> Result<(), Failure> {
        self.take(VALUE_BYTES.saturating_add(length as u64))
    }

    fn take(&mut self, bytes: u64) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.max_bytes { Err(Failure::TooLarge(self.limits.max_bytes)) } else { Ok(()) }
    }
}

/// A result as it is recorded beside the write that had it.
pub(crate) fn record(rows: &Rows) -> Result<String, Failure> {
    serde_json::to_string(rows).map_err(|_| Failure::failed("the result cannot be recorded"))
}

/// What an earlier run of the same call has recorded.
pub(crate) fn recorded(text: &str) -> Result<Rows, Failure> {
    serde_json::from_str(text).map_err(|_| Failure::failed("the recorded result of this call is damaged"))
}

mod real {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        // The shortest text that reads back as the same number.
        serializer.serialize_str(&format!("{value:?}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod blob {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_result_reads_back_as_it_was() {
        let reals = [0.0, -0.0, 0.1, 1.0 / 3.0, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY];
        let mut row: Vec<Value> = reals.into_iter().map(Value::Real).collect();
        row.extend([Value::Null, Value::Integer(i64::MIN), Value::Integer(i64::MAX)]);
        row.extend([Value::Text("a\0\"\\é\u{2028}".into()), Value::Blob((0..=255).collect()), Value::Blob(vec![])]);
        let rows = Rows { columns: (0..row.len()).map(|column| column.to_string()).collect(), rows: vec![row, vec![]] };
        assert_eq!(recorded(&record(&rows).unwrap()).unwrap(), rows);
        let nan = Rows { columns: vec![], rows: vec![vec![Value::Real(f64::NAN)]] };
        assert!(matches!(recorded(&record(&nan).unwrap()).unwrap().rows[0][0], Value::Real(real) if real.is_nan()));
        assert_eq!(recorded("{"), Err(Failure::failed("the recorded result of this call is damaged")));
    }

    #[test]
    fn every_limit_is_a_limit() {
        let limits = Limits { max_rows: 2, max_bytes: 100, deadline: Instant::now() + Duration::from_secs(60) };
        let mut budget = Budget::new(limits);
        assert_eq!(budget.columns(&["four".into()]), Ok(()));
        assert_eq!((budget.row(), budget.row()), (Ok(()), Ok(())));
        assert!(matches!(budget.row(), Err(Failure::Exhausted(_))));
        let mut budget = Budget::new(limits);
        assert_eq!((budget.value(84), budget.value(0)), (Ok(()), Err(Failure::TooLarge(100))));

        let job = |sql: String, parameters: Vec<Value>| Job { sql, parameters, write: false, key: None, limits };
        assert_eq!(check(&job("x".repeat(SQL_BYTES_MAX), vec![Value::Null; PARAMETERS_MAX])), Ok(()));
        assert_eq!(check(&job("x".repeat(SQL_BYTES_MAX + 1), vec![])), Err(Failure::TooLarge(SQL_BYTES_MAX as u64)));
        assert!(matches!(check(&job("SELECT '\0'".into(), vec![])), Err(Failure::Invalid(_))));
        assert!(matches!(check(&job("".into(), vec![Value::Null; PARAMETERS_MAX + 1])), Err(Failure::Invalid(_))));
        let blob = |length| Value::Blob(vec![0; length]);
        assert_eq!(check(&job("".into(), vec![blob(VALUE_BYTES_MAX); 2])), Ok(()));
        assert_eq!(
            check(&job("".into(), vec![blob(VALUE_BYTES_MAX + 1)])),
            Err(Failure::TooLarge(VALUE_BYTES_MAX as u64))
        );
        let three = vec![blob(VALUE_BYTES_MAX), blob(VALUE_BYTES_MAX), blob(1)];
        assert_eq!(check(&job("".into(), three)), Err(Failure::TooLarge(PARAMETER_BYTES_MAX as u64)));
        let mut late = job("".into(), vec![]);
        late.limits.deadline = Instant::now();
        assert_eq!(check(&late), Err(Failure::EXPIRED));
    }
}
