//! Text that what a rule sees never has: a path with a detour in it, which no call comes with.
//!
//! It is an error of a policy file, and none of a policy that was pinned before it was one.

use cel::IdedExpr;
use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr};

use super::check::{Checker, fault, literal_text};
use crate::{BadCondition, guest_path, percent};

/// What has one form.
#[derive(Copy, Clone)]
enum Path {
    File,
    Url,
}

/// How it is compared with a text.
#[derive(Copy, Clone, PartialEq)]
enum How {
    Equal,
    NotEqual,
    Starts,
    Ends,
    Contains,
}

impl Checker<'_> {
    /// Notes a comparison that never holds: the first one is told.
    pub(crate) fn never_holds(&mut self, call: &CallExpr) {
        if self.never.is_some() {
            return;
        }
        self.never = match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (op::EQUALS | op::NOT_EQUALS, None, [left, right]) => {
                let how = if call.func_name == op::EQUALS { How::Equal } else { How::NotEqual };
                self.odd(left, how, right).or_else(|| self.odd(right, how, left))
            }
            (op::IN, None, [item, list]) => match &list.expr {
                Expr::List(list) => list.elements.iter().find_map(|element| self.odd(item, How::Equal, element)),
                _ => None,
            },
            ("startsWith", Some(target), [part]) => self.odd(target, How::Starts, part),
            ("endsWith", Some(target), [part]) => self.odd(target, How::Ends, part),
            ("contains", Some(target), [part]) => self.odd(target, How::Contains, part),
            _ => None,
        };
    }

    fn odd(&self, seen: &IdedExpr, how: How, with: &IdedExpr) -> Option<BadCondition> {
        let (path, text) = (self.path(seen)?, literal_text(with)?);
        if path.may(how, text) {
            return None;
        }
        let form = match path {
            Path::File => "a path has no `.`, `..` or empty component here, and starts with `/`",
            Path::Url => "a path has no `.`, `..`, empty segment, `;` or needless escape here, and starts with `/`",
        };
        let plain = match (path, how) {
            (Path::File, How::Equal | How::NotEqual | How::Starts) => guest_path::GuestPath::read(text).ok(),
            _ => None,
        };
        let holds = if how == How::NotEqual { "always" } else { "never" };
        let help = plain.filter(|plain| plain.as_str() != text);
        let help = help.map(|plain| format!("write \"{}\"", plain.as_str().escape_debug()));
        Some(fault(self.places.token(with.id), format!("this {holds} holds: {form}"), help))
    }

    fn path(&self, part: &IdedExpr) -> Option<Path> {
        let argument = |name: &str| {
            self.arguments.iter().any(|(own, _)| **own == *name) && !self.scopes.iter().any(|(own, _)| own == name)
        };
        match &part.expr {
            Expr::Ident(name) if name == "path" && argument(name) => Some(Path::File),
            Expr::Select(select) if select.field == "path" => match &select.operand.expr {
                Expr::Ident(name) if name == "target" && argument(name) => Some(Path::Url),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Path {
    /// Whether any path is so.
    fn may(self, how: How, text: &str) -> bool {
        let from_start = matches!(how, How::Equal | How::NotEqual | How::Starts);
        let odd = ["//", "/./", "/../"].iter().any(|odd| text.contains(odd));
        if odd || (from_start && !text.is_empty() && !text.starts_with('/')) {
            return false;
        }
        match (self, how) {
            (Path::File, How::Equal) => guest_path::is_plain_file(text),
            (Path::File, How::Ends) => !["/", "/.", "/.."].iter().any(|end| text.ends_with(end)),
            (Path::Url, How::Equal) => percent::path(text).is_ok_and(|path| path == text) && !text.is_empty(),
            (Path::Url, _) => percent::may_be_in_path(text),
            (Path::File, _) => true,
        }
    }
}
