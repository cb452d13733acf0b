//! Whether an expression makes sense and what it costs at worst, before it is ever evaluated.

use std::ops::Range;
use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr};

use super::functions::Pattern;
use super::place::Places;
use super::shape::{Shape, Type};
use crate::argtype::{ArgumentTable, MAX_SEEN};
use crate::nearest::{help, quoted};
use crate::{BadCondition, MAX_COST, MAX_DEPTH, MAX_HELD};

/// What one step costs; a byte that is looked at costs 1.
pub(crate) const STEP: u64 = 64;
/// Something that an expression looks at: an argument, and which field of it; all of it if that is empty.
pub(crate) type Used = (Arc<str>, Arc<str>);

/// What checking found.
pub(crate) struct Found {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) used: Vec<Used>,
    /// A comparison that never holds.
    pub(crate) never: Option<BadCondition>,
}

pub(crate) struct Checker<'s> {
    pub(crate) places: Places<'s>,
    pub(crate) arguments: &'s ArgumentTable,
    /// The variables of the macros around, innermost last.
    pub(crate) scopes: Vec<(String, Shape)>,
    /// How many macros are around.
    pub(crate) nesting: usize,
    /// How often what is looked at now is evaluated.
    pub(crate) times: u64,
    cost: u64,
    pub(crate) patterns: Vec<Pattern>,
    used: Vec<Used>,
    pub(crate) never: Option<BadCondition>,
}

/// Checks an expression that may look at these arguments, and replaces its patterns by compiled ones.
pub(crate) fn check<'s>(
    expression: &mut IdedExpr,
    places: Places<'s>,
    arguments: &'s ArgumentTable,
) -> Result<Found, BadCondition> {
    let (scopes, patterns, used) = (Vec::new(), Vec::new(), Vec::new());
    let mut checker = Checker { places, arguments, scopes, nesting: 0, times: 1, cost: 0, patterns, used, never: None };
    let shape = checker.visit(expression, 1)?;
    if !shape.is_bool() {
        let message = format!("a condition is true or false; this is {}", shape.words());
        return Err(fault(checker.places.whole(), message, None));
    }
    Ok(Found { patterns: checker.patterns, used: checker.used, never: checker.never })
}

pub(crate) fn fault(at: Range<usize>, message: impl Into<String>, help: Option<String>) -> BadCondition {
    BadCondition { message: message.into(), at, help }
}

