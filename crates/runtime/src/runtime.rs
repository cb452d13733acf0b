//! The runtime: starts, resumes and cancels executions, from any context.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use parole_capabilities::backends::Outside;
use parole_capabilities::call::hosted::Hosted;
use parole_capabilities::stopping::Stopping;
use parole_capabilities::{Event, Sink, Validator, waiting_room::WaitingRoom};
use parole_durable::store::PromiseFilter;
use parole_durable::{Digest, ExecutionId, Hub, PromiseRecord, Write};
use parole_policy::{Catalogue, Limits, Link, SecurityPolicy};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::artefact::Artefacts;
use crate::compiler::{Bounds, Compiler};
use crate::engine::Ticker;
use crate::error::Error;
use crate::guest::Guest;
use crate::link::{self, Import};
use crate::prepared::{Cache, Prepared};
use crate::report::{At, Denied, Ending, Outcome};
use crate::schedules::checked::Checked;
use crate::surface::{self, Item, Surface};
use crate::under_way::{Handles, UnderWay};

/// Runs guests. Cheap to clone; the last clone that goes ends it: see [`Runtime::shutdown`], which waits for that.
///
/// Its `async` methods need no particular executor: the work is done on the runtime's own
/// threads, so they can be awaited anywhere, and [`Runtime::blocking`] mirrors them for
/// callers without an async context.
#[derive(Clone)]
pub struct Runtime(
    pub(crate) Arc<Inner>,
    #[expect(dead_code, reason = "the last one that is dropped ends the work")] pub(crate) Option<Arc<Handles>>,
);

pub(crate) struct Inner {
    pub engine: Engine,
    pub ticker: Arc<Ticker>,
    pub hub: Hub,
    pub artefacts: Option<Artefacts>,
    pub compiler: Compiler,
    pub sink: Arc<dyn Sink>,
    pub validators: Vec<Validator>,
    /// All capabilities that there are, but for those of policies.
    pub catalogue: Catalogue,
    /// Those that this program answers, by name.
    pub hosted: BTreeMap<Arc<str>, Hosted>,
    pub protected: Vec<(String, std::path::PathBuf)>,
    pub room: Arc<WaitingRoom>,
    pub outside: Arc<Outside>,
    pub prepared: Mutex<Cache>,
    pub checked: Checked,
    pub opening: Semaphore,
    pub tokio: Mutex<Option<tokio::runtime::Runtime>>,
    pub stopping: Arc<Stopping>,
    pub under_way: Arc<UnderWay>,
}

/// How many executions are opened at once to be resumed: a guest that has to be compiled takes a process for that.
pub(crate) const OPENING_AT_ONCE: usize = 16;

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping it in the ordinary way waits for its threads, which panics inside an async context.
        if let Some(tokio) = self.tokio.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tokio.shutdown_background();
        }
    }
}

/// How far a run goes by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wait {
    /// It ends `suspended` at the first wait of any kind.
    Detach,
    /// It waits for timers, and ends `suspended` when only a person can help.
    #[default]
    Work,
    /// It waits for everything.
    All,
}

/// What is said about a run beside guest and policy.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The id that the execution is to have, for a caller that must know it before the end; else a new one.
    pub id: Option<ExecutionId>,
    /// `name(arguments)` in WAVE, or `acme:crm/api.name(arguments)` where several interfaces have it; without it `run` is
    /// called.
    pub invoke: Option<String>,
    /// How far it goes.
    pub wait: Wait,
}

/// What is said about a resume.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumeOptions {
    /// How far it goes.
    pub wait: Wait,
    /// Runs the stored component though the recorded path holds another one by now.
    pub pinned: bool,
}

impl Runtime {
    /// The runtime for its own work, which does not keep it from ending.
    pub(crate) fn inside(&self) -> Self {
        Self(Arc::clone(&self.0), None)
    }

