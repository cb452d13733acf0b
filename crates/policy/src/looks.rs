//! What the rules of a policy look at, as far as it can be told without evaluating them.

use crate::{Definition, ScopeKind, SecurityPolicy, Then};

/// The parts of a call whose meaning depends on who reads them later. What looks at one of them is shown a form in
/// which one thing has one spelling, and that form is what is acted on; where nothing looks, the guest's own
/// spelling is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// The path: of a file, or of a URL.
    pub path: bool,
    /// The query of a URL.
    pub query: bool,
    /// The headers of a request.
    pub headers: bool,
    /// The method of a request.
    pub method: bool,
}

impl Looks {
    /// Every part: what a check in Rust may look at.
    pub const ALL: Looks = Looks { path: true, query: true, headers: true, method: true };

    /// What either looks at.
    #[must_use]
    pub const fn and(self, other: Looks) -> Looks {
        Looks {
            path: self.path || other.path,
            query: self.query || other.query,
            headers: self.headers || other.headers,
            method: self.method || other.method,
        }
    }

    /// What both look at.
    #[must_use]
    pub const fn both(self, other: Looks) -> Looks {
        Looks {
            path: self.path && other.path,
            query: self.query && other.query,
            headers: self.headers && other.headers,
            method: self.method && other.method,
        }
    }

    /// Whether `other` looks at nothing else.
    pub const fn covers(self, other: Looks) -> bool {
        (self.path || !other.path)
            && (self.query || !other.query)
            && (self.headers || !other.headers)
            && (self.method || !other.method)
    }
}

impl SecurityPolicy {
    /// What the rules of a capability look at. A person who is asked about a file looks at its name.
    pub fn looks(&self, capability: &Definition) -> Looks {
        let file = capability.scope == ScopeKind::Path;
        let rules = self.rules_of(&capability.name).map(|rule| {
            let looks = rule.when.as_ref().map_or(Looks::default(), |when| when.looks());
            Looks { path: looks.path || (file && rule.then == Then::Ask), ..looks }
        });
        rules.fold(Looks::default(), Looks::and)
    }
}
