//! What the functions of a capability take and give. Rules, `policy explain`, questions and the check of answers derive
//! from it, and a test compares it with the WIT.

use std::sync::Arc;

use crate::Looks;
use crate::argtype::{ArgType, ArgumentTable, MAX_SEEN};

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name in the interface: `read-file`, `[method]socket.send`.
    pub wit: Arc<str>,
    /// The name that the journal has for it.
    pub name: Arc<str>,
    /// What it takes, in order.
    pub params: Arc<[Field]>,
    /// The ok value; `None`: there is none.
    pub result: Option<Type>,
    /// How it says that it did not work.
    pub error: ErrorType,
}

/// How a function says that it did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Not at all: it is no `result`.
    None,
    /// With the error of `parole:capabilities/types`.
    Shared,
    /// With an error of its own, that holds this.
    Own(Option<Type>),
}

impl Function {
    /// One that takes these parameters and may answer with an error. `wit` is its name in the interface, `name` that in
    /// the journal.
    pub fn new(wit: &str, name: &str, params: impl Into<Arc<[Field]>>, result: Option<Type>) -> Self {
        Self { wit: wit.into(), name: name.into(), params: params.into(), result, error: ErrorType::Shared }
    }

    /// The same for one that never does.
    pub fn infallible(wit: &str, name: &str, params: impl Into<Arc<[Field]>>, result: Option<Type>) -> Self {
        Self { error: ErrorType::None, ..Self::new(wit, name, params, result) }
    }

    /// What it returns, as WIT has it: the ok value, or a `result` around it; `None`: nothing.
    pub fn returns(&self) -> Option<Type> {
        let part = |of: &Option<Type>| of.clone().map(Arc::new);
        match &self.error {
            ErrorType::None => self.result.clone(),
            ErrorType::Shared => Some(Type::Result(part(&self.result), Some(Arc::new(Type::error())))),
            ErrorType::Own(error) => Some(Type::Result(part(&self.result), part(error))),
        }
    }
}

/// A parameter, or a field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in WIT: `duration-ms`.
    pub name: Arc<str>,
    /// What it holds.
    pub of: Type,
}

/// The type of a value: that of WIT, and what the value stands for where that is more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `bool`
    Bool,
    /// A whole number.
    Int(Int),
    /// `f32`
    Single,
    /// `f64`
    Real,
    /// `char`
    Char,
    /// `string`, of which a rule looks at so many bytes.
    Text(u32),
    /// `string`: the path of a file.
    Path,
    /// `string`: a URL.
    Url,
    /// `string`: the method of a request.
    Method,
    /// `string`: something that the policy has given a name.
    Name,
    /// `list<u8>`
    Bytes,
    /// `list<u8>`, of which a person types how many when asking what a policy says.
    Contents,
    /// A list of records of two texts, `name` and `value`: headers.
    Headers,
    /// A value of a database: null, a number, text or bytes.
    SqlValue,
    /// An enum of these words.
    Enum(Arc<[Arc<str>]>),
    /// One of several cases, some with a value.
    Variant(Arc<[(Arc<str>, Option<Type>)]>),
    /// Any number of the same.
    List(Arc<Type>),
    /// Fields by name.
    Record(Arc<[Field]>),
    /// Values in order.
    Tuple(Arc<[Type]>),
    /// Any of these words.
    Flags(Arc<[Arc<str>]>),
    /// An ok value or an error, each of which may hold something.
    Result(Option<Arc<Type>>, Option<Arc<Type>>),
    /// That or nothing.
    Option(Arc<Type>),
    /// A resource that an earlier call has given.
    Handle,
}

/// The whole numbers of WIT.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are named as WIT names them")]
pub enum Int {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
}

impl Int {
    /// The name that WIT has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Int::U8 => "u8",
            Int::U16 => "u16",
            Int::U32 => "u32",
            Int::U64 => "u64",
            Int::S8 => "s8",
            Int::S16 => "s16",
            Int::S32 => "s32",
            Int::S64 => "s64",
        }
    }

    /// The numbers that it holds.
    pub const fn range(self) -> (i128, i128) {
        match self {
            Int::U8 => (0, u8::MAX as i128),
            Int::U16 => (0, u16::MAX as i128),
            Int::U32 => (0, u32::MAX as i128),
            Int::U64 => (0, u64::MAX as i128),
            Int::S8 => (i8::MIN as i128, i8::MAX as i128),
            Int::S16 => (i16::MIN as i128, i16::MAX as i128),
            Int::S32 => (i32::MIN as i128, i32::MAX as i128),
            Int::S64 => (i64::MIN as i128, i64::MAX as i128),
        }
    }

    /// Whether JSON has it as text, because programs read its numbers as floats.
    pub const fn is_wide(self) -> bool {
        matches!(self, Int::U64 | Int::S64)
    }
}

/// A field of a record, or a parameter.
pub fn field(name: &str, of: Type) -> Field {
    Field { name: name.into(), of }
}

impl Type {
    /// Text of which a rule looks at as much as it ever does.
    pub const TEXT: Type = Type::Text(MAX_SEEN);

    /// A record of these fields.
    pub fn record(fields: impl Into<Arc<[Field]>>) -> Type {
        Type::Record(fields.into())
    }

