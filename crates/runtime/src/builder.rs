//! How a runtime is put together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use parole_capabilities::sink::Quiet;
use parole_capabilities::waiting_room::{WAITING_AT_ONCE, WaitingRoom};
use parole_capabilities::{Sink, Validator};
use parole_durable::Hub;
use wasmtime::Engine;

use crate::artefact::Artefacts;
use crate::compiler::Compiler;
use crate::engine::{self, Ticker};
use crate::error::Error;
use crate::runtime::{Inner, Runtime};

/// Settings of a [`Runtime`]. Made by [`Runtime::builder`].
pub struct Builder {
    state: Option<PathBuf>,
    sink: Arc<dyn Sink>,
    compiler: Compiler,
    validators: Vec<Validator>,
    protected: Vec<(String, PathBuf)>,
    waiting_at_once: usize,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            state: None,
            sink: Arc::new(Quiet),
            compiler: Compiler::InProcess,
            validators: Vec::new(),
            protected: Vec::new(),
            waiting_at_once: WAITING_AT_ONCE,
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

    /// Adds a check in Rust behind the policy.
    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validators.push(validator);
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

    /// Opens the state and starts the threads of the runtime.
    ///
    /// # Errors
    /// The state directory is not fit for use, or the machine refuses threads or memory.
    pub fn open(mut self) -> Result<Runtime, Error> {
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let (hub, artefacts) = match &self.state {
            None => (Hub::memory(), None),
            Some(dir) => {
                let hub = Hub::sqlite(dir)?;
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
        let engine = engine::config().and_then(|config| Engine::new(&config)).map_err(|error| internal(&error))?;
        let ticker = Ticker::start(&engine).map_err(|error| internal(&error))?;
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .enable_time()
            .thread_name("parole-worker")
            .build()
            .map_err(|error| internal(&error))?;
        Ok(Runtime(Arc::new(Inner {
            engine,
            ticker,
            hub,
            artefacts,
            compiler: self.compiler,
            sink: self.sink,
            validators: self.validators,
            protected,
            room: WaitingRoom::new(self.waiting_at_once),
            prepared: Mutex::new(HashMap::new()),
            tokio: Some(tokio),
        })))
    }
}