    /// All capabilities that there are, but for those of policies.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Does work on the runtime's own threads and waits for it on the caller's, whatever that is.
    /// Boxed: the caller's future is to be small however large the work is.
    pub(crate) async fn on_workers<T: Send + 'static>(
        &self,
        work: Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>,
    ) -> Result<T, Error> {
        let receive = {
            let tokio = self.0.tokio.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(tokio) = tokio.as_ref().filter(|_| !self.0.stopping.is_begun()) else {
                return Err(Error::Stopped);
            };
            let (send, receive) = tokio::sync::oneshot::channel();
            let under_way = self.0.under_way.enter();
            tokio.spawn(async move {
                let done = work.await;
                drop(under_way);
                let _ = send.send(done);
            });
            receive
        };
        receive.await.map_err(|_| Error::Internal("the runtime was stopped in the middle of it".into()))?
    }

    /// Ends an execution as canceled, and cancels what it waits for, whoever runs it.
    ///
    /// # Errors
    /// [`Error::NoExecution`]; [`Error::NotResumed`] when it has ended already.
    pub async fn cancel(&self, id: ExecutionId) -> Result<(), Error> {
        let outcome = serde_json::to_string(&Ending::error(Outcome::Canceled, "canceled"))
            .map_err(|error| Error::Internal(error.to_string()))?;
        let write = Write::Cancel { execution: id, outcome, now: parole_durable::hub::now() };
        self.hub().write(write).await?;
        let this = self.clone();
        let work = tokio_blocking(move || {
            this.sweep(id);
            Ok(())
        });
        self.on_workers(Box::pin(work)).await
    }

    /// Executions that can go on: not ended, nobody runs them, and nothing they wait for is pending. Of those that are
    /// seen to be damaged none is.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn ready(&self) -> Result<Vec<ExecutionId>, Error> {
        let mut ready = Vec::new();
        let filter = PromiseFilter { pending: true, ..PromiseFilter::default() };
        let promises = self.hub().promises(&filter)?;
        let damaged = promises.damaged.iter().filter_map(|damaged| damaged.execution);
        let waiting: HashSet<_> = promises.whole.iter().filter_map(PromiseRecord::execution).chain(damaged).collect();
        for record in self.hub().executions(false)?.whole {
            if !waiting.contains(&record.id) && !self.hub().is_held(&record)? {
                ready.push(record.id);
            }
        }
        Ok(ready)
    }

    /// Removes executions that ended before a time (Unix milliseconds), and gives how many.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn collect(&self, before: u64) -> Result<u64, Error> {
        let this = self.clone();
        let work = tokio_blocking(move || {
            this.sweep_all();
            Ok(this.hub().collect(before)?)
        });
        self.on_workers(Box::pin(work)).await
    }

    /// What is damaged of an execution: a line for each fault. Empty: nothing is.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn damage(&self, id: ExecutionId) -> Result<Vec<String>, Error> {
        Ok(self.hub().damage(id)?)
    }

    /// Sets aside an execution of which something is damaged: it ends as canceled, what it waits for is canceled, and
    /// its damaged rows are removed. `by` says who did.
    ///
    /// # Errors
    /// [`Error::NoExecution`]; [`Error::NotResumed`] when nothing of it is damaged, or it has ended.
    pub async fn set_aside(&self, id: ExecutionId, by: &str) -> Result<(), Error> {
        let outcome =
            serde_json::to_string(&Ending::error(Outcome::Canceled, format!("set aside as damaged, by {by}")))
                .map_err(|error| Error::Internal(error.to_string()))?;
        let write = Write::SetAside { execution: id, outcome, now: parole_durable::hub::now() };
        self.hub().write(write).await?;
        Ok(())
    }

    /// Removes every compiled guest from the cache, and gives how many bytes that freed.
    ///
    /// # Errors
    /// The cache cannot be read or written.
    pub fn clear_cache(&self) -> Result<u64, Error> {
        let Some(artefacts) = &self.0.artefacts else { return Ok(0) };
        artefacts.clear().map_err(|error| Error::Internal(error.to_string()))
    }

    /// Checks the store, and gives a line for each fault.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn check(&self) -> Result<Vec<String>, Error> {
        Ok(self.hub().check()?)
    }

    /// Loads and looks at a guest without running it.
    ///
    /// # Errors
    /// [`Error::NotAGuest`].
    pub async fn inspect(&self, guest: Guest, mut policy: SecurityPolicy) -> Result<Inspection, Error> {
        let this = self.inside();
        // What is wrong with it is why nothing may be linked.
        let _ = policy.resolve(this.catalogue());
        self.on_workers(Box::pin(async move {
            let id = ExecutionId::generate();
            let surface = this.surface_or_fault(&guest, id, &policy.limits).await?;
            let imports = link::imports(&surface, &policy, this.catalogue());
            let export = |item: &Item| Export { name: item.name.clone(), functions: item.kind.functions() };
            let exports = surface.exports.iter().map(export).collect();
            let level = parole_policy::Level::ALL.into_iter().find(|level| {
                // With what this policy defines.
                let mut own = SecurityPolicy::new(*level);
                own.capabilities.clone_from(&policy.capabilities);
                let _ = own.resolve(this.catalogue());
                link::refusals(&link::imports(&surface, &own, this.catalogue())).is_empty()
            });
            let denied = link::refusals(&imports);
            Ok(Inspection { digest: guest.digest, imports, exports, level, denied })
        }))
        .await
    }

    /// What a guest imports and exports: read without compiling it. What is wrong with one that cannot be read is told by
    /// whoever compiles.
    pub(crate) async fn surface_or_fault(
        &self,
        guest: &Guest,
        id: ExecutionId,
        limits: &Limits,
    ) -> Result<Surface, Error> {
        match self.surface(guest) {
            Some(surface) => Ok(surface),
            None => {
                self.component(guest, id, Bounds::of(limits, 0)).await?;
                Err(unreadable())
            }
        }
    }

    /// What a guest imports and exports; `None`: it is no component.
    fn surface(&self, guest: &Guest) -> Option<Surface> {
        Surface::read(&surface::component(&guest.bytes).ok()?)
    }

    /// The compiled component of a guest.
    pub(crate) async fn component(&self, guest: &Guest, id: ExecutionId, bounds: Bounds) -> Result<Component, Error> {
        let small = self.0.artefacts.as_ref().and_then(|artefacts| artefacts.small(&self.0.engine, &guest.digest));
        if let Some(component) = small {
            return Ok(component);
        }
        let this = self.inside();
        let guest = guest.clone();
        let work = move || {
            let compiling = || {
                let _ = this.0.sink.event(id, Event::Compiling { bytes: guest.bytes.len() });
            };
            match &this.0.artefacts {
                Some(artefacts) => {
                    let loaded = artefacts.load(
                        &this.0.engine,
                        (&this.0.compiler, bounds),
                        &guest.bytes,
                        &guest.digest,
                        compiling,
                    )?;
                    if loaded.compiled {
                        let _ = this.0.sink.event(id, Event::Compiled);
                    }
                    Ok(loaded.component)
                }
                None => {
                    compiling();
                    let code = this.0.compiler.compile(&this.0.engine, &guest.bytes, bounds)?;
                    let component = crate::artefact::load_own(&this.0.engine, &code)?;
                    let _ = this.0.sink.event(id, Event::Compiled);
                    Ok(component)
                }
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::NotAGuest("it breaks the compiler".into()))?
    }

    /// Compiles and links a guest, or finds it done. The refusals of the policy come with it.
    pub(crate) async fn prepare(
        &self,
        guest: &Guest,
        policy: &SecurityPolicy,
        id: ExecutionId,
    ) -> Result<Result<Arc<Prepared>, Vec<Denied>>, Error> {
        // All guests that import the same capabilities under any policy share one linked form.
        let (component, surface) = match self.lock_prepared().component(&guest.digest) {
            Some((component, surface)) => (Some(component), Some(surface)),
            None => (None, self.surface(guest).map(Arc::new)),
        };
        let imports =
            surface.as_deref().map(|surface| link::imports(surface, policy, self.catalogue())).unwrap_or_default();
        let denied = link::refusals(&imports);
        if !denied.is_empty() {
            return Ok(Err(denied));
        }
        let component = match component {
            Some(component) => component,
            None => {
                let code = surface.as_deref().map_or(0, |surface| surface.code);
                self.component(guest, id, Bounds::of(&policy.limits, code)).await?
            }
        };
        let surface = surface.ok_or_else(unreadable)?;
        self.announce(&imports, policy, id);
        let key = (guest.digest, link::wanted(&imports));
        if let Some(prepared) = self.lock_prepared().get(&key) {
            return Ok(Ok(prepared));
        }
        let pre = match link::link(&self.0.engine, &component, &imports, &self.0.hosted) {
            Ok(pre) => pre,
            Err(error) => return Ok(Err(vec![mistyped(&imports, &error)])),
        };
        let prepared = Arc::new(Prepared { pre, surface });
        self.lock_prepared().insert(key, Arc::clone(&prepared));
        Ok(Ok(prepared))
    }

    /// A guest that is compiled and linked already, by the digest of its component.
    pub(crate) fn prepared(&self, digest: &Digest) -> Option<Arc<Prepared>> {
        self.lock_prepared().any(digest)
    }

    fn lock_prepared(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A capability that is linked but can reach nothing is said before the start.
    fn announce(&self, imports: &[Import], policy: &SecurityPolicy, id: ExecutionId) {
        for import in imports.iter().filter(|import| matches!(import.link, Link::AllDenied(_))) {
            let _ = self.0.sink.event(id, Event::AllDenied { import: &import.name });
        }
        for capability in policy.empty_scopes(self.catalogue()) {
            let is_it =
                |import: &Import| matches!(&import.link, Link::Granted(linked) if linked.name == capability.name);
            if imports.iter().any(is_it) {
                let _ = self.0.sink.event(id, Event::EmptyScope { capability });
            }
        }
    }
}

async fn tokio_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Internal("the work was not done".into()))?
}

pub(crate) fn unreadable() -> Error {
    Error::NotAGuest("what it imports and exports cannot be read".into())
}

fn mistyped(imports: &[Import], error: &Error) -> Denied {
    let text = error.to_string();
    let import = imports.iter().find(|import| text.contains(&import.name));
    let capability = match import.map(|import| &import.link) {
        Some(Link::Granted(capability)) => capability.name.to_string(),
        _ => String::new(),
    };
    Denied {
        at: At::Link,
        import: import.map(|import| import.name.clone()),
        capability,
        argument: None,
        reason: format!("its type is not the one that is defined: {text}"),
        remedy: String::new(),
    }
}

/// An export of a guest.
#[derive(Debug)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Its functions, as WIT has them.
    pub functions: Vec<String>,
}

/// What [`Runtime::inspect`] finds.
#[derive(Debug)]
pub struct Inspection {
    /// The digest of the guest.
    pub digest: Digest,
    /// Its imports, each with what the policy says.
    pub imports: Vec<Import>,
    /// Its exports.
    pub exports: Vec<Export>,
    /// The lowest level that links it, if any does.
    pub level: Option<parole_policy::Level>,
    /// What the policy would refuse.
    pub denied: Vec<Denied>,
}