    /// Any number of the same.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    /// That or nothing.
    pub fn option(of: Type) -> Type {
        Type::Option(Arc::new(of))
    }

    /// One of these words.
    pub fn words(words: &[&str]) -> Type {
        Type::Enum(words.iter().map(|word| Arc::from(*word)).collect())
    }

    /// One of these cases.
    pub fn variant<const N: usize>(cases: [(&str, Option<Type>); N]) -> Type {
        Type::Variant(cases.into_iter().map(|(name, of)| (name.into(), of)).collect())
    }

    /// The variant of [`Type::SqlValue`].
    pub fn sql_value() -> Type {
        Type::variant([
            ("null", None),
            ("integer", Some(Type::Int(Int::S64))),
            ("real", Some(Type::Real)),
            ("text", Some(Type::TEXT)),
            ("blob", Some(Type::Bytes)),
        ])
    }

    /// The error that functions share: `parole:capabilities/types`.
    pub fn error() -> Type {
        Type::variant([
            ("denied", Some(Type::TEXT)),
            ("expired", None),
            ("canceled", None),
            ("closed", None),
            ("not-found", None),
            ("invalid", Some(Type::TEXT)),
            ("too-large", Some(Type::Int(Int::U64))),
            ("exhausted", Some(Type::TEXT)),
            ("failed", Some(Type::TEXT)),
        ])
    }

    /// The same as far as a rule is concerned; `None`: a rule sees nothing of it.
    pub(crate) fn seen(&self) -> Option<ArgType> {
        Some(match self {
            Type::SqlValue => ArgType::Any,
            Type::Bool => ArgType::Bool,
            Type::Single | Type::Real => ArgType::Real,
            Type::Variant(cases) => variant(cases),
            Type::Char => ArgType::Text(4),
            Type::Int(_) => ArgType::Int,
            Type::Text(most) => ArgType::Text(*most),
            Type::Path => ArgType::Text(crate::MAX_GUEST_PATH as u32),
            Type::Url => ArgType::Text(crate::MAX_URL as u32),
            Type::Method => ArgType::Text(crate::MAX_METHOD as u32),
            Type::Name => ArgType::Lower(crate::MAX_DATABASE_NAME as u32),
            Type::Bytes | Type::Contents => ArgType::Bytes,
            Type::Headers => {
                let header = [("name", ArgType::Lower(MAX_SEEN)), ("value", ArgType::Text(MAX_SEEN))];
                ArgType::List(Arc::new(ArgType::record(header)))
            }
            Type::Enum(words) => word(words),
            Type::Flags(words) => ArgType::List(Arc::new(word(words))),
            Type::List(of) => match of.seen()? {
                // A condition goes through a list, and not through lists in it.
                ArgType::List(_) => return None,
                of => ArgType::List(Arc::new(of)),
            },
            Type::Result(ok, error) => {
                let part = |of: &Option<Arc<Type>>| of.as_deref().cloned();
                variant(&[("ok".into(), part(ok)), ("err".into(), part(error))])
            }
            Type::Tuple(_) => return None,
            Type::Record(fields) => ArgType::Record(table(fields)),
            Type::Option(of) => ArgType::Optional(Arc::new(of.seen()?)),
            Type::Handle => return None,
        })
    }

    /// What a rule looks at that has all of it in its condition.
    pub(crate) fn looks(&self) -> Looks {
        let none = Looks::default();
        match self {
            Type::Path => Looks { path: true, ..none },
            Type::Url => Looks { path: true, query: true, ..none },
            Type::Method => Looks { method: true, ..none },
            Type::Headers => Looks { headers: true, ..none },
            Type::List(of) | Type::Option(of) => of.looks(),
            Type::Record(fields) => fields.iter().fold(none, |looks, field| looks.and(field.of.looks())),
            _ => none,
        }
    }
}

/// A case as rules see it: `case` is its name, and a case that holds something is a field, null unless it is the case.
fn variant(cases: &[(Arc<str>, Option<Type>)]) -> ArgType {
    let names: Vec<Arc<str>> = cases.iter().map(|(name, _)| name.clone()).collect();
    let held = cases.iter().filter(|(name, _)| **name != *CASE).filter_map(|(name, of)| {
        let seen = of.as_ref()?.seen()?;
        Some((rule_name(name), ArgType::Optional(Arc::new(seen))))
    });
    ArgType::Record(std::iter::once((CASE.into(), word(&names))).chain(held).collect())
}

/// The field of a variant that names its case.
pub(crate) const CASE: &str = "case";

/// One of these words.
fn word(words: &[Arc<str>]) -> ArgType {
    let longest = words.iter().map(|word| word.len()).max().unwrap_or_default();
    ArgType::Lower(u32::try_from(longest).unwrap_or(MAX_SEEN))
}

/// Parameters or fields as rules see them: a rule spells `duration-ms` as `duration_ms`.
pub(crate) fn table(fields: &[Field]) -> ArgumentTable {
    let seen = fields.iter().filter_map(|field| Some((rule_name(&field.name), field.of.seen()?)));
    seen.collect()
}

/// A name as rules spell it.
pub(crate) fn rule_name(name: &str) -> Arc<str> {
    name.replace('-', "_").into()
}
