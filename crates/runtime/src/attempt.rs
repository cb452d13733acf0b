//! One attempt at running a guest: a fresh instance, the replay of what is recorded, and on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parole_capabilities::call::driver::Driver;
use parole_capabilities::{Execution, Meter, Stop, StoreData, lack};
use parole_durable::journal::Fault;
use parole_durable::store::Lease;
use parole_policy::{Limits, size_text};
use wasmtime::component::{Instance, InstancePre, Val};
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};

use crate::blame::{self, Blame};
use crate::engine::{TICK, Ticker};
use crate::error::Error;
use crate::invoke::{self, Given, Target};
use crate::limiter::{HostOutOfMemory, INSTANCES, Met};
use crate::report::{Ending, Outcome};

/// A replay may take twice the processor time that the execution may, and this much more.
const REPLAY_SLACK_MS: u64 = 1_000;

/// What an attempt came to.
pub(crate) enum Ended {
    /// The execution has ended, and that is durable.
    Over(Ending),
    /// It waits, and its memory has been given up.
    Parked(Stop),
    /// A replay without effects has come to the head of the journal.
    Head(u64),
    /// It could not go on; the execution is as it was at its last barrier.
    Broken(Error),
}

/// What an attempt needs beside the execution itself.
pub(crate) struct Machine {
    pub pre: InstancePre<StoreData>,
    pub ticker: Arc<Ticker>,
    pub limits: Limits,
    pub meter: Arc<Meter>,
    pub met: Arc<Met>,
    /// Whether an end is recorded; not at a replay without effects.
    pub record: bool,
}

