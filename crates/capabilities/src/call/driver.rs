//! Drives one guest: polls it, and the call that it has begun and that waits.
//!
//! Such a call borrows nothing of the engine's store, and while it waits nothing but its answer wakes the guest. Each of
//! the two has a waker of its own: to poll a guest is to enter its stack, and to poll a call is to ask the system again,
//! so neither is done for the other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use super::Execution;

/// A call that waits. It gives its answer to the guest itself.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What wakes the driver: which of the two it has to poll is said by a mark.
pub(super) struct Wakes {
    guest: Arc<Mark>,
    call: Arc<Mark>,
    driver: Arc<AtomicWaker>,
    call_waker: Waker,
}

struct Mark {
    is_set: AtomicBool,
    driver: Arc<AtomicWaker>,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.driver.wake();
    }
}

impl Mark {
    fn take(&self) -> bool {
        self.is_set.swap(false, Ordering::AcqRel)
    }
}

impl Wakes {
    pub(super) fn new() -> Self {
        let driver = Arc::new(AtomicWaker::new());
        let mark = |is_set| Arc::new(Mark { is_set: AtomicBool::new(is_set), driver: Arc::clone(&driver) });
        // The guest is polled first of all.
        let (guest, call) = (mark(true), mark(false));
        let call_waker = Waker::from(Arc::clone(&call));
        Self { guest, call, driver, call_waker }
    }

    /// From here on the driver is woken by this.
    pub(super) fn register(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    /// Whether the guest has been woken since the last look.
    pub(super) fn take_guest(&self) -> bool {
        self.guest.take()
    }

    /// Whether the call that waits has been woken since the last look.
    pub(super) fn take_call(&self) -> bool {
        self.call.take()
    }

    /// With what the guest is polled.
    pub(super) fn guest_waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.guest))
    }

    /// With what the call is polled, by the driver as where it was begun: so it need not be polled again when it is
    /// handed over.
    pub(super) fn call_waker(&self) -> &Waker {
        &self.call_waker
    }
}

/// A guest and the call that it waits for, as one future.
pub struct Driver<F> {
    guest: Pin<Box<F>>,
    call: Option<Task>,
    execution: Execution,
}

impl<F> Driver<F> {
    /// The driver of a guest that has not been polled yet.
    #[must_use]
    pub fn new(execution: Execution, guest: Pin<Box<F>>) -> Self {
        Self { guest, call: None, execution }
    }
}

impl<F: Future> Future for Driver<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { guest, call, execution } = &mut *self;
        let wakes = &execution.0.wakes;
        wakes.register(context.waker());
        if let Some(waiting) = call.as_mut().filter(|_| wakes.take_call()) {
            match waiting.as_mut().poll(&mut Context::from_waker(wakes.call_waker())) {
                // It has woken the guest.
                Poll::Ready(()) => *call = None,
                Poll::Pending => {}
            }
        }
        if wakes.take_guest() {
            if let Poll::Ready(ended) = guest.as_mut().poll(&mut Context::from_waker(&wakes.guest_waker())) {
                return Poll::Ready(ended);
            }
            if call.is_none() {
                *call = execution.with(|state| state.begun.take());
            }
        }
        // What has woken itself meanwhile, a guest at a tick or a call that has more to do, has woken the driver as well:
        // others get their turn before it goes on.
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Turns(AtomicUsize);

    impl Wake for Turns {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The guest is polled for its own wakes, a call for its own, and the driver is woken for both.
    #[test]
    fn each_is_polled_for_its_own_wakes() {
        let (wakes, driver) = (Wakes::new(), Arc::new(Turns::default()));
        let woken = || driver.0.load(Ordering::SeqCst);
        wakes.register(&Waker::from(Arc::clone(&driver)));
        assert!(wakes.take_guest() && !wakes.take_guest(), "the guest is polled first of all, and once");
        assert!(!wakes.take_call() && woken() == 0);
        wakes.call_waker().wake_by_ref();
        assert!(woken() == 1 && !wakes.take_guest() && wakes.take_call() && !wakes.take_call());
        // A waker is good for one wake: the driver registers at each of its turns.
        wakes.register(&Waker::from(Arc::clone(&driver)));
        wakes.guest_waker().wake();
        assert!(woken() == 2 && wakes.take_guest() && !wakes.take_call());
    }

    /// What is woken while it is not looked at is seen at the next look, once, however often it was woken.
    #[test]
    fn no_wake_is_lost() {
        let wakes = Wakes::new();
        assert!(wakes.take_guest());
        (0..3).for_each(|_| wakes.guest_waker().wake_by_ref());
        assert!(wakes.take_guest() && !wakes.take_guest());
    }
}
