//! How a runtime is put together.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use parole_capabilities::backends::{Outside, Variables};
use parole_capabilities::call::hosted::{Capability, Hosted};
use parole_capabilities::sink::Quiet;
use parole_capabilities::stopping::Stopping;
use parole_capabilities::waiting_room::{WAITING_AT_ONCE, WaitingRoom};
use parole_capabilities::{CATALOGUE, Sink, Validator};
use parole_durable::Hub;
use parole_policy::Catalogue;
use tokio::sync::Semaphore;
use wasmtime::Engine;

use crate::artefact::Artefacts;
use crate::compiler::Compiler;
use crate::engine::{self, Ticker};
use crate::error::Error;
use crate::runtime::{Inner, OPENING_AT_ONCE, Runtime};
use crate::schedules::checked::Checked;
use crate::under_way::Handles;

/// Settings of a [`Runtime`]. Made by [`Runtime::builder`].
pub struct Builder {
    state: Option<PathBuf>,
    sink: Arc<dyn Sink>,
    compiler: Compiler,
    validators: Vec<Validator>,
    capabilities: Vec<Capability>,
    protected: Vec<(String, PathBuf)>,
    waiting_at_once: usize,
    variables: Arc<Variables>,
    roots: Vec<Vec<u8>>,
}

impl Runtime {
    /// Settings for a new runtime.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            state: None,
            sink: Arc::new(Quiet),
            compiler: Compiler::InProcess,
            validators: Vec::new(),
            capabilities: Vec::new(),
            protected: Vec::new(),
            waiting_at_once: WAITING_AT_ONCE,
            variables: Arc::new(|_| None),
            roots: Vec::new(),
        }
    }

    /// Keeps executions and promises in this directory, which is made if it is missing.
    /// Without it everything is in memory and gone with the runtime.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state = Some(dir.into());
        self
    }

    /// Where output, logs and displays go. Without it they are kept in the journal only.
    #[must_use]
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sink = Arc::new(sink);
        self
    }

    /// Who compiles guests; see [`Compiler`].
    #[must_use]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Adds a check in Rust behind the policy. A name may stand for one check of each capability.
    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validators.push(validator);
        self
    }

    /// Adds a capability that this program answers: an interface from WIT, and a closure for each function.
    #[must_use]
    pub fn capability(mut self, capability: Capability) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// A file or directory that no grant may cover, with a name for messages ("the policy file").
    #[must_use]
    pub fn protect(mut self, label: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.protected.push((label.into(), path.into()));
        self
    }

    /// How many guests may wait in memory before the longest waiting is parked.
    #[must_use]
    pub fn waiting_at_once(mut self, most: usize) -> Self {
        self.waiting_at_once = most;
        self
    }

    /// Looks up the variables that policies name with `url_env`; without it there are none. It is called when an
    /// execution is started and when a database is opened, and what it gives is kept nowhere.
    #[must_use]
    pub fn variables(mut self, look_up: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.variables = Arc::new(look_up);
        self
    }

    /// Trusts one more certificate authority (PEM) for `https` and `wss`, beside those that Mozilla's programs trust.
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Opens the state and starts the threads of the runtime.
    ///
    /// # Errors
    /// [`Error::Usage`] for two validators of the same name and capability, or one of a capability that there
    /// is not; the state directory is not fit for use, or the machine refuses threads or memory.
    pub fn open(mut self) -> Result<Runtime, Error> {
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let (catalogue, hosted) = declare(&self.capabilities)?;
        check(&self.validators, &catalogue)?;
        let (hub, artefacts) = match &self.state {
            None => (Hub::memory(), None),
            Some(dir) => {
                // It opens while the engine is made and the guest is loaded; whoever writes first is told of a fault.
                let hub = Hub::sqlite_ahead(dir)?;
                let artefacts = Artefacts::open(dir)?;
                self.protected.push(("the state directory".into(), dir.clone()));
                (hub, Some(artefacts))
            }
        };
        let protected = self
            .protected
            .into_iter()
            .map(|(label, path)| {
                let path = path.canonicalize().or_else(|_| std::path::absolute(&path));
                path.map(|path| (label, path)).map_err(|error| internal(&error))
            })
            .collect::<Result<_, _>>()?;
        let outside = Outside::new(&self.roots, self.variables).map_err(Error::Usage)?;
        let engine = engine::config().and_then(|config| Engine::new(&config)).map_err(|error| internal(&error))?;
        let ticker = Ticker::start(&engine).map_err(|error| internal(&error))?;
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // One at least shows output while a call of a guest blocks another.
            .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).max(2))
            .thread_name("parole-worker")
            .build()
            .map_err(|error| internal(&error))?;
        let stopping = Stopping::new();
        let handles = Arc::new(Handles(Arc::clone(&stopping)));
        let inner = Inner {
            engine,
            ticker,
            hub,
            artefacts,
            compiler: self.compiler,
            sink: self.sink,
            validators: self.validators,
            catalogue,
            hosted,
            protected,
            room: WaitingRoom::new(self.waiting_at_once),
            outside: Arc::new(outside),
            prepared: Mutex::default(),
            checked: Checked::default(),
            opening: Semaphore::new(OPENING_AT_ONCE),
            tokio: Mutex::new(Some(tokio)),
            stopping,
            under_way: Arc::default(),
        };
        Ok(Runtime(Arc::new(inner), Some(handles)))
    }
}

