//! How many guests of a process may wait in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// Each live instance takes about six memory mappings of the 65,530 that Linux gives a process
/// by default, and what fails next after that is any allocation: so the one that has waited
/// longest gives its memory up well before.
pub const WAITING_AT_ONCE: usize = 4_000;

/// How many guests may be live beside those that wait: they run, or wait for a commit.
const RUNNING_AT_ONCE: usize = 1_000;

/// The guests of a process that wait in memory, by how long they have.
pub struct WaitingRoom {
    most: usize,
    seats: Mutex<Seats>,
    live: Semaphore,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, oneshot::Sender<()>>,
}

impl WaitingRoom {
    /// A room for at most this many.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let live = Semaphore::new(most.saturating_add(RUNNING_AT_ONCE).min(Semaphore::MAX_PERMITS));
        Arc::new(Self { most, seats: Mutex::default(), live })
    }

    /// Waits until one more guest may be live; it is for as long as what is given lives. Not all
    /// can be waiting for people: those that wait too many are asked to leave.
    pub async fn live(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.live.acquire().await.ok()
    }

    /// Takes a seat; if the room is full, who came first is asked to leave.
    pub(crate) fn enter(self: &Arc<Self>) -> Seat {
        let (leave, evicted) = oneshot::channel();
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, leave);
        if seats.taken.len() > self.most
            && let Some((_, leave)) = seats.taken.pop_first()
        {
            let _ = leave.send(());
        }
        Seat { room: Arc::clone(self), number, evicted: Some(evicted) }
    }
}

/// The place of one waiting guest; given back when dropped.
pub(crate) struct Seat {
    room: Arc<WaitingRoom>,
    number: u64,
    evicted: Option<oneshot::Receiver<()>>,
}

impl Seat {
    /// Resolves when the guest is to give its memory up.
    pub(crate) async fn evicted(&mut self) {
        match &mut self.evicted {
            Some(evicted) => {
                let _ = evicted.await;
                self.evicted = None;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.seats.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&self.number);
    }
}
