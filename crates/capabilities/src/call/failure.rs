//! Why an attempt did not work, and what follows from it.

use parole_durable::EffectClass;

use crate::Error;

/// Why an attempt did not work. No text has an address, a path of the host or anything of the environment in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The host is short of this, and nothing has happened: no answer to the guest.
    Lack(&'static str),
    /// It was refused where it led.
    Denied {
        /// What the guest is told.
        reason: String,
        /// What it asked for.
        argument: Option<String>,
        /// What the operator is told.
        remedy: String,
    },
    /// It cannot work.
    Ended(Error),
    /// The deadline came first.
    Expired {
        /// `false` only when it is certain that nothing has happened.
        sent: bool,
    },
    /// It did not work this time.
    Failed {
        /// What went wrong.
        text: String,
        /// `false` only when it is certain that nothing has happened.
        sent: bool,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ended(error)
    }
}

impl Failure {
    /// The same failure after something else of the call had been sent.
    #[must_use]
    pub(super) fn after_something(self) -> Self {
        match self {
            Failure::Expired { .. } => Failure::Expired { sent: true },
            Failure::Failed { text, .. } => Failure::Failed { text, sent: true },
            other => other,
        }
    }

    /// Whether the same may be done again without anybody being asked.
    pub(super) fn may_repeat(&self, class: EffectClass) -> bool {
        match self {
            Failure::Denied { .. } | Failure::Ended(_) => false,
            Failure::Lack(_) => true,
            Failure::Expired { sent } | Failure::Failed { sent, .. } => class != EffectClass::Once || !sent,
        }
    }

    /// What the guest is told.
    pub(super) fn into_guest_error(self, class: EffectClass) -> Error {
        let harmless = class == EffectClass::Read;
        match self {
            Failure::Denied { reason, .. } => Error::Denied(reason),
            Failure::Ended(error) => error,
            Failure::Lack(what) => Error::Failed(format!("the host is short of {what}")),
            Failure::Expired { sent } if harmless || !sent => Error::Expired,
            Failure::Expired { .. } => Error::Failed("no answer came in time: it may have happened".into()),
            Failure::Failed { text, sent } if harmless || !sent => Error::Failed(text),
            Failure::Failed { text, .. } => Error::Failed(format!("{text}; it may have happened")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_is_done_once() {
        let sent = Failure::Failed { text: String::new(), sent: true };
        let unsent = Failure::Failed { text: String::new(), sent: false };
        assert!(!sent.may_repeat(EffectClass::Once) && unsent.may_repeat(EffectClass::Once));
        assert!(sent.may_repeat(EffectClass::Idempotent) && sent.may_repeat(EffectClass::Read));
        // Something else of the call was sent by then.
        assert!(!unsent.after_something().may_repeat(EffectClass::Once));
        assert!(!Failure::Ended(Error::NotFound).may_repeat(EffectClass::Read));
    }

    #[test]
    fn what_may_have_happened_is_said() {
        let told = |failure: Failure, class| failure.into_guest_error(class).to_string();
        let failed = |sent| Failure::Failed { text: "gone".into(), sent };
        for (class, sent, text) in [
            (EffectClass::Once, true, "failed: gone; it may have happened"),
            (EffectClass::Idempotent, true, "failed: gone; it may have happened"),
            (EffectClass::Once, false, "failed: gone"),
            (EffectClass::Read, true, "failed: gone"),
        ] {
            assert_eq!(told(failed(sent), class), text);
        }
        assert_eq!(told(Failure::Expired { sent: true }, EffectClass::Read), "nobody answered in time");
        assert!(told(Failure::Expired { sent: true }, EffectClass::Once).contains("it may have happened"));
    }
}
