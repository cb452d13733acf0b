//! Calls that wait: the guest begins them, and the driver carries them on.
//!
//! A call is polled once where the guest makes it, which is all that most take. One that is pending then is handed to the
//! driver, and the guest is left with nothing on its stack but the end of a channel: so a call that waits borrows nothing
//! of the engine, and only its answer wakes the guest.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_channel::oneshot;
use wasmtime::StoreContextMut;

use super::{Execution, StoreData};
use crate::Stop;

/// A call that waits. It gives its answer to the guest itself.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Execution {
    /// The calls that have been begun since the last look, and wait.
    #[must_use]
    pub fn take_begun(&self) -> Vec<Task> {
        self.with(|state| std::mem::take(&mut state.begun))
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
        if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return answer;
        }
        // No primitive of tokio: its cooperative budget would make an answer that is there look as if it were not.
        let (answer, answered) = oneshot::channel();
        execution.with(|state| {
            state.begun.push(Box::pin(async move {
                // Nobody listens any more when the guest is gone.
                let _ = answer.send(call.await);
            }));
        });
        drop(execution);
        answered.await.unwrap_or_else(|_| Err(Stop::Stopped.into()))
    })
}
