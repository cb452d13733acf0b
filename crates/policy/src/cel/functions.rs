//! The functions of an expression. Operators are the `cel` crate's own; its other functions aren't there.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use cel::common::types::{
    BYTES_TYPE, CelBool, CelBytes, CelDouble, CelInt, CelString, DOUBLE_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use regex::Regex;

use crate::argtype::MAX_SEEN;

/// The prefix of the variables that stand for patterns. No expression can spell it.
pub(crate) const PATTERN: &str = "@pattern";

/// What a `matches` looks for, compiled when the policy was read.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Arc<Regex>);

static PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN_TYPE
    }

    fn cel_type() -> &'static Type {
        &PATTERN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// Every function, for every expression.
pub(crate) static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_optional_support(false);
    // Names and signatures differ; if they did not, expressions with the missing function would be errors.
    let _ = declare(&mut env);
    Arc::new(env)
});

type Function = cel::common::functions::Function;

fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let tests: [(&str, Function); 3] = [("contains", contains), ("startsWith", starts_with), ("endsWith", ends_with)];
    for (name, function) in tests {
        env.add_member_overload(name, name, STRING_TYPE, vec![STRING_TYPE], function)?;
    }
    env.add_member_overload("matches", "matches", STRING_TYPE, vec![PATTERN_TYPE.to_owned()], matches)?;
    env.add_member_overload("lowerAscii", "lowerAscii", STRING_TYPE, vec![], lower)?;
    env.add_member_overload("upperAscii", "upperAscii", STRING_TYPE, vec![], upper)?;
    for (id, of) in [("size_string", STRING_TYPE), ("size_bytes", BYTES_TYPE), ("size_list", LIST_TYPE)] {
        env.add_member_overload("size", &format!("{id}_member"), of.to_owned(), vec![], size)?;
        env.add_overload("size", id, vec![of], size)?;
    }
    for (id, of) in [("int_string", STRING_TYPE), ("int_int", INT_TYPE), ("int_double", DOUBLE_TYPE)] {
        env.add_overload("int", id, vec![of], to_int)?;
    }
    for (id, of) in [("double_string", STRING_TYPE), ("double_int", INT_TYPE), ("double_double", DOUBLE_TYPE)] {
        env.add_overload("double", id, vec![of], to_double)?;
    }
    for (id, of) in [
        ("string_string", STRING_TYPE),
        ("string_int", INT_TYPE),
        ("string_double", DOUBLE_TYPE),
        ("string_bytes", BYTES_TYPE),
    ] {
        env.add_overload("string", id, vec![of], to_string)?;
    }
    Ok(())
}

type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn wrong(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "wrong arguments")
}

/// The text that argument `index` is.
fn text<'c>(arguments: &'c [CowVal<'_, '_>], index: usize, function: &str) -> Result<&'c str, ExecutionError> {
    let text = arguments.get(index).and_then(|value| value.downcast_ref::<CelString<'_>>());
    text.map(CelString::inner).ok_or_else(|| wrong(function))
}

fn truth<'b, 'v>(truth: bool) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(truth)))
}

fn contains<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    truth(text(&arguments, 0, "contains")?.contains(text(&arguments, 1, "contains")?))
}

fn starts_with<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    truth(text(&arguments, 0, "startsWith")?.starts_with(text(&arguments, 1, "startsWith")?))
}

fn ends_with<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    truth(text(&arguments, 0, "endsWith")?.ends_with(text(&arguments, 1, "endsWith")?))
}

fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let pattern = arguments.get(1).and_then(|value| value.downcast_ref::<Pattern>());
    let pattern = pattern.ok_or_else(|| wrong("matches"))?;
    truth(pattern.0.is_match(text(&arguments, 0, "matches")?))
}

fn lower<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text(&arguments, 0, "lowerAscii")?.to_ascii_lowercase())))
}

fn upper<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text(&arguments, 0, "upperAscii")?.to_ascii_uppercase())))
}

fn size<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let value = arguments.first().ok_or_else(|| wrong("size"))?;
    let size = value.as_sizer().ok_or_else(|| wrong("size"))?.size();
    Ok(CowVal::owned(size))
}

fn to_int<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let value = arguments.first().ok_or_else(|| wrong("int"))?;
    let number = if let Some(number) = value.downcast_ref::<CelInt>() {
        *number.inner()
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        whole(*number.inner()).ok_or_else(|| ExecutionError::function_error("int", "out of range"))?
    } else {
        text(&arguments, 0, "int")?.parse().map_err(|error| ExecutionError::function_error("int", error))?
    };
    Ok(CowVal::owned(CelInt::from(number)))
}

/// The whole part of a number, if it is one of 64 bits.
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is in range")]
    (number > -LIMIT && number < LIMIT).then_some(number as i64)
}

fn to_double<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let value = arguments.first().ok_or_else(|| wrong("double"))?;
    let number = if let Some(number) = value.downcast_ref::<CelDouble>() {
        *number.inner()
    } else if let Some(number) = value.downcast_ref::<CelInt>() {
        #[expect(clippy::cast_precision_loss, reason = "as CEL does")]
        let number = *number.inner() as f64;
        number
    } else {
        text(&arguments, 0, "double")?.parse().map_err(|error| ExecutionError::function_error("double", error))?
    };
    Ok(CowVal::owned(CelDouble::from(number)))
}

fn to_string<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let value = arguments.first().ok_or_else(|| wrong("string"))?;
    let bad = |message: &str| ExecutionError::function_error("string", message);
    let text = if let Some(number) = value.downcast_ref::<CelInt>() {
        number.inner().to_string()
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        number.inner().to_string()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        if bytes.inner().len() > MAX_SEEN as usize {
            return Err(bad("too many bytes to be looked at as text"));
        }
        std::str::from_utf8(bytes.inner()).map_err(|_| bad("these bytes are not text"))?.to_owned()
    } else {
        text(&arguments, 0, "string")?.to_owned()
    };
    Ok(CowVal::owned(CelString::from(text)))
}
