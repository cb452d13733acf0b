//! Functions that the host answers at once, from what it knows: nothing happens, so nobody is asked and nothing is
//! taken on.
//!
//! A repetition has to give the same answers. What they depend on is pinned with the execution ([`Own::random`]), or
//! recorded ([`Own::time`]).

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use parole_durable::hub::now;
use parole_durable::{EffectClass, UnixMs};
use parole_policy::Facts;
use serde::Serialize;

use super::execution::Execution;
use super::state::{Begin, State};
use crate::error::json;
use crate::{Entry, Stop};

/// A reading of the clock is given so often at most. No guest can ask so often within the millisecond for which it
/// holds; where a repetition asks more often, the guest goes by something else than the clock.
const REPEATED_MAX: u64 = 1_000_000;

/// A function that is answered at once. It has no error channel: where the policy refuses a call, the execution ends.
pub(crate) trait Immediate {
    /// The capability.
    const ENTRY: &'static Entry;
    /// What the guest passed.
    type Args: Facts;
    /// What it gets.
    type Answer;

    /// What checks in Rust are shown of the arguments: JSON by parameter name.
    fn shown(args: &Self::Args) -> Vec<u8>;

    /// The answer.
    ///
    /// # Errors
    /// A limit of the execution is reached, or its journal fails.
    fn answer(args: Self::Args, own: &mut Own<'_>) -> Result<Self::Answer, Stop>;
}

/// Answers a call, if the policy lets it be made.
pub(crate) fn give<I: Immediate>(execution: &Execution, args: I::Args) -> Result<I::Answer, Stop> {
    execution.with(|state| {
        if let Some(refused) = state.refusal(I::ENTRY, &args, || I::shown(&args))? {
            return Err(Stop::Denied(Box::new(refused)));
        }
        I::answer(args, &mut Own(state))
    })
}

/// What an execution has of its own.
pub(crate) struct Own<'s>(&'s mut State);

/// What the clock said.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    at: UnixMs,
    /// How often it has been given again.
    repeated: u64,
}

/// What the journal has of a reading beside the time: how often the one before it had been given again, so that a
/// repetition knows when to go on to this one.
#[derive(Serialize)]
struct Recorded {
    repeated: u64,
}

impl Own<'_> {
    /// The time, for a function that the journal has under this name. It never goes back. One reading is recorded for
    /// all calls within its millisecond.
    pub(crate) fn time(&mut self, function: &'static str) -> Result<UnixMs, Stop> {
        let last = self.0.reading;
        if let Some(last) = last.filter(|last| last.repeated < REPEATED_MAX && self.still_holds(function, last)) {
            self.0.reading = Some(Reading { repeated: last.repeated + 1, ..last });
            return Ok(last.at);
        }
        let number = self.0.journal().calls();
        let (floor, repeated) = last.map_or((0, 0), |last| (last.at, last.repeated));
        let at = match self.0.begin(function, EffectClass::Read, &json(&Recorded { repeated }))? {
            Begin::Answered(answer) => {
                let recorded = answer.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                recorded.ok_or(Stop::Unreadable(number))?
            }
            Begin::Open(open) => {
                let at = now().max(floor);
                self.0.finish(open, None, Ok(json(&at)))?;
                at
            }
        };
        self.0.reading = Some(Reading { at, repeated: 0 });
        Ok(at)
    }

    /// Whether a call gets the last reading again.
    fn still_holds(&self, function: &str, last: &Reading) -> bool {
        match self.0.journal().recorded() {
            Some((name, arguments)) => name != function || *arguments != *json(&Recorded { repeated: last.repeated }),
            None => !self.0.journal().has_effects() || now() <= last.at,
        }
    }

    /// The next bytes of the random stream of the execution, whose seed is pinned with it.
    pub(crate) fn random(&mut self, length: usize) -> Vec<u8> {
        let seed = self.0.journal().random_seed();
        let stream = self.0.random.get_or_insert_with(|| Box::new(ChaCha20Rng::from_seed(seed)));
        let mut bytes = vec![0; length];
        stream.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executions that wait go on with the stream that they have begun, whatever version of the library comes.
    #[test]
    fn the_stream_is_that_of_chacha20() {
        let mut stream = ChaCha20Rng::from_seed([0; 32]);
        let mut bytes = [0; 16];
        stream.fill_bytes(&mut bytes);
        // The key stream of RFC 8439, appendix A.1, first test vector.
        let expected = [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28];
        assert_eq!(bytes, expected);
        // A call takes whole words of it.
        let (mut odd, mut next) = ([0; 3], [0; 4]);
        let mut stream = ChaCha20Rng::from_seed([0; 32]);
        stream.fill_bytes(&mut odd);
        stream.fill_bytes(&mut next);
        assert_eq!((odd, next), ([0x76, 0xb8, 0xe0], [0xa0, 0xf1, 0x3d, 0x90]));
    }
}
