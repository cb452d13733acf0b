//! Barriers: what has been recorded is made durable, and only then shown or acted on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parole_durable::hub::now;
use parole_durable::journal::OUTPUT;
use parole_durable::store::{Admission, Lease, Usage};
use parole_durable::{Commit, StoreError, Write, Written};

use super::{Execution, State};
use crate::Stop;

/// Output is made durable and shown at the latest this long after it was sent, while the guest runs.
pub(crate) const OUTPUT_DELAY: Duration = Duration::from_millis(25);
/// A guest that has run this long is told when its execution is canceled.
pub(super) const CANCEL_DELAY: Duration = Duration::from_millis(100);
/// Steps of a guest that runs without a wait are made durable in lots of this many.
const STEPS_A_COMMIT: usize = 1024;

/// A commit under way. When it is durable its output is shown, and it resolves: whether all of it was taken.
pub(super) struct Flight {
    has_output: bool,
    landing: Landing,
}

type Landing = Pin<Box<dyn Future<Output = Result<bool, Stop>> + Send + Sync>>;

impl Execution {
    /// Makes everything so far durable, then shows the output in it.
    ///
    /// # Errors
    /// [`Stop::Fenced`] when the execution is not this process's any more, [`Stop::Store`] when
    /// the store failed: then nothing of it is shown or may be acted on.
    pub async fn commit(&self, lease: Lease) -> Result<(), Stop> {
        // One after the other: a commit that fails must not be followed by one that leaves a hole.
        let _turn = self.0.turn.lock().await;
        self.commit_in_turn(lease).await
    }

    async fn commit_in_turn(&self, lease: Lease) -> Result<(), Stop> {
        self.land().await?;
        self.with(|state| state.submit(lease, None));
        self.land().await.map(drop)
    }

    /// Makes everything so far durable, and with it that a call is taken on; `false`: the grants are not those by which
    /// it was decided any more, and all is durable but that.
    pub(super) async fn commit_admission(&self, admission: Admission) -> Result<bool, Stop> {
        let _turn = self.0.turn.lock().await;
        self.land().await?;
        self.with(|state| state.submit(Lease::Keep, Some(admission)));
        self.land().await
    }

    /// Waits for the commits that are under way, and shows what is in them.
    ///
    /// # Errors
    /// As [`Execution::commit`].
    pub async fn all_landed(&self) -> Result<(), Stop> {
        let _turn = self.0.turn.lock().await;
        self.land().await.map(drop)
    }

    /// Waits for the commits that are under way: whether all of the last one was taken.
    async fn land(&self) -> Result<bool, Stop> {
        let mut taken = true;
        while let Some(flight) = self.with(|state| state.flights.pop_front()) {
            taken = flight.landing.await?;
        }
        Ok(taken)
    }

    /// Sends on what has been put out, and has it shown while the guest does something else. Nobody waits for that,
    /// but for a commit before it.
    pub(super) async fn show_meanwhile(&self) -> Result<(), Stop> {
        if self.with(|state| state.live && state.config.journal.has_output()) {
            Box::pin(self.send_on()).await?;
        }
        self.with(State::land_aside);
        Ok(())
    }

    async fn send_on(&self) -> Result<(), Stop> {
        let _turn = self.0.turn.lock().await;
        self.land().await?;
        self.with(|state| state.submit(Lease::Keep, None));
        Ok(())
    }

    /// Makes everything so far durable and gives the lease back. Output is shown before that: who
    /// takes the execution over shows what is not noted as shown.
    pub(super) async fn release_lease(&self) -> Result<(), Stop> {
        if self.with(|state| state.config.journal.has_output() || !state.flights.is_empty()) {
            self.commit(Lease::Keep).await?;
        }
        self.commit(Lease::Release).await
    }

    /// Gives the execution up for now, in order. One that nobody has heard of and that has done nothing is not
    /// recorded at all.
    ///
    /// # Errors
    /// As [`Execution::commit`].
    pub async fn park(&self) -> Result<(), Stop> {
        let is_nothing = self.with(|state| state.is_unknown() && state.config.journal.calls() == 0);
        if is_nothing { Ok(()) } else { self.release_lease().await }
    }

    /// Called now and then while the guest runs: sends on what has waited long enough, and shows what is durable.
    ///
    /// # Errors
    /// As [`Execution::commit`].
    pub fn pump(&self) -> Result<(), Stop> {
        // A commit is under way: the next tick looks.
        let Ok(_turn) = self.0.turn.try_lock() else { return Ok(()) };
        self.with(State::pump)
    }
}

