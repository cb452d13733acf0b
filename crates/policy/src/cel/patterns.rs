//! `matches`: patterns are compiled, and what they may cost is known, when a policy is read.

use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr};
use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind};

use super::check::{Checker, STEP, fault, literal_text, unknown};
use super::functions::{PATTERN, Pattern};
use super::shape::{Shape, Type};
use crate::BadCondition;

/// What a byte that is looked at costs for each place in a pattern. However text and pattern are made, no more
/// places than there are can be tried at each byte.
const PLACE: u64 = 16;
/// The most places of a pattern: `[ab]{3}c` has four.
const MAX_PLACES: u64 = 2_000;
/// The greatest pattern, in bytes as it is compiled.
const MAX_PATTERN: usize = 512 << 10;
/// How deep brackets may stand in one another.
const MAX_BRACKETS: u32 = 32;
/// The most patterns of one expression.
const MAX_PATTERNS: usize = 16;

/// A pattern with what a byte costs that it is looked for in.
struct Priced {
    regex: Regex,
    byte: u64,
}

impl Checker<'_> {
    /// `text.matches("pattern")`.
    pub(crate) fn matches(
        &mut self,
        id: u64,
        call: &mut CallExpr,
        target: Option<Shape>,
    ) -> Result<Shape, BadCondition> {
        let place = self.places.function(id, "matches");
        let (Some(text), [argument]) = (target, call.args.as_mut_slice()) else {
            return Err(unknown(place, "matches", false, call.args.len()));
        };
        if !text.is_text() {
            return Err(fault(place, format!("`matches` takes text, not {}", text.words()), None));
        }
        let at = self.places.token(argument.id);
        let Some(pattern) = literal_text(argument) else {
            return Err(fault(at, "the pattern of `matches` is text in quotes", None));
        };
        let compiled = compiled(pattern).map_err(|message| fault(at.clone(), message, None))?;
        if self.patterns.len() >= MAX_PATTERNS {
            return Err(fault(at, format!("an expression has {MAX_PATTERNS} patterns at most"), None));
        }
        self.charge(id, text.bytes.saturating_mul(compiled.byte).saturating_add(STEP * 4))?;
        argument.expr = Expr::Ident(format!("{PATTERN}{}", self.patterns.len()));
        self.patterns.push(Pattern(Arc::new(compiled.regex)));
        Ok(Shape::plain(Type::Bool))
    }
}

/// Compiles a pattern, or says what is wrong with it.
fn compiled(pattern: &str) -> Result<Priced, String> {
    let parsed = ParserBuilder::new().nest_limit(MAX_BRACKETS).build().parse(pattern);
    let places = match parsed {
        Ok(parsed) => places(&parsed),
        Err(regex_syntax::Error::Parse(error)) => return Err(format!("not a pattern: {}", error.kind())),
        Err(regex_syntax::Error::Translate(error)) => return Err(format!("not a pattern: {}", error.kind())),
        Err(_) => return Err("not a pattern".to_owned()),
    };
    if places > MAX_PLACES {
        return Err("this pattern is too large".to_owned());
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).nest_limit(MAX_BRACKETS);
    let regex = builder.build().map_err(|_| "this pattern is too large".to_owned())?;
    Ok(Priced { regex, byte: places.saturating_add(1).saturating_mul(PLACE) })
}

/// How many places a pattern has that a character can be at.
fn places(part: &Hir) -> u64 {
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => u64::try_from(literal.0.len()).unwrap_or(u64::MAX),
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.max(1));
            places(&repetition.sub).saturating_mul(times.into())
        }
        HirKind::Capture(capture) => places(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(0, |sum, part| sum.saturating_add(places(part)))
        }
    }
}
