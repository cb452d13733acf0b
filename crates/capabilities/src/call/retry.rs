//! Repeated attempts: how many, and how long to wait between them.

use std::time::Duration;

use parole_durable::EffectClass;
use parole_durable::journal::Open;
use parole_policy::Retry;

use crate::{Execution, Stop};

/// The attempts of one call.
pub(crate) struct Retries {
    retry: Option<Retry>,
    attempt: u32,
}

impl Retries {
    pub(super) fn of(retry: Option<&Retry>) -> Self {
        Self { retry: retry.cloned(), attempt: 1 }
    }

    /// The attempt that is being made, counted from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether another one may be made.
    pub(super) fn left(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| self.attempt < retry.attempts)
    }

    /// Waits, twice as long each time, and goes on to the next attempt.
    pub(super) async fn wait(&mut self) {
        if let Some(retry) = &self.retry {
            tokio::time::sleep(Duration::from_millis(pause_ms(retry, self.attempt.into()))).await;
        }
        self.attempt = self.attempt.saturating_add(1);
    }
}

/// How long to wait after so many attempts have failed: twice as long each time, in milliseconds.
#[must_use]
pub fn pause_ms(retry: &Retry, failed: u64) -> u64 {
    let doubled = retry.backoff_ms.saturating_mul(1 << failed.saturating_sub(1).min(32));
    let most = doubled.min(retry.max_backoff_ms);
    // Full jitter: anything up to that. What the guest sees does not depend on it.
    if retry.jitter { uniform(most) } else { most }
}

/// A number from 0 to `most`, from the random source of the operating system through a new id.
fn uniform(most: u64) -> u64 {
    let random = uuid::Uuid::now_v7().as_u128() & u128::from(u32::MAX);
    u64::try_from(((u128::from(most) + 1) * random) >> 32).unwrap_or(most)
}

impl Execution {
    /// Waits before another attempt at a call; there is none when the execution is canceled or taken over by then, or
    /// the runtime is to end.
    pub(super) async fn back_off(&self, retries: &mut Retries, open: &Open) -> Result<(), Stop> {
        // Nothing is under way.
        match self.unless_left(EffectClass::Read, retries.wait()).await {
            Ok(()) => self.still_held(),
            // A call that is never repeated in silence is tried again only where nothing of it was sent.
            Err(stop @ Stop::Stopped) if open.effect == EffectClass::Once => Err(self.withdraw(open, stop).await),
            Err(stop) => Err(stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_attempts_as_granted() {
        let retry = Retry { attempts: 3, backoff_ms: 0, max_backoff_ms: 0, jitter: true };
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut retries = Retries::of(Some(&retry));
        let mut made = 1;
        while retries.left() {
            tokio.block_on(retries.wait());
            made += 1;
        }
        assert_eq!((made, retries.attempt()), (3, 3));
        assert!(!Retries::of(None).left());
    }

    #[test]
    fn jitter_stays_below_its_bound() {
        for most in [0, 1, 7, 10_000] {
            assert!((0..200).all(|_| uniform(most) <= most));
        }
    }
}