impl State {
    /// Whether something that was put out is not shown yet.
    pub(super) fn has_unshown(&self) -> bool {
        self.live && (self.config.journal.has_output() || self.flights.iter().any(|flight| flight.has_output))
    }

    /// Has the commits under way landed by a task: the guest's own thread may be in a call that blocks it.
    fn land_aside(&mut self) {
        let Ok(tokio) = tokio::runtime::Handle::try_current() else { return };
        for flight in self.flights.iter_mut().filter(|flight| flight.has_output) {
            let task = tokio.spawn(std::mem::replace(&mut flight.landing, Box::pin(std::future::pending())));
            flight.landing = Box::pin(async move { task.await.unwrap_or(Err(Stop::Store(StoreError::Closed))) });
        }
    }

    /// Called now and then while the guest runs: sends on what has waited long enough, and shows what is durable.
    fn pump(&mut self) -> Result<(), Stop> {
        let mut context = Context::from_waker(Waker::noop());
        while let Some(flight) = self.flights.front_mut() {
            match flight.landing.as_mut().poll(&mut context) {
                Poll::Pending => break,
                Poll::Ready(landed) => {
                    self.flights.pop_front();
                    landed?;
                }
            }
        }
        self.look_for_cancel(&mut context)?;
        self.look_due = true;
        let old_output = self.output_since.is_some_and(|since| since.elapsed() >= OUTPUT_DELAY);
        // A guest that runs for long is to be seen, and canceled, by others.
        let unknown = self.config.creation.is_some() && self.started.elapsed() >= CANCEL_DELAY;
        let due = old_output || unknown || self.config.journal.unsaved_steps() >= STEPS_A_COMMIT;
        if due && self.live && self.flights.is_empty() {
            self.submit(Lease::Keep, None);
            self.land_aside();
        }
        Ok(())
    }

    /// A guest that waits is woken by the cancel of its promise; one that computes looks here.
    /// A replay without effects is never live, and holds nothing that could be taken from it.
    fn look_for_cancel(&mut self, context: &mut Context<'_>) -> Result<(), Stop> {
        if !self.live
            || !self.config.journal.has_effects()
            || self.config.creation.is_some()
            || !self.flights.is_empty()
            || self.started.elapsed() < CANCEL_DELAY
        {
            return Ok(());
        }
        let id = self.id();
        let quiet = self.fenced.as_mut().is_some_and(|fenced| Pin::new(fenced).poll(context).is_pending());
        if quiet {
            return Ok(());
        }
        self.fenced = Some(self.config.hub.fenced(id));
        self.still_held()
    }

    fn submit(&mut self, lease: Lease, admits: Option<Admission>) {
        let unsaved = self.config.journal.take_unsaved();
        self.output_since = None;
        let nothing_new = unsaved.steps.is_empty() && unsaved.promises.is_empty() && self.config.creation.is_none();
        if nothing_new && lease == Lease::Keep {
            return;
        }
        let output: Vec<Vec<u8>> =
            unsaved.steps.iter().filter(|step| step.function == OUTPUT).map(|step| step.arguments.clone()).collect();
        let upto = self.config.journal.calls();
        let mut payloads = Vec::new();
        let create = self.config.creation.take().map(|creation| {
            payloads.push((creation.new.setup, creation.setup));
            if !matches!(lease, Lease::End(_)) {
                payloads.push((creation.new.component, creation.component));
            }
            Box::new(creation.new)
        });
        let commit = Commit {
            execution: self.id(),
            fence: self.config.fence,
            create,
            payloads,
            steps: unsaved.steps,
            promises: unsaved.promises,
            usage: self.usage(),
            lease,
            admits,
            now: now(),
        };
        let is_last = matches!(commit.lease, Lease::End(_));
        let receipt = self.config.hub.write(Write::Commit(Box::new(commit)));
        let view = Arc::clone(&self.view);
        self.flights.push_back(Flight {
            has_output: !output.is_empty(),
            landing: Box::pin(async move {
                let written = receipt.await?;
                view.show(&output, upto);
                if is_last {
                    view.end();
                }
                Ok(!matches!(written, Written::Withheld(_)))
            }),
        });
    }

    /// What the execution has used so far.
    pub(super) fn usage(&self) -> Usage {
        let (cpu_us, wall_us) =
            if self.live { self.config.meter.used_us() } else { (self.config.used.cpu_us, self.config.used.wall_us) };
        Usage {
            cpu_us,
            wall_us,
            output: self.config.journal.output(),
            journal: self.config.journal.size(),
            shown: self.view.shown(),
        }
    }
}
