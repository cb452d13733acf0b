//! Which line of the policy file gives the answer: `parole policy explain`.

use serde::Serialize;

use crate::nearest::quoted;
use crate::{Definition, Denial, Facts, Grant, Permit, Resource, SecurityPolicy, Verdict, decide};

/// An answer of [`decide`] with the line that gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `"allow"`, `"ask"` or `"deny"`.
    pub verdict: &'static str,
    /// Why, for the operator: host paths may stand in it.
    pub reason: String,
    /// The line of the policy file that decides, counted from 1, when one does.
    pub line: Option<usize>,
    /// The form of the arguments that was decided on, where it is not what was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_on: Option<String>,
    /// All of it in one sentence.
    pub text: String,
}

impl Explanation {
    /// Says in which form something was decided on, if that is not how it was `typed`.
    #[must_use]
    pub fn of_form(mut self, form: &str, typed: &str) -> Explanation {
        if form != typed {
            self.text.push_str(&format!("; decided on {}", quoted(form)));
            self.decided_on = Some(form.to_owned());
        }
        self
    }
}

impl SecurityPolicy {
    /// What [`decide`] answers to this call, and which line of the policy file makes it so.
    pub fn explain(&self, capability: &Definition, facts: &dyn Facts) -> Explanation {
        let name = &*capability.name;
        let (verdict, reason, key) = match decide(self, 0, capability, facts) {
            Verdict::Ask(asked) => ("ask", format!("rule `{}` says ask", asked.rule), format!("rule:{}", asked.rule)),
            Verdict::Deny(denial) => {
                let (reason, key) = self.denied(capability, facts.resource(), denial);
                ("deny", reason, key)
            }
            Verdict::Allow(Permit { rule: Some(rule), .. }) => {
                ("allow", format!("rule `{rule}` says allow"), format!("rule:{rule}"))
            }
            Verdict::Allow(permit) => {
                let (reason, key) = self.allowed(capability, facts.resource(), &permit);
                ("allow", reason, key)
            }
        };
        let line = self.line(&key);
        let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        let text = format!("{verdict} {name}: {reason}{place}");
        Explanation { verdict, reason, line, decided_on: None, text }
    }

    /// Why a call is denied, and the key that makes it so.
    fn denied(&self, capability: &Definition, resource: Resource<'_>, denial: Denial) -> (String, String) {
        let name = &*capability.name;
        if !self.links(capability) {
            let reason = self.refusal(capability, false).map(|(reason, _)| reason).unwrap_or_default();
            return (reason, if self.block.contains(name) { format!("block.{name}") } else { "level".to_owned() });
        }
        if let Some(rule) = denial.rule {
            return (denial.remedy, format!("rule:{rule}"));
        }
        let key = match resource {
            _ if self.revoked.contains(name) => String::new(),
            Resource::Url { method: Some(_), url } => {
                let origins = self.grants.get(name).map_or(&[][..], |grant| &grant.origins);
                let reaches = origins.iter().any(|origin| origin.holds(url.url()));
                format!("grant.{name}.{}", if reaches { "methods" } else { "origins" })
            }
            Resource::Url { method: None, .. } => format!("grant.{name}.origins"),
            Resource::Name(_) => format!("grant.{name}.databases"),
            _ => format!("grant.{name}.dirs"),
        };
        (denial.reason, key)
    }

    /// Why a call is allowed that no rule allows, and the key that makes it so.
    fn allowed(&self, capability: &Definition, resource: Resource<'_>, permit: &Permit<'_>) -> (String, String) {
        let name = &*capability.name;
        let dir = permit.dir.zip(permit.grant).and_then(|(dir, grant): (usize, &Grant)| grant.dirs.get(dir));
        if let Some(dir) = dir {
            let reason = format!("{} is granted as `{}`", dir.host.display(), dir.guest);
            return (reason, format!("grant.{name}.dirs:{}", dir.guest));
        }
        if let Some(origin) = permit.origin.zip(permit.grant).and_then(|(origin, grant)| grant.origins.get(origin)) {
            let method = match resource {
                Resource::Url { method: Some(method), .. } => format!(" for {method}"),
                _ => String::new(),
            };
            return (format!("`{origin}` is granted{method}"), format!("grant.{name}.origins:{origin}"));
        }
        if let (Some(database), Resource::Name(asked)) = (permit.database, resource) {
            return (format!("{database} is granted as `{asked}`"), format!("grant.{name}.databases:{asked}"));
        }
        (format!("level `{}` links `{name}`, which needs no scope", self.level), "level".to_owned())
    }

    /// The line of a key, or of the table around it: no `dirs` key, then `[grant.NAME]`.
    fn line(&self, key: &str) -> Option<usize> {
        let around = match key.rsplit_once('.') {
            Some((around, _)) if key.starts_with("grant.") && !key.contains(':') => around,
            _ => key,
        };
        let lines = &self.source.lines;
        lines.get(key).or_else(|| lines.get(around)).copied()
    }
}
