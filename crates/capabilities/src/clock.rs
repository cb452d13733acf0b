//! Time in which this process ran: what running guests and calls to the outside are measured by.
//!
//! A process that is stopped (Ctrl-Z, a paused container) and a machine that is paused do nothing, and a limit that
//! went on meanwhile would end what never had its time. The clocks of the system go on, so it is told by a gap: while
//! anything is measured somebody looks at the clock every few milliseconds (the ticker of the engine while a guest
//! computes, [`timeout_at`] while a call waits), and where nobody has for long, nobody ran.
//!
//! Deadlines of promises are points in time, and not measured by this.

use std::pin::pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the clock is looked at, at the least, while anything is measured.
const BEAT: Duration = Duration::from_millis(100);
/// A gap from this on is time in which the process stood still. A busy machine makes shorter ones.
const GAP: Duration = Duration::from_millis(500);
/// A time that never comes.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What is known of the past.
struct Past {
    /// When the clock was looked at last.
    looked: Instant,
    /// For how long the process has stood still.
    stood: Duration,
}

impl Past {
    fn look(&mut self, at: Instant) -> Instant {
        let gap = at.saturating_duration_since(self.looked);
        if gap >= GAP {
            self.stood += gap - BEAT;
        }
        self.looked = self.looked.max(at);
        at.checked_sub(self.stood).unwrap_or(at)
    }
}

static PAST: LazyLock<Mutex<Past>> =
    LazyLock::new(|| Mutex::new(Past { looked: Instant::now(), stood: Duration::ZERO }));

/// The present, earlier by all the time in which this process stood still. Only to be compared with others of its kind.
#[must_use]
pub fn now() -> Instant {
    let mut past = PAST.lock().unwrap_or_else(PoisonError::into_inner);
    past.look(Instant::now())
}

/// The time was over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

/// Waits until a point in time by [`now`], at most.
///
/// # Errors
/// The time was over first.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    loop {
        let left = deadline.saturating_duration_since(now());
        match tokio::time::timeout(left.min(BEAT), future.as_mut()).await {
            Ok(output) => return Ok(output),
            Err(_) if now() >= deadline => return Err(Elapsed),
            Err(_) => {}
        }
    }
}

/// Waits so long at most.
///
/// # Errors
/// The time was over first.
pub async fn timeout<F: Future>(most: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(now() + most.min(FAR), future).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_nobodys_time() {
        let start = Instant::now();
        let mut past = Past { looked: start, stood: Duration::ZERO };
        let ms = Duration::from_millis;
        assert_eq!(past.look(start + ms(400)), start + ms(400));
        assert_eq!(past.look(start + ms(800)), start + ms(800));
        // Stopped for an hour.
        let after = past.look(start + ms(900) + Duration::from_secs(3_600));
        assert_eq!(after, start + ms(900));
        assert_eq!(past.look(start + ms(1_000) + Duration::from_secs(3_600)), start + ms(1_000));
        // Two threads may look in another order than they asked the clock.
        past.look(start);
        assert_eq!(past.look(start + ms(1_100) + Duration::from_secs(3_600)), start + ms(1_100));
    }

    #[tokio::test]
    async fn a_timeout_is_one() {
        assert_eq!(timeout(Duration::from_millis(5), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(Duration::MAX, async { 7 }).await, Ok(7));
        // What is ready is taken, however late it is.
        assert_eq!(timeout_at(now(), async { 7 }).await, Ok(7));
        let slow = async {
            tokio::time::sleep(BEAT * 2).await;
            7
        };
        assert_eq!(timeout(Duration::from_secs(60), slow).await, Ok(7));
    }
}
