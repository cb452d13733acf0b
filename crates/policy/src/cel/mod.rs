//! Expressions of CEL: `check` before anything is evaluated, `place` for its faults, `values` and `functions` for
//! what is evaluated on.

mod check;
mod functions;
mod macros;
mod never;
mod operators;
mod patterns;
mod place;
mod shape;
mod values;

use cel::common::types::CelBool;
use cel::parser::Parser;
use cel::{Context, IdedExpr, Value};

use self::check::Used;
use self::functions::{ENV, Pattern};
use self::place::Places;
use self::values::Call;
use crate::argtype::ArgumentTable;
use crate::nearest::quoted;
use crate::{BadCondition, Definition, Facts, Looks, MAX_DEPTH};

/// An expression that was checked.
pub(crate) struct Compiled {
    expression: IdedExpr,
    /// What its `matches` look for, in order.
    patterns: Vec<Pattern>,
    /// The arguments that it looks at.
    used: Vec<Used>,
    /// What there is to look at.
    arguments: ArgumentTable,
    /// A comparison in it that never holds.
    pub(crate) never: Option<BadCondition>,
}

pub(crate) fn compile(source: &str, definition: &Definition, function: Option<&str>) -> Result<Compiled, BadCondition> {
    let depth = u16::try_from(MAX_DEPTH).unwrap_or(u16::MAX);
    let parsed = Parser::new().max_recursion_depth(depth).parse_with_source_info(source);
    let (mut expression, info) = parsed.map_err(|errors| place::of_parser(source, &errors))?;
    let arguments = definition.arguments(function);
    let found = check::check(&mut expression, Places::new(source, &info), &arguments)?;
    Ok(Compiled { expression, patterns: found.patterns, used: found.used, arguments, never: found.never })
}

impl Compiled {
    /// What it looks at.
    pub(crate) fn looks(&self, definition: &Definition) -> Looks {
        self.used.iter().fold(Looks::default(), |looks, (name, part)| looks.and(definition.looks(name, part)))
    }

    /// Whether it holds for a call.
    pub(crate) fn evaluate(&self, facts: &dyn Facts) -> Result<bool, String> {
        for (name, field) in &self.used {
            values::fits(facts, &self.arguments, name, field)?;
        }
        let call = Call { facts, patterns: &self.patterns };
        let mut context = Context::with_env(ENV.clone());
        context.set_variable_resolver(&call);
        match Value::resolve_val(&self.expression, &context) {
            Ok(value) => match value.downcast_ref::<CelBool>() {
                Some(holds) => Ok(*holds.inner()),
                None => Err("it is neither true nor false".to_owned()),
            },
            Err(error) => Err(quoted(&error.to_string())),
        }
    }
}
