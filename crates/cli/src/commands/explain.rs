//! `parole policy explain`: what a policy says to a call that nobody makes.

use std::path::Path;

use parole_policy::{Definition, Denial, Explanation, Mistyped, ScopeKind, SecurityPolicy, Typed};
use parole_runtime::CATALOGUE;

use crate::fail::{Failure, Result};
use crate::{output, policy_flags};

/// What each capability is called with.
pub fn arguments() -> String {
    let usage = |has_scope: bool| {
        let own = CATALOGUE.iter().filter(move |own| own.has_scope() == has_scope);
        own.map(|own| format!("  {}\n", own.usage())).collect::<String>()
    };
    format!("Arguments, as a guest would pass them:\n{}{}{HINTS}", usage(true), usage(false))
}

const HINTS: &str = "\
BYTES: how many; a parameter of a statement is a number, null, or text. Capabilities without a scope
may be asked about without arguments, where no rule looks at them.

Examples:
  parole policy explain tool.toml fetch POST https://api.example.com/reports '{\"a\": 1}'
  parole policy explain tool.toml write_file /out/report.txt 2000
  parole policy explain tool.toml query sales 'DELETE FROM orders WHERE id = ?' 42 --json";

pub fn run(file: &Path, name: &str, given: &[String], json: bool) -> Result<u8> {
    let policy = policy_flags::read(file)?;
    let catalogue = policy.catalogue(&CATALOGUE);
    let Some((capability, function)) = catalogue.named(name) else {
        return Err(Failure::usage(format!("there is no capability `{name}`")));
    };
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let explanation = explain(&policy, (capability, function), &given)?;
    if json {
        output::json(&explanation);
    } else {
        output::out(&explanation.text);
    }
    Ok(0)
}

fn explain(
    policy: &SecurityPolicy,
    (capability, function): (&Definition, Option<&str>),
    given: &[&str],
) -> Result<Explanation> {
    match Typed::read(capability, function, given, policy.looks(capability)) {
        Err(Mistyped::Usage(what)) => Err(Failure::usage(what)),
        Err(Mistyped::Formless(denial)) => Ok(refused(capability, &denial)),
        Ok(call) => {
            let explanation = policy.explain(capability, &call);
            Ok(match call.form().filter(|_| capability.scope != ScopeKind::Name) {
                Some((form, typed)) => explanation.of_form(form, typed),
                None => explanation,
            })
        }
    }
}

/// What has no form, such as a URL that is no URL, is refused before the policy is asked.
fn refused(capability: &Definition, denial: &Denial) -> Explanation {
    let text = format!("deny {}: {}", capability.name, denial.reason);
    Explanation { verdict: "deny", reason: denial.reason.clone(), line: None, decided_on: None, text }
}
