//! SQL on the databases that the policy names. From level `trusted`.
//!
//! ```no_run
//! use parole_guest::query;
//!
//! # fn run() -> Result<(), parole_guest::Error> {
//! let rows = query("inventory", "SELECT name, count FROM items WHERE count < ?1", &[10.into()])?;
//! for row in &rows {
//!     let name = row.text("name")?;
//!     query("orders", "INSERT INTO orders (item) VALUES ($1)", &[name.into()])?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Values go in as parameters, never as text: `?1` in SQLite, `$1` in PostgreSQL.

use crate::Error;
use crate::wit::query as wit;

/// One value of a row, or one parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL's `NULL`.
    Null,
    /// A whole number; a truth value is 0 or 1.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<wit::Value> for Value {
    fn from(value: wit::Value) -> Self {
        match value {
            wit::Value::Null => Self::Null,
            wit::Value::Integer(integer) => Self::Integer(integer),
            wit::Value::Real(real) => Self::Real(real),
            wit::Value::Text(text) => Self::Text(text),
            wit::Value::Blob(bytes) => Self::Blob(bytes),
        }
    }
}

impl From<&Value> for wit::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Real(real) => Self::Real(*real),
            Value::Text(text) => Self::Text(text.clone()),
            Value::Blob(bytes) => Self::Blob(bytes.clone()),
        }
    }
}

macro_rules! values {
    ($($from:ty => |$value:ident| $made:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $made
            }
        })*
    };
}

values! {
    bool => |truth| Self::Integer(truth.into()),
    i32 => |integer| Self::Integer(integer.into()),
    u32 => |integer| Self::Integer(integer.into()),
    i64 => |integer| Self::Integer(integer),
    f64 => |real| Self::Real(real),
    &str => |text| Self::Text(text.to_owned()),
    String => |text| Self::Text(text),
    &[u8] => |bytes| Self::Blob(bytes.to_owned()),
    Vec<u8> => |bytes| Self::Blob(bytes),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What a statement answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows: of each a value for every column.
    pub rows: Vec<Vec<Value>>,
}

impl Rows {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of this number, from 0.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<Row<'_>> {
        self.rows.get(number).map(|values| Row { columns: &self.columns, values })
    }

    /// One row after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter { columns: &self.columns, rows: self.rows.iter() }
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = Row<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The rows of an answer: see [`Rows::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    columns: &'a [String],
    rows: std::slice::Iter<'a, Vec<Value>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        self.rows.next().map(|values| Row { columns: self.columns, values })
    }
}

/// One row, with the names of its columns.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Value],
}

impl<'a> Row<'a> {
    /// Its values, in the order of the columns.
    #[must_use]
    pub fn values(&self) -> &'a [Value] {
        self.values
    }

    /// The value in the first column of this name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such column.
    pub fn value(&self, column: &str) -> Result<&'a Value, Error> {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| self.values.get(at)).ok_or(Error::NotFound)
    }

    /// The text in this column.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such column, [`Error::Failed`] if it holds no text.
    pub fn text(&self, column: &str) -> Result<&'a str, Error> {
        match self.value(column)? {
            Value::Text(text) => Ok(text),
            _ => Err(other(column, "text")),
        }
    }

    /// The whole number in this column.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such column, [`Error::Failed`] if it holds none.
    pub fn integer(&self, column: &str) -> Result<i64, Error> {
        match self.value(column)? {
            Value::Integer(integer) => Ok(*integer),
            _ => Err(other(column, "an integer")),
        }
    }

    /// The number in this column.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such column, [`Error::Failed`] if it holds none.
    pub fn real(&self, column: &str) -> Result<f64, Error> {
        match self.value(column)? {
            Value::Real(real) => Ok(*real),
            _ => Err(other(column, "a real number")),
        }
    }

    /// The bytes in this column.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such column, [`Error::Failed`] if it holds none.
    pub fn blob(&self, column: &str) -> Result<&'a [u8], Error> {
        match self.value(column)? {
            Value::Blob(bytes) => Ok(bytes),
            _ => Err(other(column, "bytes")),
        }
    }
}

fn other(column: &str, expected: &str) -> Error {
    Error::Failed(format!("column `{column}` does not hold {expected}"))
}

/// Runs one statement on a database, by the name that the policy gives it.
///
/// The policy may want a person asked first: then the call returns when that is decided.
///
/// # Errors
///
/// [`Error::Denied`] if the policy, or a person, said no; [`Error::Expired`] if nobody decided in time or
/// the statement took too long; [`Error::Canceled`]; [`Error::TooLarge`] or [`Error::Exhausted`] if there is
/// more than the policy allows; [`Error::Invalid`] or [`Error::Failed`] with what the database says.
pub fn query(database: &str, sql: &str, parameters: &[Value]) -> Result<Rows, Error> {
    let parameters: Vec<wit::Value> = parameters.iter().map(Into::into).collect();
    let wit::Rows { columns, rows } = wit::query(database, sql, &parameters)?;
    let row = |values: Vec<wit::Value>| values.into_iter().map(Into::into).collect();
    Ok(Rows { columns, rows: rows.into_iter().map(row).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_what_rust_has() {
        assert_eq!(Value::from(true), Value::Integer(1));
        assert_eq!(Value::from("a"), Value::Text("a".to_owned()));
        assert_eq!(Value::from(&b"a"[..]), Value::Blob(b"a".to_vec()));
        assert_eq!(Value::from(Some(7)), Value::Integer(7));
        assert_eq!(Value::from(None::<f64>), Value::Null);
    }

    #[test]
    fn a_row_knows_its_columns() {
        let rows = Rows {
            columns: vec!["name".to_owned(), "count".to_owned()],
            rows: vec![vec!["bolt".into(), 3.into()], vec!["nut".into(), Value::Null]],
        };
        let names: Vec<_> = rows.iter().map(|row| row.text("name")).collect();
        assert_eq!(names, [Ok("bolt"), Ok("nut")]);
        let first = rows.get(0).unwrap();
        assert_eq!(first.integer("count"), Ok(3));
        assert_eq!(first.integer("weight"), Err(Error::NotFound));
        assert!(matches!(first.real("count"), Err(Error::Failed(_))));
        assert!(matches!(rows.get(1).unwrap().integer("count"), Err(Error::Failed(_))));
        assert!(rows.get(2).is_none());
    }
}
