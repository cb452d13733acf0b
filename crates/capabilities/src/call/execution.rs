//! One running guest, as its calls see it, and the few ways in which a capability may act on it.
//!
//! A send-only call is [`State::send`]. Any other begins with [`State::begin`]: it is answered from the journal, or
//! open; an open one comes to the gate ([`Execution::authorize`]), which decides it and perhaps asks a person; then it is
//! perhaps admitted and made durable ([`Execution::admit`]), performed, and finished ([`State::finish`]). A call that
//! waits does so in [`Execution::wait`].
//!
//! What an execution has is behind a lock that is held for a section ([`Execution::with`]) and never across an
//! `.await`. So a call that waits borrows nothing: it is polled once where the guest makes it, and from then on by the
//! [`driver`](super::driver).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use parole_durable::journal::{Fault, Open, frames};
use parole_durable::store::{Lease, NewExecution, Usage};
use parole_durable::{Digest, EffectClass, ExecutionId, Fence, Hub, Journal};
use parole_policy::{Definition, Fact};
use wasmtime::ResourceLimiter;

use super::barrier::CANCEL_DELAY;
use super::driver::Wakes;
use super::slot::{Slot, Slots};
use super::state::State;
use crate::backends::Outside;
use crate::call::opened::OpenedPolicy;
use crate::error::{Error, Refused};
use crate::meter::Meter;
use crate::sink::{NotShown, Sink, event_of};
use crate::stop::Stop;
use crate::stopping::Stopping;
use crate::waiting_room::WaitingRoom;
use crate::{ALL, Entry};

/// What the guest's calls may do about waiting.
#[derive(Clone)]
pub struct Parking {
    /// The first wait of any kind parks, and the lease is given back.
    pub detach: bool,
    /// A wait for a person parks, and the lease is given back.
    pub park_for_persons: bool,
    /// A guest that has waited this long gives its memory up.
    pub after: Duration,
    /// Where the waiting guests of a process are counted.
    pub room: Arc<WaitingRoom>,
    /// Tells when the runtime is to end.
    pub stopping: Arc<Stopping>,
}

/// What is written with the first commit of an execution.
pub struct Creation {
    /// The execution itself.
    pub new: NewExecution,
    /// The payload that pins its set-up.
    pub setup: Arc<[u8]>,
    /// The bytes of its component: kept unless the first commit is the last.
    pub component: Arc<[u8]>,
}

/// What an [`Execution`] is made of.
pub struct ExecutionConfig {
    /// The replay core.
    pub journal: Journal,
    /// Where it is made durable.
    pub hub: Hub,
    /// The fence under which this process holds it.
    pub fence: Fence,
    /// For a new execution.
    pub creation: Option<Box<Creation>>,
    /// The digest of the component.
    pub component: Digest,
    /// What it may reach, and the generation of the grants in it.
    pub scope: Arc<OpenedPolicy>,
    /// See `scope`.
    pub generation: u64,
    /// Opens the scope of a later generation.
    pub rescope: Arc<Rescope>,
    /// The network, and what else lies outside.
    pub outside: Arc<Outside>,
    /// Where its output goes.
    pub sink: Arc<dyn Sink>,
    /// Its clocks.
    pub meter: Arc<Meter>,
    /// What had been used when this attempt began.
    pub used: Usage,
    /// What to do about waits.
    pub parking: Parking,
}

/// What a run reports beside its outcome: all of the execution, replayed calls too.
#[derive(Default, Debug)]
pub struct Gathered {
    /// The text of its output.
    pub output: String,
    /// There is more of it than is kept in memory: then none is, and the journal has all of it.
    pub is_cut: bool,
    /// The calls that were refused.
    pub denied: Vec<Refused>,
}

/// Opens the scope of a generation of grants, after the one that is open.
pub type Rescope = dyn Fn(u64, &OpenedPolicy) -> Result<Arc<OpenedPolicy>, Stop> + Send + Sync;

/// What the engine keeps of a running guest: all that a host function has.
pub struct StoreData {
    /// The execution.
    pub execution: Execution,
    /// Counts memories and tables.
    pub limiter: Box<dyn ResourceLimiter + Send + Sync>,
}

/// One running guest. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Execution(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) id: ExecutionId,
    pub(super) fence: Fence,
    pub(super) hub: Hub,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) outside: Arc<Outside>,
    pub(super) parking: Parking,
    pub(super) meter: Arc<Meter>,
    pub(super) wakes: Wakes,
    /// Commits of one execution never overlap.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) slots: Slots,
    pub(super) state: Mutex<State>,
}

impl Execution {
    /// An execution at the start of an attempt.
    #[must_use]
    pub fn new(config: ExecutionConfig) -> Self {
        Self(Arc::new(Shared {
            id: config.journal.execution(),
            fence: config.fence,
            hub: config.hub.clone(),
            sink: Arc::clone(&config.sink),
            outside: Arc::clone(&config.outside),
            parking: config.parking.clone(),
            meter: Arc::clone(&config.meter),
            wakes: Wakes::new(),
            turn: tokio::sync::Mutex::new(()),
            slots: Slots::default(),
            state: Mutex::new(State::new(config)),
        }))
    }

