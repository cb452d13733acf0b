//! Before the start: which imports a guest has, which of them the policy grants, and a
//! linker that holds those and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use parole_capabilities::{ALL, CATALOGUE, StoreData};
use parole_policy::{Link, SecurityPolicy};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
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
}

/// Every import of a component, in its order.
#[must_use]
pub fn imports(engine: &Engine, component: &Component, policy: &SecurityPolicy) -> Vec<Import> {
    let component_type = component.component_type();
    component_type
        .imports(engine)
        // A type has no authority; one that is named at the top comes with an interface.
        .filter(|(_, import)| !matches!(import.ty, ComponentItem::Type(_)))
        .map(|(name, _)| Import { name: name.into(), link: policy.link(name, &CATALOGUE) })
        .collect()
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

/// The names of the capabilities that a set of imports needs.
pub(crate) type Wanted = BTreeSet<Arc<str>>;

/// Which capabilities a set of imports needs.
pub(crate) fn wanted(imports: &[Import]) -> Wanted {
    let granted = |import: &Import| match &import.link {
        Link::Granted(capability) => Some(Arc::clone(&capability.name)),
        _ => None,
    };
    imports.iter().filter_map(granted).collect()
}

/// Links the wanted capabilities, and checks every type.
///
/// # Errors
/// An import has another type than the capability of that name.
pub(crate) fn link(engine: &Engine, component: &Component, wanted: &Wanted) -> Result<InstancePre<StoreData>, Error> {
    let internal = |error: wasmtime::Error| Error::Internal(format!("{error:#}"));
    let mut linker = Linker::new(engine);
    linker.instance(parole_policy::TYPES_INTERFACE).map_err(internal)?;
    for entry in ALL.iter().filter(|entry| wanted.contains(&entry.definition.name)) {
        let mut instance = linker.instance(&entry.definition.interface).map_err(internal)?;
        (entry.link)(&mut instance).map_err(internal)?;
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
            let denied = refusals(&[Import { name, link }]);
            assert!(denied[0].import.as_ref().unwrap().len() <= NAME_MAX);
            assert!(serde_json::to_string(&denied).unwrap().len() < 3 * TEXT_MAX);
        }
    }
}
