//! Views of the arguments of a call, made when an expression looks at them.

use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{CelBytes, CelDouble, CelInt, CelList, CelNull, CelString, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use url::{Position, Url};

use super::functions::{PATTERN, Pattern};
use crate::argtype::{MAX_ITEMS, MAX_SEEN};
use crate::{Arguments, FetchArguments, Field, QueryValue};

/// The variables of an expression.
pub(crate) struct Call<'a> {
    pub(crate) arguments: &'a Arguments<'a>,
    pub(crate) patterns: &'a [Pattern],
}

/// A record, with what its fields come from.
#[derive(Clone, Debug)]
enum Record<'a> {
    Request(&'a FetchArguments<'a>),
    Target(&'a Url),
    Header { name: &'a str, value: &'a str },
}

static RECORD: Type = Type::new_unspecified_type("record");

/// Whether an argument is one that an expression may look at.
pub(crate) fn fits(arguments: &Arguments<'_>, name: &str, field: &str) -> Result<(), String> {
    let (items, bytes) = match (arguments, name) {
        (Arguments::Read { path } | Arguments::Write { path, .. }, "path") => (0, path.as_str().len()),
        (Arguments::Write { .. }, "contents") => (0, 0),
        (Arguments::Fetch(request), "request") if field == "method" => (0, request.method.len()),
        (Arguments::Fetch(request), "request") if field == "url" => (0, request.url.url().as_str().len()),
        (Arguments::Fetch(_), "request") if field == "body" => (0, 0),
        (Arguments::Fetch(request), "request") => {
            let bytes = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            (request.headers.len(), bytes)
        }
        (Arguments::Connect { url }, "url" | "target") => (0, url.url().as_str().len()),
        (Arguments::Fetch(request), "target") => (0, request.url.url().as_str().len()),
        (Arguments::Query { database, .. }, "database") => (0, database.len()),
        (Arguments::Query { sql, .. }, "sql") => (0, sql.len()),
        (Arguments::Query { parameters, .. }, "parameters") => {
            let bytes = parameters.iter().map(|value| match value {
                QueryValue::Text(text) => text.len(),
                QueryValue::Blob(bytes) => bytes.len(),
                QueryValue::Null | QueryValue::Integer(_) | QueryValue::Real(_) => 8,
            });
            (parameters.len(), bytes.sum())
        }
        (Arguments::Fields(fields), _) => match fields.iter().find(|(own, _)| *own == name) {
            Some((_, Field::Text(text))) => (0, text.len()),
            Some((_, Field::Int(_) | Field::Bytes(_))) => (0, 0),
            None => return Err(format!("this call has no `{name}`")),
        },
        _ => return Err(format!("this call has no `{name}`")),
    };
    if items > MAX_ITEMS as usize {
        return Err(format!("`{name}` has over {MAX_ITEMS} items, more than a rule looks at"));
    }
    if bytes > MAX_SEEN as usize {
        return Err(format!("`{name}` has over {MAX_SEEN} bytes of text, more than a rule looks at"));
    }
    Ok(())
}

impl VariableResolver for Call<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(number) = variable.strip_prefix(PATTERN) {
            let pattern = self.patterns.get(number.parse::<usize>().ok()?)?;
            return Some(CowVal::Borrowed(pattern));
        }
        let found = match (self.arguments, variable) {
            (Arguments::Read { path } | Arguments::Write { path, .. }, "path") => text(path.as_str()),
            (Arguments::Write { contents, .. }, "contents") => bytes(contents),
            (Arguments::Fetch(request), "request") => CowVal::owned(Record::Request(request)),
            (Arguments::Connect { url }, "url") => text(sent(url.url())),
            (Arguments::Connect { url }, "target") => CowVal::owned(Record::Target(url.url())),
            (Arguments::Fetch(request), "target") => CowVal::owned(Record::Target(request.url.url())),
            (Arguments::Query { database, .. }, "database") => text(database),
            (Arguments::Query { sql, .. }, "sql") => text(sql),
            (Arguments::Query { parameters, .. }, "parameters") => list(parameters.iter().map(parameter)),
            (Arguments::Fields(fields), _) => match fields.iter().find(|(own, _)| *own == variable)?.1 {
                Field::Text(own) => text(own),
                Field::Int(number) => int(number),
                Field::Bytes(own) => bytes(own),
            },
            _ => return None,
        };
        Some(found)
    }
}

/// What is sent of a URL: all but its fragment.
fn sent(url: &Url) -> &str {
    &url[..Position::AfterQuery]
}

fn text<'b, 'v>(text: &'v str) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

fn bytes<'b, 'v>(bytes: &'v [u8]) -> CowVal<'b, 'v> {
    CowVal::owned(CelBytes::from(bytes))
}

fn int<'b, 'v>(number: u64) -> CowVal<'b, 'v> {
    CowVal::owned(CelInt::from(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn list<'b, 'v>(items: impl Iterator<Item = Box<dyn Val + 'v>>) -> CowVal<'b, 'v> {
    CowVal::owned(CelList::from(items.collect::<Vec<_>>()))
}

fn parameter<'v>(value: &'v QueryValue) -> Box<dyn Val + 'v> {
    match value {
        QueryValue::Null => Box::new(CelNull),
        QueryValue::Integer(number) => Box::new(CelInt::from(*number)),
        QueryValue::Real(number) => Box::new(CelDouble::from(*number)),
        QueryValue::Text(text) => Box::new(CelString::from(text.as_str())),
        QueryValue::Blob(bytes) => Box::new(CelBytes::from(bytes.as_slice())),
    }
}

fn header<'v>(header: &'v (String, String)) -> Box<dyn Val + 'v> {
    let (name, value) = header;
    Box::new(Record::Header { name, value })
}

impl<'a> Record<'a> {
    fn field<'b>(&self, name: &str) -> Option<CowVal<'b, 'a>> {
        let found = match (self, name) {
            (Record::Request(request), "method") => text(request.method),
            (Record::Request(request), "url") => text(sent(request.url.url())),
            (Record::Request(request), "headers") => list(request.headers.iter().map(header)),
            (Record::Request(request), "body") => request.body.map_or_else(|| CowVal::owned(CelNull), bytes),
            (Record::Target(url), "scheme") => text(url.scheme()),
            (Record::Target(url), "host") => text(url.host_str().unwrap_or_default()),
            (Record::Target(url), "port") => int(url.port_or_known_default().unwrap_or_default().into()),
            (Record::Target(url), "path") => text(url.path()),
            (Record::Target(url), "query") => text(url.query().unwrap_or_default()),
            (Record::Header { name, .. }, "name") => text(name),
            (Record::Header { value, .. }, "value") => text(value),
            _ => return None,
        };
        Some(found)
    }
}

impl Val for Record<'_> {
    fn get_type(&self) -> &Type {
        &RECORD
    }

    fn cel_type() -> &'static Type {
        &RECORD
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Indexer for Record<'_> {
    fn get<'b, 'v>(&'b self, field: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = field.downcast_ref::<CelString<'_>>().map(CelString::inner).unwrap_or_default();
        self.field(name).ok_or_else(|| ExecutionError::no_such_key(name))
    }

    fn steal<'v>(self: Box<Self>, field: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(field).map(CowVal::into_owned)
    }
}
