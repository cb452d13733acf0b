//! Calls that wait: the guest begins them, and the driver carries them on.
//!
//! A call is polled once where the guest makes it, which is all that most take. One that is pending then is handed to the
//! driver, and of the host the guest is left with nothing on its stack but the end of a channel: so a call that waits
//! borrows nothing of the engine, and only its answer wakes the guest.

use std::task::{Context, Poll};

use futures_channel::oneshot;
use wasmtime::StoreContextMut;

use super::{Execution, StoreData};
use crate::Stop;

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
        if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(execution.0.wakes.call_waker())) {
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