/// Puts an execution into a store of its own, under the limits of the engine.
///
/// Not done in [`attempt`]: what an async function once had in its hands by value stays a part
/// of its size, for as long as the guest waits.
pub(crate) fn store(machine: &Machine, guest: StoreData) -> Store<StoreData> {
    let mut store = Store::new(machine.pre.engine(), guest);
    store.limiter(|guest| &mut *guest.limiter);
    store.set_hostcall_fuel(usize::try_from(machine.limits.arguments).unwrap_or(usize::MAX));
    store.set_max_component_handles(usize::try_from(machine.limits.handles).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    let (meter, limits) = (Arc::clone(&machine.meter), machine.limits);
    store.epoch_deadline_callback(move |store| look(&store, &meter, &limits));
    store
}

/// Runs until the guest ends, parks or breaks.
pub(crate) async fn attempt(machine: &Machine, target: &Target, mut store: Store<StoreData>) -> Ended {
    let execution = store.data().execution.clone();
    if let Err(stop) = execution.catch_up() {
        return broken(stop);
    }
    let guest = Box::pin(call(&machine.pre, &mut store, target, machine.limits.output));
    let driver = Driver::new(execution.clone(), guest);
    let result = Metered { driver, meter: &machine.meter, ticker: &machine.ticker }.await;
    // What it holds of the guest goes now: to make an end durable takes no memory of its own.
    drop(store);
    let ended = match result {
        Ok(Ok(Given::Value(result))) => Ended::Over(Ending { result, ..Ending::of(Outcome::Completed) }),
        Ok(Ok(Given::Failure(error))) => Ended::Over(Ending::error(Outcome::Failed, error)),
        Ok(Err(failed)) => classify(&failed, &machine.met),
        Err(Panicked) => Ended::Broken(Error::Internal("a host function failed; the execution can be resumed".into())),
    };
    match (ended, execution.end()) {
        (Ended::Over(_), Err(fault)) => broken(fault.into()),
        (Ended::Over(ending), Ok(())) if machine.record => record(&execution, ending).await,
        (Ended::Broken(error), _) if machine.record => leave(&execution, error).await,
        (ended, _) => ended,
    }
}

/// An error, and whether the guest had been instantiated by then.
struct Failed {
    error: wasmtime::Error,
    instantiated: bool,
}

async fn call(
    pre: &InstancePre<StoreData>,
    store: &mut Store<StoreData>,
    target: &Target,
    output_limit: u64,
) -> Result<Given, Failed> {
    let instance = pre.instantiate_async(&mut *store).await;
    let instance = instance.map_err(|error| Failed { error, instantiated: false })?;
    call_in(instance, store, target, output_limit).await.map_err(|error| Failed { error, instantiated: true })
}

async fn call_in(
    instance: Instance,
    store: &mut Store<StoreData>,
    target: &Target,
    output_limit: u64,
) -> wasmtime::Result<Given> {
    let Some(function) = instance.get_func(&mut *store, target.index) else {
        wasmtime::bail!("the function to call is gone");
    };
    let mut results = vec![Val::Bool(false); target.results];
    function.call_async(&mut *store, &target.params, &mut results).await?;
    // What a guest returns is shown and kept like what it prints.
    if results.iter().map(invoke::weight).sum::<u64>() > output_limit {
        return Err(Stop::Limit { name: "output", limit: size_text(output_limit) }.into());
    }
    invoke::given(results)
}

/// Called at each tick while the guest runs.
fn look(store: &StoreContextMut<'_, StoreData>, meter: &Meter, limits: &Limits) -> wasmtime::Result<UpdateDeadline> {
    let execution = &store.data().execution;
    if execution.is_stopping() {
        return Err(Stop::Stopped.into());
    }
    let (cpu_us, wall_us) = meter.used_us();
    if !execution.is_live() {
        // A replay does again what was counted when it was live: it is bounded, but not charged.
        return match cpu_us / 1000 > limits.cpu_ms.saturating_mul(2).saturating_add(REPLAY_SLACK_MS) {
            true => Err(Stop::SlowReplay.into()),
            false => Ok(UpdateDeadline::Yield(1)),
        };
    }
    for (name, used, limit) in [("cpu_ms", cpu_us, limits.cpu_ms), ("wall_ms", wall_us, limits.wall_ms)] {
        if used / 1000 >= limit {
            return Err(Stop::Limit { name, limit: format!("{limit} ms") }.into());
        }
    }
    execution.pump()?;
    // A guest that waited is due at once when it goes on: it has its turn first.
    let is_young = u128::from(meter.inside_us()) < TICK.as_micros();
    Ok(if is_young { UpdateDeadline::Continue(1) } else { UpdateDeadline::Yield(1) })
}

/// What has become durable is shown all the same; an execution that is left because the runtime is to end keeps
/// everything that it has recorded.
async fn leave(execution: &Execution, error: Error) -> Ended {
    let left = match error {
        Error::Stopped => execution.park().await,
        _ => {
            let _ = execution.all_landed().await;
            Ok(())
        }
    };
    Ended::Broken(left.err().map_or(error, |stop| match broken(stop) {
        Ended::Broken(error) => error,
        _ => Error::Stopped,
    }))
}

async fn record(execution: &Execution, ending: Ending) -> Ended {
    let text = match serde_json::to_string(&ending) {
        Ok(text) => text,
        Err(error) => return Ended::Broken(Error::Internal(error.to_string())),
    };
    match execution.commit(Lease::End(text)).await {
        Ok(()) => Ended::Over(ending),
        Err(stop) => broken(stop),
    }
}

fn classify(failed: &Failed, met: &Met) -> Ended {
    let error = &failed.error;
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop.clone() {
            stop @ Stop::Parked { .. } => Ended::Parked(stop),
            Stop::Fault(Fault::Head(step)) => Ended::Head(step),
            Stop::Fault(Fault::Limit { name, limit }) => {
                Ended::Over(Ending::limit(name, format!("the {name} limit of {} is reached", size_text(limit))))
            }
            Stop::Limit { name, limit } => {
                Ended::Over(Ending::limit(name, format!("the {name} limit of {limit} is reached")))
            }
            // It is a step of the journal, and among what the execution has gathered.
            Stop::Denied(refused) => Ended::Over(Ending::error(Outcome::Denied, reason(refused.error))),
            stop @ Stop::Untold { error: parole_capabilities::Error::Denied(_), .. } => {
                Ended::Over(Ending::error(Outcome::Denied, stop.to_string()))
            }
            stop @ Stop::Untold { .. } => Ended::Over(Ending::error(Outcome::Failed, stop.to_string())),
            stop => broken(stop),
        };
    }
    let text = format!("{:#}", Plain(error));
    let host = error.downcast_ref::<HostOutOfMemory>().is_some().then_some(Blame::Lack(lack::MEMORY));
    match host.unwrap_or_else(|| blame::of(error)) {
        Blame::Lack(what) => Ended::Broken(Error::Lack(what)),
        Blame::Limit("instances") => {
            let error =
                format!("a guest may have {INSTANCES} core instances, memories and tables of each kind: {text}");
            Ended::Over(Ending::limit("instances", error))
        }
        Blame::Limit(name) => Ended::Over(Ending::limit(name, format!("the {name} limit is reached: {text}"))),
        Blame::Guest if matches!(error.downcast_ref(), Some(Trap::StackOverflow)) => {
            Ended::Over(Ending { limit: Some("stack".into()), ..Ending::error(Outcome::Trapped, text) })
        }
        Blame::Guest => Ended::Over(Ending::error(Outcome::Trapped, text)),
        // Growth that is refused later is the guest's to deal with.
        Blame::Unknown => match met.name().filter(|_| !failed.instantiated) {
            Some(name) => Ended::Over(Ending::limit(name, format!("the {name} limit is reached: {text}"))),
            None => Ended::Broken(Error::Internal(format!("the engine failed: {text}"))),
        },
    }
}

/// Why something was refused; that it was is said by the outcome.
fn reason(error: parole_capabilities::Error) -> String {
    match error {
        parole_capabilities::Error::Denied(reason) => reason,
        error => error.to_string(),
    }
}

/// The causes of an error without the guest's backtrace, which says nothing to a person who did not build it.
struct Plain<'e>(&'e wasmtime::Error);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for cause in self.0.chain() {
            let text = cause.to_string();
            if text.starts_with("error while executing at wasm backtrace") {
                continue;
            }
            write!(f, "{}{text}", if first { "" } else { ": " })?;
            first = false;
        }
        Ok(())
    }
}

fn broken(stop: Stop) -> Ended {
    Ended::Broken(match stop {
        Stop::Store(error) => Error::Store(error),
        Stop::Lack(what) => Error::Lack(what),
        Stop::Stopped => Error::Stopped,
        stop => Error::NotResumed(stop.to_string()),
    })
}

struct Panicked;

/// Brackets each turn of a driver for the meter and the ticker, and keeps a panic of a host function from the thread
/// that polls it.
struct Metered<'d, F> {
    driver: Driver<F>,
    meter: &'d Meter,
    ticker: &'d Ticker,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let running = self.ticker.running();
        self.meter.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.driver).poll(context)));
        self.meter.leave();
        drop(running);
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}
