//! Before the start: which imports a guest has, which of them the policy grants, and a
//! linker that holds those and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parole_capabilities::call::hosted::Hosted;
use parole_capabilities::call::untyped;
use parole_capabilities::{StoreData, by_name};
use parole_durable::Digest;
use parole_policy::{Catalogue, Definition, Function, Link, LinkDenial, MAX_FUNCTIONS, SecurityPolicy};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::error::Error;
use crate::report::{At, Denied, NAME_MAX, TEXT_MAX, cut};
use crate::surface::{Item, Kind, Member, Surface};

/// An import of a guest, and what the policy says of it.
#[derive(Clone, Debug)]
pub struct Import {
    /// Its name, as the guest has it.
    pub name: String,
    /// What the policy says.
    pub link: Link,
    /// Its functions, as WIT has them.
    pub functions: Vec<String>,
}

/// Every import of a component, in its order.
pub(crate) fn imports(surface: &Surface, policy: &SecurityPolicy, catalogue: &Catalogue) -> Vec<Import> {
    // A type has no authority; one that is named at the top comes with an interface.
    let items = surface.imports.iter().filter(|item| !matches!(item.kind, Kind::Type));
    let import = |item: &Item| {
        let link = match (policy.link(&item.name, catalogue), &item.kind) {
            (Link::Denied(denial), kind) if denial.capability.is_none() && kind.is_types_only() => Link::Types,
            (Link::Granted(own), Kind::Interface(members)) if own.is_users() => users(policy, own, &item.name, members),
            (Link::AllDenied(own), Kind::Interface(members)) if own.is_users() => all_denied(&own, &item.name, members),
            (link, _) => link,
        };
        Import { name: item.name.clone(), link, functions: item.kind.functions() }
    };
    items.map(import).collect()
}

/// Whether the functions that a guest imports of a capability are those that the policy defines.
fn users(policy: &SecurityPolicy, definition: Arc<Definition>, import: &str, members: &[Member]) -> Link {
    let mut faults = Vec::new();
    let mut blocked = None;
    for member in members {
        let name = cut(member.name.as_str(), NAME_MAX);
        let fault = match (definition.function(&name), &member.function) {
            (Some(own), Ok(theirs)) => {
                blocked = blocked.or(policy.blocks(own).then(|| Arc::clone(&own.name)));
                if same(own, theirs) {
                    continue;
                }
                differences(own, theirs)
            }
            (Some(_), Err(why)) => format!("`{name}` is {why} for the guest"),
            (None, Err(why)) => format!("the guest imports `{name}`, which is {why}"),
            (None, Ok(_)) => format!("the guest imports `{name}`, and the WIT of the policy has no such function"),
        };
        faults.push(fault);
    }
    let denied = |reason: String, remedy: String| {
        let capability = Some(definition.name.to_string());
        Link::Denied(LinkDenial { import: import.to_owned(), capability, reason, remedy: Some(remedy) })
    };
    if let Some(name) = blocked {
        let reason = format!("`{name}` is in the block list");
        return denied(reason, format!("remove `{name}` from `block` (or from --block)"));
    }
    if !faults.is_empty() {
        let reason = format!("its types are not those that the policy defines: {}", faults.join("; "));
        return denied(
            reason,
            "build the guest against the WIT of the policy, or give the policy that of the guest".into(),
        );
    }
    Link::Granted(definition)
}

fn same(own: &Function, theirs: &Function) -> bool {
    own.params == theirs.params && own.returns() == theirs.returns()
}

/// An interface that is none of Parole's, and of which each call is to be denied: its functions are those that the guest
/// imports, whatever a policy says they are.
fn all_denied(own: &Definition, import: &str, members: &[Member]) -> Link {
    let mut definition = Definition { functions: Vec::new(), effects: Vec::new(), ..own.clone() };
    for member in members {
        let name = cut(member.name.as_str(), NAME_MAX);
        match &member.function {
            Ok(_) if member.has_resource => return undeniable(import, &format!("`{name}` has a resource")),
            Ok(function) if definition.functions.len() < MAX_FUNCTIONS => {
                let name = format!("{}.{}", own.name, member.name).into();
                definition.functions.push(Function { name, ..function.clone() });
            }
            Ok(_) => return undeniable(import, &format!("it has over {MAX_FUNCTIONS} functions")),
            Err(why) => return undeniable(import, &format!("`{name}` is {why}")),
        }
    }
    Link::AllDenied(Arc::new(definition))
}

/// Nothing can be put in the place of an import.
fn undeniable(import: &str, why: &str) -> Link {
    let reason = format!("`link.denied` names it, but it cannot be linked so that its calls are denied: {why}");
    let (import, remedy) = (import.to_owned(), Some("build the guest without it".to_owned()));
    Link::Denied(LinkDenial { import, capability: None, reason, remedy })
}

