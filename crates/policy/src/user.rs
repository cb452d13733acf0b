//! Capabilities that a policy defines: an interface from WIT, and who answers its calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{Definition, GrantKey, Kind, Level, Timeout, name, wit};

/// The most capabilities that a policy defines.
pub const MAX_DEFINED: usize = 64;
/// The longest name of an interface that users define, in bytes.
pub const MAX_INTERFACE: usize = 256;
/// When the promises of a capability that users define expire, if nothing says so.
pub const WORK_TIMEOUT: Timeout = Timeout::After(7 * 24 * 60 * 60 * 1000);

/// Reads the WIT of a capability: the text of the file. The error says why not.
pub type ReadWit<'r> = dyn Fn(&Path) -> Result<String, String> + 'r;

/// A capability that a policy defines: `[capability."acme:crm/customers@1.0.0"]`.
///
/// Its name is its interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserCapability {
    /// WIT text that has the interface.
    pub wit: String,
    /// The lowest level that links it.
    pub level: Level,
    /// Who answers.
    pub via: Via,
    /// When its promises expire if no grant says so.
    #[serde(rename = "timeout_ms")]
    pub timeout: Timeout,
    /// What doing a function again means, by its name in WIT; of one that is not here
    /// [`WorkEffect::Idempotent`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub effects: BTreeMap<String, WorkEffect>,
}

/// Who answers the calls of a capability.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Whoever settles its promises: `parole work`, or a service of one's own.
    Worker,
}

impl Via {
    /// Every word.
    pub const ALL: [&'static str; 1] = ["worker"];
}

/// What it means to do something again.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkEffect {
    /// Nothing: it only looks.
    Read,
    /// The same as doing it once, with the id of the promise as its key.
    #[default]
    Idempotent,
    /// Something else: it is never done again in silence.
    Once,
}

impl WorkEffect {
    /// Every one.
    pub const ALL: [WorkEffect; 3] = [WorkEffect::Read, WorkEffect::Idempotent, WorkEffect::Once];

    /// The word as a policy file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkEffect::Read => "read",
            WorkEffect::Idempotent => "idempotent",
            WorkEffect::Once => "once",
        }
    }

    /// What the word says.
    pub fn of(word: &str) -> Option<WorkEffect> {
        WorkEffect::ALL.into_iter().find(|effect| effect.as_str() == word)
    }
}

impl UserCapability {
    /// One that workers answer, from level `unrestricted`.
    pub fn new(wit: &str) -> Self {
        let (wit, effects) = (wit.to_owned(), BTreeMap::new());
        Self { wit, level: Level::Unrestricted, via: Via::Worker, timeout: WORK_TIMEOUT, effects }
    }

    /// The declaration of the capability with this interface.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn definition(&self, interface: &str) -> Result<Definition, String> {
        may_be_defined(interface)?;
        let functions = wit::functions(interface, &self.wit)?;
        if let Some(unknown) = self.effects.keys().find(|name| !functions.iter().any(|own| *own.wit == ***name)) {
            let names: Vec<&str> = functions.iter().map(|function| &*function.wit).collect();
            let help = crate::nearest::help(unknown, &names);
            return Err(format!("its WIT has no function {}; {help}", crate::nearest::quoted(unknown)));
        }
        let effects = functions.iter().map(|own| self.effects.get(&*own.wit).copied().unwrap_or_default()).collect();
        Ok(Definition {
            level: self.level,
            kind: match self.via {
                Via::Worker => Kind::Worker,
            },
            keys: vec![GrantKey::Retry.into(), GrantKey::TimeoutMs.into()],
            effects,
            functions,
            timeout: self.timeout,
            summary: "defined by the policy".into(),
            ..Definition::new(interface, interface)
        })
    }
}

/// Whether somebody may define an interface of this name.
pub(crate) fn may_be_defined(interface: &str) -> Result<(), String> {
    let owner = interface.split(':').next().unwrap_or_default();
    if matches!(owner, "parole" | "wasi") {
        return Err(format!("interfaces of `{owner}:` are not for others to define"));
    }
    let is_word = |word: &str| {
        !word.is_empty()
            && word.len() <= MAX_INTERFACE
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let (path, version) = name::split(interface);
    let parts = path.split_once(':').and_then(|(owner, rest)| Some((owner, rest.split_once('/')?)));
    let is_name = parts.is_some_and(|(owner, (package, own))| [owner, package, own].into_iter().all(is_word));
    let is_version = version.is_none_or(|version| Version::parse(version).is_ok());
    if is_name && is_version && interface.len() <= MAX_INTERFACE {
        return Ok(());
    }
    Err("it is not the name of an interface, such as acme:crm/customers@1.0.0".to_owned())
}

/// What a policy calls a capability, or one function of it: `acme:crm/customers@1.0.0.delete`. The version may be left
/// out: `acme:crm/customers.delete`.
pub(crate) fn named<'d>(
    mut all: impl Iterator<Item = &'d Arc<Definition>>,
    text: &str,
) -> Option<(&'d Arc<Definition>, Option<&'d str>)> {
    all.find_map(|own| {
        if *own.name == *text {
            return Some((own, None));
        }
        if !own.is_users() {
            return None;
        }
        let bare = name::split(&own.interface).0;
        let rest = text.strip_prefix(&*own.interface).or_else(|| text.strip_prefix(bare))?;
        if rest.is_empty() {
            return Some((own, None));
        }
        let function = rest.strip_prefix('.')?;
        let own_function = own.functions.iter().find(|own| *own.wit == *function)?;
        Some((own, Some(&*own_function.wit)))
    })
}
