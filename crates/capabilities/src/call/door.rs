//! Calls that wait: the guest begins them, and the driver carries them on.
//!
//! A call is polled once where the guest makes it, which is all that most take. One that is pending then is handed to the
//! driver, and of the host the guest is left with nothing on its stack but the end of a channel: so a call that waits
//! borrows nothing of the engine, and only its answer wakes the guest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_channel::oneshot;
use futures_util::task::AtomicWaker;
use wasmtime::StoreContextMut;

use super::{Execution, StoreData};
use crate::Stop;

/// A call that waits. It gives its answer to the guest itself.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What wakes the driver: which of the two it has to poll is said by a mark. To poll a guest is to enter its stack, and
/// to poll a call is to ask the system again, so neither is done for the other.
pub struct Wakes {
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
    pub fn register(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    /// Whether the guest has been woken since the last look.
    #[must_use]
    pub fn take_guest(&self) -> bool {
        self.guest.take()
    }

    /// Whether the call that waits has been woken since the last look.
    #[must_use]
    pub fn take_call(&self) -> bool {
        self.call.take()
    }

    /// With what the guest is polled.
    #[must_use]
    pub fn guest_waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.guest))
    }

    /// With what the call is polled, by the driver as where it was begun: so it need not be polled again when it is
    /// handed over.
    #[must_use]
    pub fn call_waker(&self) -> &Waker {
        &self.call_waker
    }
}

impl Execution {
    /// What wakes its driver.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.0.wakes
    }

    /// The call that the guest has begun since the last look, and that waits.
    #[must_use]
    pub fn take_begun(&self) -> Option<Task> {
        self.with(|state| state.begun.take())
    }
}

/// A call of a guest that has nothing else to do until it has its answer.
pub(crate) fn plain<T: Send + 'static, F>(
    store: &StoreContextMut<'_, StoreData>,
    call: impl FnOnce(Execution) -> F,
) -> Box<dyn Future<Output = wasmtime::Result<T>> + Send>
where
    F: Future<Output = wasmtime::Result<T>> + Send + 'static,
{
    let execution = store.data().execution.clone();
    let mut call = Box::pin(call(execution.clone()));
    Box::new(async move {
        if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(execution.wakes().call_waker())) {
            return answer;
        }
        // No primitive of tokio: its cooperative budget would make an answer that is there look as if it were not.
        let (answer, answered) = oneshot::channel();
        execution.with(|state| {
            state.begun = Some(Box::pin(async move {
                // Nobody listens any more when the guest is gone.
                let _ = answer.send(call.await);
            }));
        });
        drop(execution);
        answered.await.unwrap_or_else(|_| Err(Stop::Stopped.into()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Driver(AtomicUsize);

    impl Wake for Driver {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The guest is polled for its own wakes, a call for its own, and the driver is woken for both.
    #[test]
    fn each_is_polled_for_its_own_wakes() {
        let (wakes, driver) = (Wakes::new(), Arc::new(Driver::default()));
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