/// What there is beside what Parole ships.
fn declare(capabilities: &[Capability]) -> Result<(Catalogue, BTreeMap<Arc<str>, Hosted>), Error> {
    let (mut catalogue, mut hosted) = (CATALOGUE.clone(), BTreeMap::new());
    for capability in capabilities {
        let own = capability.declare().map_err(Error::Usage)?;
        catalogue
            .has_room_for((*own.definition).clone())
            .map_err(|why| Error::Usage(format!("the capability `{}`: {why}", own.definition.name)))?;
        catalogue = catalogue.with(&[Arc::clone(&own.definition)]).into_owned();
        hosted.insert(Arc::clone(&own.definition.name), own);
    }
    Ok((catalogue, hosted))
}

/// Each validator is pinned by capability and name, so that pair must be unique and must mean something.
fn check(validators: &[Validator], catalogue: &Catalogue) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for Validator { name, capability, .. } in validators {
        if catalogue.by_name(capability).is_none() {
            let folded = capability.to_lowercase().replace('-', "_");
            let known: Vec<&str> = catalogue.names().collect();
            let help = match known.iter().find(|known| **known == folded) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("valid: {}", known.join(", ")),
            };
            let message = format!("the validator `{name}` judges `{capability}`, which is no capability; {help}");
            return Err(Error::Usage(message));
        }
        if !seen.insert((name, capability)) {
            return Err(Error::Usage(format!("there are two validators `{name}` of `{capability}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(validators: &[(&str, &str)]) -> Result<Runtime, Error> {
        let validators = validators.iter().map(|(name, capability)| Validator::new(*name, *capability, |_| Ok(())));
        validators.fold(Runtime::builder(), Builder::validator).open()
    }

    fn refused(validators: &[(&str, &str)]) -> String {
        match open(validators) {
            Err(Error::Usage(text)) => text,
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn a_validator_is_known_by_its_name_and_capability() {
        assert!(open(&[("a", "print"), ("b", "print"), ("a", "log")]).is_ok());
        assert!(refused(&[("a", "print"), ("b", "log"), ("a", "print")]).contains("two validators `a` of `print`"));
    }

    #[test]
    fn a_validator_of_no_capability_is_refused() {
        assert!(refused(&[("a", "Read-File")]).contains("did you mean `read_file`?"));
        assert!(refused(&[("a", "network")]).contains("valid: clock, display, log, print"));
    }
}
