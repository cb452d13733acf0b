//! Where in its source a part of an expression stands.

use std::ops::Range;

use cel::ParseErrors;
use cel::common::ast::SourceInfo;

use crate::{BadCondition, MAX_DEPTH};

/// The places of the nodes of an expression.
pub(crate) struct Places<'s> {
    source: &'s str,
    info: &'s SourceInfo,
}

impl<'s> Places<'s> {
    pub(crate) fn new(source: &'s str, info: &'s SourceInfo) -> Self {
        Places { source, info }
    }

    pub(crate) fn whole(&self) -> Range<usize> {
        0..self.source.len()
    }

    /// The bytes of the token that a node starts from: a name, a literal, an operator, the `(` of a call.
    pub(crate) fn token(&self, id: u64) -> Range<usize> {
        match self.info.offset_for(id) {
            Some((start, stop)) => byte(self.source, start)..byte(self.source, stop.saturating_add(1)),
            None => 0..self.source.len(),
        }
    }

    /// The name before the `(` of a call.
    pub(crate) fn function(&self, id: u64, name: &str) -> Range<usize> {
        let token = self.token(id);
        let before = self.source.get(..token.start).unwrap_or_default().trim_end();
        if before.ends_with(name) { before.len() - name.len()..before.len() } else { token }
    }

    /// The name after the `.` of a selection.
    pub(crate) fn field(&self, id: u64, name: &str) -> Range<usize> {
        let token = self.token(id);
        let after = self.source.get(token.end..).unwrap_or_default();
        let start = token.end + after.len() - after.trim_start().len();
        if self.source.get(start..).is_some_and(|rest| rest.starts_with(name)) {
            start..start + name.len()
        } else {
            token
        }
    }
}

/// A byte that the parser names, as one at which a character starts.
fn byte(source: &str, named: u32) -> usize {
    let at = usize::try_from(named).unwrap_or(usize::MAX).min(source.len());
    (at..source.len()).find(|at| source.is_char_boundary(*at)).unwrap_or(source.len())
}

/// The first error of the parser.
pub(crate) fn of_parser(source: &str, errors: &ParseErrors) -> BadCondition {
    let Some(first) = errors.errors.first() else {
        return BadCondition { message: "the expression cannot be read".to_owned(), at: 0..source.len(), help: None };
    };
    if first.msg.contains("ecursion limit") {
        let message = format!("an expression is {MAX_DEPTH} levels deep at most");
        return BadCondition { message, at: 0..source.len(), help: None };
    }
    let (line, column) = first.pos;
    let skip = usize::try_from(line.saturating_sub(1)).unwrap_or(0);
    let start: usize = source.split_inclusive('\n').take(skip).map(str::len).sum();
    let rest = source.get(start..).unwrap_or_default();
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    let at = rest.char_indices().nth(column).map_or(source.len(), |(byte, _)| start + byte);
    // The parser names every token that could have stood there: the first half says what is wrong.
    let message = first.msg.split(" expecting ").next().unwrap_or_default();
    let message = crate::nearest::quoted(message.trim_start_matches("Syntax error: "));
    let message = message.strip_prefix('`').and_then(|text| text.strip_suffix('`')).unwrap_or(&message);
    BadCondition { message: format!("not an expression: {message}"), at: at..at, help: None }
}
