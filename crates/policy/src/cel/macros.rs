//! What `all`, `exists`, `exists_one`, `map` and `filter` expand to.

use cel::common::ast::{ComprehensionExpr, Expr};

use super::check::{Checker, STEP, fault};
use super::shape::{Shape, Type};
use crate::{BadCondition, MAX_NESTING};

impl Checker<'_> {
    /// A macro: a loop over a list, with what was found so far in a variable that no expression can name.
    pub(crate) fn comprehension(
        &mut self,
        id: u64,
        parts: &mut ComprehensionExpr,
        depth: usize,
    ) -> Result<Shape, BadCondition> {
        let place = self.places.token(id);
        let list = self.visit(&mut parts.iter_range, depth + 1)?;
        let Type::List(item) = list.solid() else {
            return Err(fault(place, format!("a list can be gone through, {} cannot", list.words()), None));
        };
        if parts.iter_var2.is_some() {
            return Err(fault(place, "a macro with two variables is not known here", None));
        }
        if self.nesting >= MAX_NESTING {
            let message = format!("macros stand {MAX_NESTING} deep in one another at most");
            return Err(fault(place, message, None));
        }
        let part = list.part(item);
        let mut found = self.visit(&mut parts.accu_init, depth + 1)?;
        let builds = matches!(found.of, Type::List(_));
        let (times, scopes) = (self.times, self.scopes.len());
        self.times = times.saturating_mul(list.items.max(1));
        self.nesting += 1;
        // The variables of each round are made anew.
        self.charge(id, STEP.saturating_mul(2).saturating_add(part.bytes))?;
        self.scopes.push((parts.accu_var.clone(), found.clone()));
        self.scopes.push((parts.iter_var.clone(), part));
        self.visit(&mut parts.loop_cond, depth + 1)?;
        let step = self.visit(&mut parts.loop_step, depth + 1)?;
        self.nesting -= 1;
        self.times = times;
        if builds {
            found = grown(&step, list.items.max(1));
        } else if !found.comparable(&step) {
            return Err(fault(place, "what is said of an item must be true or false", None));
        }
        self.scopes.truncate(scopes + 1);
        if let Some((_, accumulated)) = self.scopes.last_mut() {
            *accumulated = found;
        }
        let result = self.visit(&mut parts.result, depth + 1)?;
        self.scopes.truncate(scopes);
        // The result is copied when it is handed on.
        self.charge(id, result.bytes.saturating_add(result.items.saturating_mul(STEP)))?;
        match (&result.of, &parts.accu_init.expr) {
            (Type::List(inner), Expr::List(_)) if matches!(inner.of, Type::List(_)) => {
                Err(fault(place, "a list of lists is not known here", None))
            }
            _ => Ok(result),
        }
    }
}

/// A list that grew by one item in each round.
fn grown(step: &Shape, rounds: u64) -> Shape {
    let item = match &step.of {
        Type::List(item) => (**item).clone(),
        _ => Shape::plain(Type::Any),
    };
    let bytes = step.bytes.saturating_mul(rounds);
    Shape::list(Shape { bytes, ..item }, rounds, bytes)
}