    /// A section. There is no other way to the state, and none that lives across an `.await`. Sections do not nest.
    pub(super) fn with<R>(&self, section: impl FnOnce(&mut State) -> R) -> R {
        section(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A send-only call of a guest; see [`State::send`].
    pub(crate) fn send(
        &self,
        definition: &Arc<Definition>,
        channel: u8,
        frame: (&[u8], &[u8]),
        text: &str,
        fields: &[(&'static str, Fact<'_>)],
    ) -> Result<(), Stop> {
        self.with(|state| state.send(definition, channel, frame, text, fields))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.0.id
    }

    /// How many calls its guest has made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.with(|state| state.journal().calls())
    }

    /// The end of the guest: on replay everything that is recorded must have been asked again by then.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] when steps are left.
    pub fn end(&self) -> Result<(), Fault> {
        self.with(|state| state.journal().end())
    }

    /// What it has gathered, for a report.
    #[must_use]
    pub fn take_gathered(&self) -> Gathered {
        self.with(|state| std::mem::take(&mut state.gathered))
    }

    /// Whether the replay is over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.with(|state| state.is_live())
    }

    /// Whether the runtime is to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.parking.stopping.is_begun()
    }

    /// Reads recorded steps when they are needed, and notices the head of the journal: before the guest starts.
    ///
    /// # Errors
    /// The store failed, or the journal has a gap.
    pub fn catch_up(&self) -> Result<(), Stop> {
        self.with(State::catch_up)
    }

    /// Whether the execution is this process's still.
    pub(super) fn still_held(&self) -> Result<(), Stop> {
        self.with(|state| state.still_held())
    }

    /// Ends a performed call. Of one that is never repeated the end is durable at once.
    pub(super) async fn conclude(&self, open: Open, result: Result<Vec<u8>, Error>) -> Result<(), Stop> {
        let once = open.effect == EffectClass::Once;
        let (most, left) = self.with(|state| state.journal_left());
        match result {
            // What has happened is recorded, and if it is without its answer.
            Ok(answer) if open.effect != EffectClass::Read && answer.len() as u64 > left => {
                let text = format!("it happened, but its answer of {} bytes does not fit in the journal", answer.len());
                self.with(|state| state.finish(open, None, Err(Error::Failed(text))))?;
                Box::pin(self.commit(Lease::Keep)).await?;
                return Err(Stop::Limit { name: "journal", limit: parole_policy::size_text(most) });
            }
            result => self.with(|state| state.finish(open, None, result))?,
        }
        if once { Box::pin(self.commit(Lease::Keep)).await } else { Ok(()) }
    }

    /// What a capability keeps between the calls of this execution.
    pub(crate) fn slot<S: Slot>(&self) -> Arc<S> {
        self.0.slots.get()
    }

    /// Before the execution goes outside: others can see and cancel it from then on, and what it has put out is
    /// shown meanwhile.
    pub(super) async fn commit_creation(&self) -> Result<(), Stop> {
        if self.with(|state| state.is_unknown()) {
            return Box::pin(self.commit(Lease::Keep)).await;
        }
        self.show_meanwhile().await
    }

    /// Resolves when work with the outside is to be left: the execution is canceled or taken over, or the runtime is
    /// to end. Then what can be done again is left at once, and everything else is waited for, within a bound.
    pub(super) fn left(&self, effect: EffectClass) -> impl Future<Output = Stop> + Send + use<> {
        let (canceled, stopping) = (self.canceled(), Arc::clone(&self.0.parking.stopping));
        async move {
            tokio::select! {
                () = canceled => Stop::Fenced,
                () = stopping.begun(), if effect == EffectClass::Read => Stop::Stopped,
                () = stopping.over() => Stop::Stopped,
            }
        }
    }

    /// Resolves when the execution is canceled, or taken over. For work that has taken long by now.
    fn canceled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (hub, id, fence) = (self.0.hub.clone(), self.id(), self.0.fence);
        async move {
            loop {
                let fenced = hub.fenced(id);
                match hub.execution(id) {
                    Ok(Some(held)) if held.fence == fence && held.outcome.is_none() => fenced.await,
                    _ => return,
                }
            }
        }
    }

    /// What lies outside.
    pub(super) fn outside(&self) -> &Outside {
        &self.0.outside
    }

    /// Does work with the outside, unless it is to be left; see [`Execution::left`]: that is looked for once it has taken
    /// a while. The time of the guest stands still.
    pub(super) async fn unless_left<T>(&self, effect: EffectClass, work: impl Future<Output = T>) -> Result<T, Stop> {
        self.0.meter.pause();
        let mut work = pin!(work);
        let done = match tokio::time::timeout(CANCEL_DELAY, work.as_mut()).await {
            Ok(done) => Ok(done),
            // To wait for four things costs more than most work takes.
            Err(_) => {
                let done = tokio::select! {
                    done = work => Ok(done),
                    stop = Box::pin(self.left(effect)) => Err(stop),
                };
                self.with(|state| state.look_due = true);
                done
            }
        };
        self.0.meter.resume();
        done
    }
}

/// Shows the frames of an `output` step.
///
/// # Errors
/// One of them could not be shown; those after it were not tried.
pub fn show(sink: &dyn Sink, execution: ExecutionId, output: &[u8]) -> Result<(), NotShown> {
    frames(output)
        .filter_map(|(channel, payload)| event_of(channel, payload))
        .try_for_each(|event| sink.event(execution, event))
}

/// The capability of a function, as the journal names it.
#[must_use]
pub fn capability_of(function: &str) -> &str {
    match function.rsplit_once('.').filter(|_| is_users(function)) {
        Some((interface, _)) => interface,
        None => entry_of(function).map_or("", |entry| &*entry.definition.name),
    }
}

/// Whether users define a function that the journal names so: it has the name of its interface in front.
#[must_use]
pub fn is_users(function: &str) -> bool {
    function.contains(':')
}

/// The entry of a journal function name.
#[must_use]
pub fn entry_of(function: &str) -> Option<&'static Entry> {
    ALL.iter().copied().find(|entry| entry.functions().any(|(name, _)| name == function))
}
