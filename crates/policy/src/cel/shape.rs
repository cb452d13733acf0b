//! What is known of a part of an expression before it is evaluated: its type and how big it gets.

use std::rc::Rc;

use crate::argtype::{ArgType, ArgumentTable, MAX_ITEMS, MAX_SEEN};

/// Longer than anything that may be looked at from end to end.
const UNBOUNDED: u64 = 1 << 40;

/// The type of a part of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    /// Text without capitals.
    Lower,
    Bytes,
    Null,
    /// What only evaluating can tell.
    Any,
    /// Of an empty list: nothing.
    Never,
    List(Rc<Shape>),
    Record(ArgumentTable),
    Optional(Rc<Shape>),
}

/// A type with the most that a value of it can be.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) of: Type,
    /// Bytes of text in it, in all.
    pub(crate) bytes: u64,
    /// Items, if it is a list.
    pub(crate) items: u64,
}

impl Shape {
    pub(crate) fn plain(of: Type) -> Shape {
        Shape { of, bytes: 0, items: 0 }
    }

    pub(crate) fn text(bytes: u64) -> Shape {
        Shape { of: Type::Text, bytes, items: 0 }
    }

    pub(crate) fn list(item: Shape, items: u64, bytes: u64) -> Shape {
        Shape { of: Type::List(Rc::new(item)), bytes, items }
    }

    pub(crate) fn argument(of: &ArgType) -> Shape {
        match of {
            ArgType::Text(most) => Shape::text((*most).into()),
            ArgType::Lower(most) => Shape { of: Type::Lower, ..Shape::text((*most).into()) },
            ArgType::Bool => Shape::plain(Type::Bool),
            ArgType::Int => Shape::plain(Type::Int),
            ArgType::Real => Shape::plain(Type::Double),
            ArgType::Bytes => Shape { of: Type::Bytes, ..Shape::text(UNBOUNDED) },
            ArgType::Any => Shape { of: Type::Any, ..Shape::text(MAX_SEEN.into()) },
            ArgType::List(item) => Shape::list(Shape::argument(item), MAX_ITEMS.into(), MAX_SEEN.into()),
            ArgType::Record(fields) => Shape { of: Type::Record(fields.clone()), ..Shape::text(MAX_SEEN.into()) },
            ArgType::Optional(inner) => {
                let inner = Shape::argument(inner);
                Shape { bytes: inner.bytes, items: inner.items, of: Type::Optional(Rc::new(inner)) }
            }
        }
    }

    /// The type without the null that it may be.
    pub(crate) fn solid(&self) -> &Type {
        match &self.of {
            Type::Optional(inner) => inner.solid(),
            of => of,
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self.solid(), Type::Text | Type::Lower | Type::Any)
    }

    pub(crate) fn is_bool(&self) -> bool {
        matches!(self.solid(), Type::Bool | Type::Any)
    }

    /// One item of a list. All of them together have the bytes of the list, so going through the list costs
    /// as much as if each had its part of them.
    pub(crate) fn part(&self, item: &Shape) -> Shape {
        narrowed(item, self.bytes.div_ceil(self.items.max(1)))
    }

    /// One item of a list, which may have all of its bytes.
    pub(crate) fn whole(&self, item: &Shape) -> Shape {
        narrowed(item, self.bytes)
    }

    /// What either of two parts can be.
    pub(crate) fn or(&self, other: &Shape) -> Option<Shape> {
        let of = match (&self.of, &other.of) {
            (Type::Never, of) | (of, Type::Never) => of.clone(),
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (Type::Null, Type::Null) => Type::Null,
            (Type::Null, of @ Type::Optional(_)) | (of @ Type::Optional(_), Type::Null) => of.clone(),
            (Type::Null, of) | (of, Type::Null) => {
                Type::Optional(Rc::new(Shape { of: of.clone(), bytes: self.bytes, items: 0 }))
            }
            (Type::List(a), Type::List(b)) => Type::List(Rc::new(a.or(b)?)),
            (Type::Record(a), Type::Record(b)) if a == b => Type::Record(a.clone()),
            (Type::Lower, Type::Lower) => Type::Lower,
            _ => {
                let (a, b) = (self.solid(), other.solid());
                if !same(a, b) {
                    return None;
                }
                let of = if matches!(a, Type::Lower) { b.clone() } else { a.clone() };
                match (&self.of, &other.of) {
                    (Type::Optional(_), _) | (_, Type::Optional(_)) => {
                        Type::Optional(Rc::new(Shape { of, bytes: self.bytes.max(other.bytes), items: 0 }))
                    }
                    _ => of,
                }
            }
        };
        Some(Shape { of, bytes: self.bytes.max(other.bytes), items: self.items.max(other.items) })
    }

    /// Whether the two may be equal at all, as far as their types can tell.
    pub(crate) fn comparable(&self, other: &Shape) -> bool {
        let number = |of: &Type| matches!(of, Type::Int | Type::Uint | Type::Double);
        match (&self.of, &other.of) {
            (Type::Never, _) | (_, Type::Never) => true,
            (Type::Any, of) | (of, Type::Any) => !matches!(of, Type::Record(_)),
            (Type::Null, Type::Null | Type::Optional(_)) | (Type::Optional(_), Type::Null) => true,
            (Type::List(a), Type::List(b)) => a.comparable(b),
            _ => {
                let (a, b) = (self.solid(), other.solid());
                (number(a) && number(b)) || same(a, b)
            }
        }
    }

    /// What it is, in words.
    pub(crate) fn words(&self) -> &'static str {
        match &self.of {
            Type::Bool => "true or false",
            Type::Int => "a whole number",
            Type::Uint => "an unsigned number",
            Type::Double => "a number with a fraction",
            Type::Text | Type::Lower => "text",
            Type::Bytes => "bytes",
            Type::Null => "null",
            Type::Any => "any value",
            Type::Never => "nothing",
            Type::List(_) => "a list",
            Type::Record(_) => "a record",
            Type::Optional(inner) => inner.words(),
        }
    }
}

/// Whether two types, neither optional, have the same values; lists and records do not count.
fn same(a: &Type, b: &Type) -> bool {
    matches!(
        (a, b),
        (Type::Bool, Type::Bool)
            | (Type::Int, Type::Int)
            | (Type::Uint, Type::Uint)
            | (Type::Double, Type::Double)
            | (Type::Bytes, Type::Bytes)
            | (Type::Text | Type::Lower, Type::Text | Type::Lower)
    )
}

fn narrowed(item: &Shape, bytes: u64) -> Shape {
    Shape { bytes: item.bytes.min(bytes), ..item.clone() }
}