impl Checker<'_> {
    /// The shape of a part of the expression.
    pub(crate) fn visit(&mut self, part: &mut IdedExpr, depth: usize) -> Result<Shape, BadCondition> {
        let id = part.id;
        if depth > MAX_DEPTH {
            return Err(fault(
                self.places.token(id),
                format!("an expression is {MAX_DEPTH} levels deep at most"),
                None,
            ));
        }
        let shape = match &mut part.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.variable(id, name),
            Expr::Select(select) => self.select(id, select, depth),
            Expr::Call(call) => {
                self.never_holds(call);
                self.call(id, call, depth)
            }
            Expr::List(list) => {
                let (mut item, mut bytes) = (Shape::plain(Type::Never), 0_u64);
                for element in &mut list.elements {
                    let place = self.places.token(element.id);
                    let shape = self.visit(element, depth + 1)?;
                    if matches!(shape.of, Type::List(_)) {
                        return Err(fault(place, "a list of lists is not known here", None));
                    }
                    bytes = bytes.saturating_add(shape.bytes);
                    item = item.or(&shape).unwrap_or(Shape { of: Type::Any, ..shape });
                }
                item.bytes = bytes;
                let items = u64::try_from(list.elements.len()).unwrap_or(u64::MAX);
                self.charge(id, bytes.saturating_add(items.saturating_mul(STEP)))?;
                Ok(Shape::list(item, items, bytes))
            }
            Expr::Comprehension(macro_) => self.comprehension(id, macro_, depth),
            Expr::Map(_) => Err(fault(self.places.token(id), "maps are not known in a condition", None)),
            Expr::Struct(_) => Err(fault(self.places.token(id), "messages are not known in a condition", None)),
            Expr::Unspecified => Err(fault(self.places.token(id), "this is not an expression", None)),
        }?;
        self.charge(id, STEP)?;
        // Bytes are never copied.
        if shape.bytes > MAX_HELD && !matches!(shape.solid(), Type::Bytes) {
            let message = "for the largest call that may come, this would be too much text";
            return Err(fault(self.places.token(id), message, None));
        }
        Ok(shape)
    }

    /// Adds to what the expression costs, as often as this part of it is evaluated.
    pub(crate) fn charge(&mut self, id: u64, units: u64) -> Result<(), BadCondition> {
        self.cost = self.cost.saturating_add(units.saturating_mul(self.times));
        if self.cost <= MAX_COST {
            return Ok(());
        }
        let help = "look at less: test a field before going through a list, compare with short text";
        let message = "for the largest call that may come, evaluating this would take too long";
        Err(fault(self.places.token(id), message, Some(help.to_owned())))
    }

    fn variable(&mut self, id: u64, name: &str) -> Result<Shape, BadCondition> {
        if let Some((_, shape)) = self.scopes.iter().rev().find(|(own, _)| own == name) {
            return Ok(shape.clone());
        }
        let arguments = self.arguments;
        let Some((own, of)) = arguments.iter().find(|(own, _)| **own == *name) else {
            let mine = self.scopes.iter().map(|(own, _)| own.as_str()).filter(|own| !own.starts_with('@'));
            let valid: Vec<&str> = mine.chain(arguments.iter().map(|(own, _)| &**own)).collect();
            let help = if valid.is_empty() { None } else { Some(help(name, &valid)) };
            return Err(fault(self.places.token(id), format!("unknown variable {}", quoted(name)), help));
        };
        self.note((own.clone(), "".into()));
        let shape = Shape::argument(of);
        self.lists(id, &shape)?;
        Ok(shape)
    }

    /// What making a list of an argument costs.
    fn lists(&mut self, id: u64, shape: &Shape) -> Result<(), BadCondition> {
        match shape.of {
            Type::List(_) => self.charge(id, shape.items.saturating_mul(STEP).saturating_add(shape.bytes)),
            _ => Ok(()),
        }
    }

    fn note(&mut self, used: Used) {
        if !self.used.contains(&used) {
            self.used.push(used);
        }
    }

    fn select(&mut self, id: u64, select: &mut SelectExpr, depth: usize) -> Result<Shape, BadCondition> {
        let place = self.places.field(id, &select.field);
        if select.test {
            let help = "every field is there; what can be missing is null: request.body != null";
            return Err(fault(self.places.token(id), "`has` is not known here", Some(help.to_owned())));
        }
        let before = self.used.len();
        let record = self.visit(&mut select.operand, depth + 1)?;
        let Type::Record(fields) = record.solid() else {
            return Err(fault(place, format!("{} has no field {}", record.words(), quoted(&select.field)), None));
        };
        let Some((field, of)) = fields.iter().find(|(own, _)| **own == *select.field) else {
            let valid: Vec<&str> = fields.iter().map(|(own, _)| &**own).collect();
            let message = format!("unknown field {}", quoted(&select.field));
            return Err(fault(place, message, Some(help(&select.field, &valid))));
        };
        if let Expr::Ident(name) = &select.operand.expr
            && let Some((own, _)) = self.arguments.iter().find(|(own, _)| **own == **name)
            && !self.scopes.iter().any(|(own, _)| own == name)
        {
            self.used.truncate(before);
            let used = (own.clone(), field.clone());
            self.note(used);
        }
        let shape = Shape::argument(of);
        self.lists(id, &shape)?;
        // A record in a list has its part of the text of the list; only bytes are as long as they like.
        let bytes = if shape.bytes > MAX_SEEN.into() { shape.bytes } else { shape.bytes.min(record.bytes) };
        Ok(Shape { bytes, ..shape })
    }

    fn call(&mut self, id: u64, call: &mut CallExpr, depth: usize) -> Result<Shape, BadCondition> {
        if call.target.is_none() && !call.func_name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '.') {
            return self.operator(id, call, depth);
        }
        if call.func_name.starts_with('_') && call.func_name.ends_with(['_', ']']) && call.target.is_none() {
            return self.operator(id, call, depth);
        }
        let target = match &mut call.target {
            Some(target) => Some(self.visit(target, depth + 1)?),
            None => None,
        };
        let member = target.is_some();
        let known: &[&str] = if member { &MEMBERS } else { &GLOBALS };
        if !MEMBERS.contains(&call.func_name.as_str()) && !known.contains(&call.func_name.as_str()) {
            return Err(unknown(self.places.function(id, &call.func_name), &call.func_name, member, call.args.len()));
        }
        if call.func_name == "matches" {
            return self.matches(id, call, target);
        }
        let mut shapes: Vec<Shape> = target.iter().cloned().collect();
        for argument in &mut call.args {
            shapes.push(self.visit(argument, depth + 1)?);
        }
        let literal = call.args.first().and_then(|argument| literal_text(argument));
        self.function(id, &call.func_name, member, &shapes, literal)
    }

    /// A call of a function; a target is its first argument.
    fn function(
        &mut self,
        id: u64,
        name: &str,
        member: bool,
        shapes: &[Shape],
        literal: Option<&str>,
    ) -> Result<Shape, BadCondition> {
        let place = self.places.function(id, name);
        let unfit = |wants: &str| {
            let has: Vec<&str> = shapes.iter().map(Shape::words).collect();
            let message = format!("{} takes {wants}, not {}", quoted(name), has.join(" and "));
            Err(fault(place.clone(), message, None))
        };
        match (name, member, shapes) {
            ("size", _, [of]) => match of.solid() {
                Type::Text | Type::Lower | Type::Any => {
                    self.charge(id, of.bytes.min(MAX_SEEN.into()))?;
                    Ok(Shape::plain(Type::Int))
                }
                Type::Bytes | Type::List(_) => Ok(Shape::plain(Type::Int)),
                _ => unfit("text, bytes or a list"),
            },
            ("contains" | "startsWith" | "endsWith", true, [text, part]) => {
                if !text.is_text() || !part.is_text() {
                    return unfit("text");
                }
                self.capitals(id, text, literal)?;
                let both = text.bytes.saturating_add(part.bytes);
                self.charge(id, if name == "contains" { both } else { text.bytes.min(part.bytes) })?;
                Ok(Shape::plain(Type::Bool))
            }
            ("lowerAscii" | "upperAscii", true, [text]) => {
                if !text.is_text() {
                    return unfit("text");
                }
                self.charge(id, text.bytes)?;
                let of = if name == "lowerAscii" { Type::Lower } else { Type::Text };
                Ok(Shape { of, ..Shape::text(text.bytes) })
            }
            ("int" | "double", false, [of]) => match of.solid() {
                Type::Int | Type::Double | Type::Text | Type::Lower | Type::Any => {
                    self.charge(id, of.bytes)?;
                    Ok(Shape::plain(if name == "int" { Type::Int } else { Type::Double }))
                }
                _ => unfit("a number or text"),
            },
            ("string", false, [of]) => match of.solid() {
                Type::Int | Type::Double => Ok(Shape::text(330)),
                Type::Text | Type::Lower | Type::Bytes | Type::Any => {
                    let bytes = of.bytes.min(MAX_SEEN.into());
                    self.charge(id, bytes)?;
                    Ok(Shape::text(bytes))
                }
                _ => unfit("a number, text or bytes"),
            },
            _ => Err(unknown(place, name, member, shapes.len())),
        }
    }

    /// Refuses to compare text without capitals with a capital letter: that never holds.
    pub(crate) fn capitals(&self, id: u64, text: &Shape, literal: Option<&str>) -> Result<(), BadCondition> {
        match literal.filter(|literal| literal.contains(|c: char| c.is_ascii_uppercase())) {
            Some(literal) if matches!(text.of, Type::Lower) => {
                let lower = literal.to_ascii_lowercase();
                let message = format!("this text has no capitals, {} has", quoted(literal));
                Err(fault(self.places.token(id), message, Some(format!("write \"{}\"", lower.escape_debug()))))
            }
            _ => Ok(()),
        }
    }
}

