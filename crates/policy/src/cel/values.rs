//! Views of the arguments of a call, made when an expression looks at them.

use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelNull, CelString, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;

use super::functions::{PATTERN, Pattern};
use crate::argtype::{ArgType, ArgumentTable, MAX_ITEMS, MAX_SEEN};
use crate::{Fact, Facts, Fields};

/// The variables of an expression.
pub(crate) struct Call<'a> {
    pub(crate) facts: &'a dyn Facts,
    pub(crate) patterns: &'a [Pattern],
}

/// A record, with what its fields come from.
#[derive(Clone, Debug)]
struct Record<'a>(&'a dyn Fields);

static RECORD: Type = Type::new_unspecified_type("record");

/// Whether an argument, or a field of it, is one that an expression may look at.
pub(crate) fn fits(facts: &dyn Facts, table: &ArgumentTable, name: &str, field: &str) -> Result<(), String> {
    let argument = facts.fact(name).zip(table.iter().find(|(own, _)| **own == *name));
    let (fact, (_, of)) = argument.ok_or_else(|| format!("this call has no `{name}`"))?;
    let mut size = Size::default();
    match (&fact, of) {
        (Fact::Record(record), ArgType::Record(fields)) if !field.is_empty() => {
            let part = record.field(field).zip(fields.iter().find(|(own, _)| **own == *field));
            let (part, (_, of)) = part.ok_or_else(|| format!("this call has no `{name}.{field}`"))?;
            size.add(&part, of);
        }
        _ => size.add(&fact, of),
    }
    if size.items > MAX_ITEMS as usize {
        return Err(format!("`{name}` has over {MAX_ITEMS} items, more than a rule looks at"));
    }
    if size.text > MAX_SEEN as usize {
        return Err(format!("`{name}` has over {MAX_SEEN} bytes of text, more than a rule looks at"));
    }
    Ok(())
}

/// How much there is to look at.
#[derive(Default)]
struct Size {
    items: usize,
    text: usize,
}

impl Size {
    /// Bytes that stand alone are of any length: nothing looks at more than their size.
    fn add(&mut self, fact: &Fact<'_>, of: &ArgType) {
        match (fact, of) {
            (fact, ArgType::Optional(of)) => self.add(fact, of),
            (Fact::Text(text), _) => self.text += text.len(),
            (Fact::List(list), ArgType::List(of)) => {
                self.items += list.len();
                for item in list {
                    match item {
                        Fact::Bytes(bytes) => self.text += bytes.len(),
                        Fact::Null | Fact::Bool(_) | Fact::Int(_) | Fact::Real(_) => self.text += size_of::<i64>(),
                        item => self.add(item, of),
                    }
                }
            }
            (Fact::Record(record), ArgType::Record(fields)) => {
                for (name, of) in fields.iter() {
                    if let Some(field) = record.field(name) {
                        self.add(&field, of);
                    }
                }
            }
            _ => {}
        }
    }
}

impl VariableResolver for Call<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(number) = variable.strip_prefix(PATTERN) {
            let pattern = self.patterns.get(number.parse::<usize>().ok()?)?;
            return Some(CowVal::Borrowed(pattern));
        }
        self.facts.fact(variable).map(|fact| CowVal::Owned(value(fact)))
    }
}

fn value<'v>(fact: Fact<'v>) -> Box<dyn Val + 'v> {
    match fact {
        Fact::Null => Box::new(CelNull),
        Fact::Bool(yes) => Box::new(CelBool::from(yes)),
        Fact::Int(number) => Box::new(CelInt::from(number)),
        Fact::Real(number) => Box::new(CelDouble::from(number)),
        Fact::Text(text) => Box::new(CelString::from(text)),
        Fact::Bytes(bytes) => Box::new(CelBytes::from(bytes)),
        Fact::List(items) => Box::new(CelList::from(items.into_iter().map(value).collect::<Vec<_>>())),
        Fact::Record(record) => Box::new(Record(record)),
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
        self.0.field(name).map(|fact| CowVal::Owned(value(fact))).ok_or_else(|| ExecutionError::no_such_key(name))
    }

    fn steal<'v>(self: Box<Self>, field: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(field).map(CowVal::into_owned)
    }
}
