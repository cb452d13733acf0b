//! Functions that the host answers at once, from what it knows: nothing happens, so nobody is asked and nothing is
//! taken on.
//!
//! A repetition has to give the same answers. What they depend on is pinned with the execution ([`Own::random`]), or
//! recorded ([`Own::time`]).

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use parole_durable::hub::now;
use parole_durable::{EffectClass, UnixMs};
use parole_policy::{Definition, Facts};
use serde::Serialize;
use std::sync::Arc;

use super::audit::{self, AuditEvent, Note};
use super::execution::Execution;
use super::state::{Begin, Reading, State};
use crate::Stop;
use crate::error::{Refused, json};

/// A reading of the clock is given so often at most. No guest can ask so often within the millisecond for which it
/// holds; where a repetition asks more often, the guest goes by something else than the clock.
const REPEATED_MAX: u64 = 1_000_000;

/// A function that is answered at once. It has no error channel: where the policy refuses a call, the execution ends.
pub(crate) trait Immediate {
    /// The capability.
    fn definition() -> &'static Arc<Definition>;
    /// The name that the journal has for it.
    const NAME: &'static str;
    /// What the guest passed.
    type Args: Facts;
    /// What it gets.
    type Answer;

    /// JSON of what the guest passed, by parameter name: what checks in Rust are shown, and what the step of a refusal has.
    /// No other step of the function has the same.
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
        if let Some(refused) = state.refused_at_once::<I>(&args)? {
            return Err(Stop::Denied(Box::new(refused)));
        }
        state.journal().goes_on()?;
        I::answer(args, &mut Own(state))
    })
}

impl State {
    /// The refusal of a call, which is a step of its own: a replay decides nothing, and finds it there.
    fn refused_at_once<I: Immediate>(&mut self, args: &I::Args) -> Result<Option<Refused>, Stop> {
        let refused = if self.is_live() {
            match self.refusal(I::definition(), args, || I::shown(args))? {
                Some(refused) => Some(refused),
                None => return Ok(None),
            }
        } else {
            let is_refusal = |(name, arguments): (&str, &[u8])| name == I::NAME && *arguments == *I::shown(args);
            if !self.journal().recorded().is_some_and(is_refusal) {
                return Ok(None);
            }
            None
        };
        let number = self.journal().calls();
        match (self.begin(I::NAME.into(), EffectClass::Read, &I::shown(args))?, refused) {
            (Begin::Open(mut open), Some((refused, rule))) => {
                let note = Note { rule, ..self.verdict(AuditEvent::Deny) };
                audit::tell(self.id(), number, &refused.capability, open.arguments(), &note);
                audit::add(&mut open.notes, note);
                self.refuse(open, refused.clone())?;
                Ok(Some(refused))
            }
            // It was gathered when it was found.
            (Begin::Answered(Err(_)), None) => Ok(self.gathered.denied.last().cloned()),
            _ => Err(Stop::Unreadable(number)),
        }
    }
}

/// What an execution has of its own.
pub(crate) struct Own<'s>(&'s mut State);

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
        let at = match self.0.begin(function.into(), EffectClass::Read, &json(&Recorded { repeated }))? {
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
            // What has no record goes on to the end of the guest.
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