fn of_literal(literal: &LiteralValue) -> Shape {
    match literal {
        LiteralValue::Boolean(_) => Shape::plain(Type::Bool),
        LiteralValue::Int(_) => Shape::plain(Type::Int),
        LiteralValue::UInt(_) => Shape::plain(Type::Uint),
        LiteralValue::Double(_) => Shape::plain(Type::Double),
        LiteralValue::Null => Shape::plain(Type::Null),
        LiteralValue::String(text) => Shape::text(u64::try_from(text.inner().len()).unwrap_or(u64::MAX)),
        LiteralValue::Bytes(bytes) => {
            Shape { of: Type::Bytes, ..Shape::text(u64::try_from(bytes.inner().len()).unwrap_or(u64::MAX)) }
        }
    }
}

/// The text of a literal.
pub(crate) fn literal_text(part: &IdedExpr) -> Option<&str> {
    match &part.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

const MEMBERS: [&str; 12] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "lowerAscii",
    "upperAscii",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
];
const GLOBALS: [&str; 4] = ["size", "int", "double", "string"];

/// A function that doesn't exist, or not so.
pub(crate) fn unknown(place: Range<usize>, name: &str, member: bool, arguments: usize) -> BadCondition {
    let how = match name {
        "size" => "size(x) or x.size()",
        "contains" | "startsWith" | "endsWith" => "text.FUNCTION(\"part\")",
        "matches" => "text.matches(\"pattern\")",
        "lowerAscii" | "upperAscii" => "text.FUNCTION()",
        "int" | "double" | "string" => "FUNCTION(x)",
        "all" | "exists" | "exists_one" | "map" | "filter" => "list.FUNCTION(item, expression about item)",
        _ => {
            let valid: &[&str] = if member { &MEMBERS } else { &GLOBALS };
            return fault(place, format!("unknown function {}", quoted(name)), Some(help(name, valid)));
        }
    };
    let count = arguments - usize::from(member && arguments > 0);
    let message = format!("{} is not used so, with {count} arguments", quoted(name));
    fault(place, message, Some(format!("write {}", how.replace("FUNCTION", name))))
}
