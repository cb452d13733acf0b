//! Which line of the policy file gives the answer: `parole policy explain`.

use serde::Serialize;

use crate::{Arguments, Capability, SecurityPolicy, Verdict, decide};

/// An answer of [`decide`] with the line that gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `"allow"` or `"deny"`.
    pub verdict: &'static str,
    /// Why, for the operator: host paths may stand in it.
    pub reason: String,
    /// The line of the policy file that decides, counted from 1, when one does.
    pub line: Option<usize>,
    /// All of it in one sentence.
    pub text: String,
}

impl SecurityPolicy {
    /// What [`decide`] answers to this call, and which line of the policy file makes it so.
    pub fn explain(&self, capability: &Capability, arguments: &Arguments<'_>) -> Explanation {
        let name = capability.name;
        let (verdict, reason, key) = match decide(self, 0, capability, arguments) {
            Verdict::Deny(_) if !self.links(capability) => {
                let reason = self.refusal(capability, false).map(|(reason, _)| reason).unwrap_or_default();
                let key = if self.block.contains(name) { format!("block.{name}") } else { "level".to_owned() };
                ("deny", reason, key)
            }
            Verdict::Deny(denial) => ("deny", denial.reason, format!("grant.{name}.dirs")),
            Verdict::Allow(permit) => match permit.dir.and_then(|dir| permit.grant?.dirs.get(dir)) {
                Some(dir) => {
                    let reason = format!("{} is granted as `{}`", dir.host.display(), dir.guest);
                    ("allow", reason, format!("grant.{name}.dirs:{}", dir.guest))
                }
                None => {
                    let reason = format!("level `{}` links `{name}`, which needs no scope", self.level);
                    ("allow", reason, "level".to_owned())
                }
            },
        };
        let line = self.line(&key);
        let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        let text = format!("{verdict} {name}: {reason}{place}");
        Explanation { verdict, reason, line, text }
    }

    /// The line of a key, or of the table around it: no `dirs` key, then `[grant.NAME]`.
    fn line(&self, key: &str) -> Option<usize> {
        let around = key.strip_suffix(".dirs").unwrap_or(key);
        let lines = &self.source.lines;
        lines.get(key).or_else(|| lines.get(around)).copied()
    }
}