/// How two functions of one name differ, type by type.
fn differences(own: &Function, theirs: &Function) -> String {
    let mut all = Vec::new();
    let names = |function: &Function| function.params.iter().map(|param| param.name.to_string()).collect::<Vec<_>>();
    if names(own) == names(theirs) {
        for (own, theirs) in own.params.iter().zip(&*theirs.params).filter(|(own, theirs)| own.of != theirs.of) {
            all.push(format!("parameter `{}` is {} for the guest, and {} in the policy", own.name, theirs.of, own.of));
        }
    } else {
        let list = |function: &Function| names(function).join(", ");
        all.push(format!("its parameters are ({}) for the guest, and ({}) in the policy", list(theirs), list(own)));
    }
    let result = |function: &Function| function.returns().map_or("nothing".to_owned(), |of| of.to_string());
    if own.returns() != theirs.returns() {
        all.push(format!("it returns {} for the guest, and {} in the policy", result(theirs), result(own)));
    }
    format!("`{}`: {}", own.wit, all.join(", "))
}

/// All refusals at once.
#[must_use]
pub fn refusals(imports: &[Import]) -> Vec<Denied> {
    imports
        .iter()
        .filter_map(|import| match &import.link {
            Link::Denied(denial) => Some(Denied {
                at: At::Link,
                import: Some(cut(import.name.as_str(), NAME_MAX)),
                capability: denial.capability.clone().unwrap_or_default(),
                argument: None,
                reason: cut(denial.reason.as_str(), TEXT_MAX),
                remedy: cut(denial.remedy.as_deref().unwrap_or_default(), TEXT_MAX),
            }),
            _ => None,
        })
        .collect()
}

/// The capabilities that a set of imports needs: by name, and of those that users define also the digest of what is
/// defined.
pub(crate) type Wanted = BTreeSet<(Arc<str>, Option<Digest>)>;

/// Which capabilities a set of imports needs.
pub(crate) fn wanted(imports: &[Import]) -> Wanted {
    linked(imports)
        .map(|(own, _)| {
            let digest = own.is_users().then(|| Digest::of(format!("{own:?}").as_bytes()));
            (Arc::clone(&own.name), digest)
        })
        .collect()
}

/// What is linked, and whether it is granted: otherwise each of its calls is denied.
fn linked(imports: &[Import]) -> impl Iterator<Item = (&Arc<Definition>, bool)> {
    imports.iter().filter_map(|import| match &import.link {
        Link::Granted(capability) => Some((capability, true)),
        Link::AllDenied(capability) => Some((capability, false)),
        _ => None,
    })
}

/// Links the wanted capabilities, and checks every type.
///
/// # Errors
/// An import has another type than the capability of that name.
pub(crate) fn link(
    engine: &Engine,
    component: &Component,
    imports: &[Import],
    hosted: &BTreeMap<Arc<str>, Hosted>,
) -> Result<InstancePre<StoreData>, Error> {
    let internal = |error: wasmtime::Error| Error::Internal(format!("{error:#}"));
    let mut linker = Linker::new(engine);
    linker.instance(parole_policy::TYPES_INTERFACE).map_err(internal)?;
    let wanted: BTreeMap<&str, (&Arc<Definition>, bool)> =
        linked(imports).map(|(own, granted)| (&*own.name, (own, granted))).collect();
    for (definition, granted) in wanted.into_values() {
        let mut instance = linker.instance(&definition.interface).map_err(internal)?;
        match (by_name(&definition.name), hosted.get(&definition.name).filter(|_| granted)) {
            (Some(entry), _) => (entry.link)(&mut instance),
            (None, Some(hosted)) => hosted.link(&mut instance),
            (None, None) => untyped::link(&mut instance, definition),
        }
        .map_err(internal)?;
    }
    linker.instantiate_pre(component).map_err(|error| Error::NotAGuest(cut(format!("{error:#}"), TEXT_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_short_however_long_the_names_are() {
        let policy = SecurityPolicy::new(parole_policy::Level::Unrestricted);
        for name in ["x".repeat(1 << 20), format!("acme:{}/b@1.0.0", "ä".repeat(1 << 19))] {
            let link = policy.link(&name, &parole_capabilities::CATALOGUE);
            let denied = refusals(&[Import { name, link, functions: Vec::new() }]);
            assert!(denied[0].import.as_ref().unwrap().len() <= NAME_MAX);
            assert!(serde_json::to_string(&denied).unwrap().len() < 3 * TEXT_MAX);
        }
    }
}
