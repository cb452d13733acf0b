//! Operators: which operands they take, and what they cost.

use cel::IdedExpr;
use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr};

use super::check::{Checker, STEP, fault, literal_text};
use super::shape::{Shape, Type};
use crate::BadCondition;

impl Checker<'_> {
    /// A call of an operator.
    pub(crate) fn operator(&mut self, id: u64, call: &mut CallExpr, depth: usize) -> Result<Shape, BadCondition> {
        let mut shapes = Vec::with_capacity(call.args.len());
        for argument in &mut call.args {
            shapes.push(self.visit(argument, depth + 1)?);
        }
        match (call.func_name.as_str(), shapes.as_slice(), call.args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [a, b], [left, right]) => {
                self.truth(left, a)?;
                self.truth(right, b)?;
                Ok(Shape::plain(Type::Bool))
            }
            (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [a], [only]) => {
                self.truth(only, a)?;
                Ok(Shape::plain(Type::Bool))
            }
            (op::CONDITIONAL, [condition, yes, no], [first, ..]) => {
                self.truth(first, condition)?;
                yes.or(no).ok_or_else(|| {
                    let message = format!("either {} or {}: both sides of `:` must be alike", yes.words(), no.words());
                    fault(self.places.token(id), message, None)
                })
            }
            (op::EQUALS | op::NOT_EQUALS, [a, b], [left, right]) => self.equality(id, (a, left), (b, right)),
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b], [left, right]) => {
                self.order(id, (a, left), (b, right))
            }
            (op::IN, [a, b], [left, right]) => self.membership(id, (a, left), (b, right)),
            (op::INDEX, [list, index], [_, at]) => match (list.solid(), index.solid()) {
                (Type::List(item), Type::Int | Type::Uint | Type::Any) => {
                    self.charge(id, list.bytes)?;
                    Ok(list.whole(item))
                }
                (Type::List(_), _) => {
                    let message = format!("a list is indexed by a whole number, not by {}", index.words());
                    Err(fault(self.places.token(at.id), message, None))
                }
                (Type::Record(_), _) => {
                    let help = literal_text(at).map(|name| format!("write .{}", name.escape_debug()));
                    Err(fault(self.places.token(id), "a record has fields, not an index", help))
                }
                _ => Err(fault(self.places.token(id), format!("{} has no index", list.words()), None)),
            },
            (op::NEGATE, [a], _) => match a.solid() {
                Type::Int | Type::Double | Type::Any => Ok(Shape { bytes: 0, ..a.clone() }),
                _ => Err(fault(self.places.token(id), format!("`-` takes a number, not {}", a.words()), None)),
            },
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b], _) => {
                self.arithmetic(id, &call.func_name, a, b)
            }
            _ => Err(fault(self.places.token(id), "this operator is not known in a condition", None)),
        }
    }

    fn truth(&self, part: &IdedExpr, shape: &Shape) -> Result<(), BadCondition> {
        if shape.is_bool() {
            return Ok(());
        }
        let message = format!("this must be true or false; it is {}", shape.words());
        Err(fault(self.places.token(part.id), message, None))
    }

    fn equality(
        &mut self,
        id: u64,
        (a, left): (&Shape, &IdedExpr),
        (b, right): (&Shape, &IdedExpr),
    ) -> Result<Shape, BadCondition> {
        if !a.comparable(b) {
            let message = match (&a.of, &b.of) {
                (Type::Null, _) => format!("{} is never null", b.words()),
                (_, Type::Null) => format!("{} is never null", a.words()),
                _ => format!("{} is never equal to {}", a.words(), b.words()),
            };
            return Err(fault(self.places.token(id), message, None));
        }
        self.capitals(right.id, a, literal_text(right))?;
        self.capitals(left.id, b, literal_text(left))?;
        self.charge(id, a.bytes.min(b.bytes).saturating_add(a.items.min(b.items).saturating_mul(STEP)))?;
        Ok(Shape::plain(Type::Bool))
    }

    fn order(
        &mut self,
        id: u64,
        (a, left): (&Shape, &IdedExpr),
        (b, right): (&Shape, &IdedExpr),
    ) -> Result<Shape, BadCondition> {
        let ordered = |shape: &Shape| {
            !matches!(shape.solid(), Type::List(_) | Type::Record(_) | Type::Null | Type::Bytes | Type::Never)
        };
        if !ordered(a) || !ordered(b) || !a.comparable(b) {
            let message = format!("{} is neither less nor more than {}", a.words(), b.words());
            return Err(fault(self.places.token(id), message, None));
        }
        self.capitals(right.id, a, literal_text(right))?;
        self.capitals(left.id, b, literal_text(left))?;
        self.charge(id, a.bytes.min(b.bytes))?;
        Ok(Shape::plain(Type::Bool))
    }

    fn membership(
        &mut self,
        id: u64,
        (item, _): (&Shape, &IdedExpr),
        (list, right): (&Shape, &IdedExpr),
    ) -> Result<Shape, BadCondition> {
        let Type::List(of) = list.solid() else {
            let help = list.is_text().then(|| "for text: text.contains(\"part\")".to_owned());
            return Err(fault(self.places.token(id), format!("`in` takes a list, not {}", list.words()), help));
        };
        if !item.comparable(of) {
            let message = format!("{} is in no such list of {}", item.words(), of.words());
            return Err(fault(self.places.token(id), message, None));
        }
        if let Expr::List(literal) = &right.expr {
            for element in &literal.elements {
                self.capitals(element.id, item, literal_text(element))?;
            }
        }
        let bytes = list.bytes.min(list.items.saturating_mul(item.bytes));
        self.charge(id, bytes.saturating_add(list.items.saturating_mul(STEP)))?;
        Ok(Shape::plain(Type::Bool))
    }

    fn arithmetic(&mut self, id: u64, name: &str, a: &Shape, b: &Shape) -> Result<Shape, BadCondition> {
        let joins = name == op::ADD;
        let bytes = a.bytes.saturating_add(b.bytes);
        let whole = name == op::MODULO;
        match (a.solid(), b.solid()) {
            (Type::Int, Type::Int) => Ok(Shape::plain(Type::Int)),
            (Type::Uint, Type::Uint) => Ok(Shape::plain(Type::Uint)),
            (Type::Double, Type::Double) if !whole => Ok(Shape::plain(Type::Double)),
            (Type::Text | Type::Lower, Type::Text | Type::Lower) if joins => {
                self.charge(id, bytes)?;
                Ok(Shape::text(bytes))
            }
            (Type::List(first), Type::List(second)) if joins => {
                let items = a.items.saturating_add(b.items);
                self.charge(id, bytes.saturating_add(items.saturating_mul(STEP)))?;
                let item = first.or(second).unwrap_or(Shape { of: Type::Any, bytes, items: 0 });
                Ok(Shape::list(Shape { bytes, ..item }, items, bytes))
            }
            (Type::Any, Type::Any | Type::Int | Type::Uint | Type::Double | Type::Text | Type::Lower)
            | (Type::Int | Type::Uint | Type::Double | Type::Text | Type::Lower, Type::Any) => {
                self.charge(id, bytes)?;
                Ok(Shape { of: Type::Any, ..Shape::text(bytes) })
            }
            _ => {
                let sign = name.trim_matches('_');
                let message = format!("`{sign}` does not take {} and {}", a.words(), b.words());
                Err(fault(self.places.token(id), message, None))
            }
        }
    }
}
