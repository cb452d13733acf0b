//! Futures that are no more than a place for an answer: they work on any executor and on none.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Wakes a thread that is parked in [`block_on`].
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future of this crate to its end on this thread. Ours are completed by a thread of
/// the hub, so this needs no runtime, and inside of one it cannot lock it up.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // May return early; the loop asks again.
        std::thread::park();
    }
}

/// A place for one answer.
#[derive(Debug)]
pub(super) struct Slot<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { answer: None, waker: None })))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the answer there. The waker is called without the lock: it may do anything.
    pub(super) fn fill(&self, answer: T) {
        let mut state = self.lock();
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer if it is there.
    pub(super) fn take(&self) -> Option<T> {
        self.lock().answer.take()
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        let old = match &state.waker {
            Some(waker) if waker.will_wake(context.waker()) => None,
            _ => state.waker.replace(context.waker().clone()),
        };
        drop(state);
        // Dropping a waker may drop a task, and that may come back to us: not under the lock.
        drop(old);
        Poll::Pending
    }
}
