//! Before the start: which imports a guest has, which of them the policy grants, and a
//! linker that holds those and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parole_capabilities::call::{component_types, untyped};
use parole_capabilities::{CATALOGUE, StoreData, by_name};
use parole_durable::Digest;
use parole_policy::{Definition, Function, Link, LinkDenial, MAX_FUNCTIONS, SecurityPolicy};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, InstancePre, Linker};

use crate::error::Error;
use crate::report::{At, Denied, NAME_MAX, TEXT_MAX, cut};

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
#[must_use]
pub fn imports(engine: &Engine, component: &Component, policy: &SecurityPolicy) -> Vec<Import> {
    let component_type = component.component_type();
    component_type
        .imports(engine)
        // A type has no authority; one that is named at the top comes with an interface.
        .filter(|(_, import)| !matches!(import.ty, ComponentItem::Type(_)))
        .map(|(name, import)| {
            let link = match (policy.link(name, &CATALOGUE), &import.ty) {
                (Link::Denied(denial), item) if denial.capability.is_none() && is_types_only(engine, item) => {
                    Link::Types
                }
                (Link::Granted(own), ComponentItem::ComponentInstance(instance)) if own.is_users() => {
                    users(engine, policy, own, name, instance)
                }
                (Link::AllDenied(own), ComponentItem::ComponentInstance(instance)) if own.functions.is_empty() => {
                    undefined(engine, &own, name, instance)
                }
                (link, _) => link,
            };
            Import { name: name.into(), link, functions: functions(engine, name, &import.ty) }
        })
        .collect()
}

/// The functions of an import or an export, as WIT has them: of an interface all of them.
pub(crate) fn functions(engine: &Engine, name: &str, item: &ComponentItem) -> Vec<String> {
    match item {
        ComponentItem::ComponentFunc(func) => {
            let name = name.rsplit_once(']').map_or(name, |(_, name)| name);
            let text = component_types::function(name, name, func)
                .map_or_else(|why| format!("{}: func ({why})", cut(name, NAME_MAX)), |function| function.to_string());
            vec![cut(text, TEXT_MAX)]
        }
        ComponentItem::ComponentInstance(instance) => {
            let all = instance.exports(engine).take(MAX_FUNCTIONS);
            all.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                .flat_map(|(name, item)| functions(engine, name, &item.ty))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Whether an import has no functions and no resources, none through `use` either: then it carries no authority.
fn is_types_only(engine: &Engine, item: &ComponentItem) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        }
        _ => false,
    }
}

/// Whether the functions that a guest imports of a capability are those that the policy defines.
fn users(
    engine: &Engine,
    policy: &SecurityPolicy,
    definition: Arc<Definition>,
    import: &str,
    instance: &ComponentInstance,
) -> Link {
    let mut faults = Vec::new();
    let mut blocked = None;
    for (name, item) in instance.exports(engine) {
        let name = cut(name, NAME_MAX);
        let fault = match (definition.function(&name), &item.ty) {
            (_, ComponentItem::Type(_)) => continue,
            (_, ComponentItem::Resource(_)) => format!("the guest has the resource `{name}`"),
            (Some(own), ComponentItem::ComponentFunc(func)) => {
                blocked = blocked.or(policy.blocks(own).then(|| Arc::clone(&own.name)));
                match component_types::function(&own.wit, &own.name, func) {
                    Ok(theirs) if theirs == *own => continue,
                    Ok(theirs) => differences(own, &theirs),
                    Err(why) => format!("`{name}`: {why}"),
                }
            }
            _ => format!("the guest imports `{name}`, and the WIT of the policy has no such function"),
        };
        faults.push(fault);
    }
    let denied = |reason: String, remedy: String| {
        let capability = Some(definition.name.to_string());
        Link::Denied(LinkDenial { import: import.to_owned(), capability, reason, remedy: Some(remedy) })
    };
    if let Some(name) = blocked {
        return denied(
            format!("`{name}` is in the block list"),
            format!("remove `{name}` from `block` (or from --block)"),
        );
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

/// An interface that nobody defines, and of which each call is to be denied: its functions are those that the guest
/// imports.
fn undefined(engine: &Engine, own: &Definition, import: &str, instance: &ComponentInstance) -> Link {
    let mut definition = own.clone();
    for (name, item) in instance.exports(engine) {
        let function = match &item.ty {
            ComponentItem::Type(_) => continue,
            ComponentItem::ComponentFunc(func) => {
                component_types::function(name, &format!("{}.{name}", own.name), func)
            }
            _ => Err("it is no function".to_owned()),
        };
        match function {
            Ok(function) if definition.functions.len() < MAX_FUNCTIONS => definition.functions.push(function),
            Ok(_) => return undeniable(import, &format!("it has over {MAX_FUNCTIONS} functions")),
            Err(why) => return undeniable(import, &format!("`{}`: {why}", cut(name, NAME_MAX))),
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
        .map(|own| {
            let digest = own.is_users().then(|| Digest::of(format!("{own:?}").as_bytes()));
            (Arc::clone(&own.name), digest)
        })
        .collect()
}

fn linked(imports: &[Import]) -> impl Iterator<Item = &Arc<Definition>> {
    imports.iter().filter_map(|import| match &import.link {
        Link::Granted(capability) | Link::AllDenied(capability) => Some(capability),
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
) -> Result<InstancePre<StoreData>, Error> {
    let internal = |error: wasmtime::Error| Error::Internal(format!("{error:#}"));
    let mut linker = Linker::new(engine);
    linker.instance(parole_policy::TYPES_INTERFACE).map_err(internal)?;
    let wanted: BTreeMap<&str, &Arc<Definition>> = linked(imports).map(|own| (&*own.name, own)).collect();
    for definition in wanted.into_values() {
        let mut instance = linker.instance(&definition.interface).map_err(internal)?;
        match by_name(&definition.name) {
            Some(entry) => (entry.link)(&mut instance),
            None => untyped::link(&mut instance, definition),
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
            let link = policy.link(&name, &CATALOGUE);
            let denied = refusals(&[Import { name, link, functions: Vec::new() }]);
            assert!(denied[0].import.as_ref().unwrap().len() <= NAME_MAX);
            assert!(serde_json::to_string(&denied).unwrap().len() < 3 * TEXT_MAX);
        }
    }
}
