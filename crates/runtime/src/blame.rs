//! Whose fault it is when the engine ends a guest.
//!
//! What is known to be the guest's ends its execution. Everything else ends the attempt, and the execution is
//! resumed from its last barrier: to take a lack of the host for a fault of the guest would lose it for good.

use std::char::{CharTryFromError, DecodeUtf16Error};
use std::error::Error as Cause;
use std::io;
use std::num::TryFromIntError;
use std::str::Utf8Error;

use parole_capabilities::lack::{self, lack};
use rustix::io::Errno;
use wasmtime::{Error, Trap};

/// Who is to blame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Blame {
    /// The guest.
    Guest,
    /// The guest has met a limit: the policy key.
    Limit(&'static str),
    /// The host is short of this.
    Lack(&'static str),
    /// Nobody that is known.
    Unknown,
}

/// Texts of limits for which the engine has no types of its own; tests hold them.
const LIMITS: [(&str, &str); 3] = [
    ("fuel allocated for hostcalls has been exhausted", "arguments"),
    ("store handle limit exceeded", "handles"),
    ("resource limit exceeded", "instances"),
];

/// What the engine says of values and handles of a guest that are none. It has no types for these either: they come
/// as plain messages, which no failure of the operating system does. The fixtures have one for most of them.
const BROKEN_VALUES: [&str; 21] = [
    "not aligned",
    "is not aligned",
    "pointer out of bounds",
    "pointer size overflow",
    "out of bounds of memory",
    "realloc return: ",
    "invalid option discriminant",
    "invalid expected discriminant",
    "unexpected discriminant: ",
    "out of range [0..",
    "too large to copy into wasm",
    "byte length too large",
    "byte length overflow",
    "size overflow copying a ",
    "invalid utf8 encoding",
    "invalid utf16 encoding",
    "unknown handle index ",
    "is not a resource",
    "is not an own resource",
    "used with the wrong type",
    "resource type mismatch",
];

/// The same of handles that are lent.
const BROKEN_LOANS: [&str; 7] = [
    "too many active lends",
    "cannot remove owned resource while borrowed",
    "cannot lift own resource from a borrow",
    "borrow handles still remain at the end of the call",
    "host resource already consumed",
    "cannot lower a `borrow` resource into an `own`",
    "cannot allocate another handle: index overflow",
];

/// Whose fault an error of the engine is. Errors of our own ([`parole_capabilities::Stop`]) are not brought here.
pub(crate) fn of(error: &Error) -> Blame {
    // First: a lack may come wrapped in anything.
    if let Some(what) = lack_in(error) {
        return Blame::Lack(what);
    }
    if error.is::<Trap>() {
        return Blame::Guest;
    }
    let value = error.is::<Utf8Error>()
        || error.is::<DecodeUtf16Error>()
        || error.is::<CharTryFromError>()
        || error.is::<TryFromIntError>();
    if value {
        return Blame::Guest;
    }
    let root = error.root_cause().to_string();
    if let Some((_, name)) = LIMITS.iter().find(|(part, _)| root.contains(part)) {
        return Blame::Limit(name);
    }
    if BROKEN_VALUES.iter().chain(&BROKEN_LOANS).any(|part| root.contains(part)) {
        return Blame::Guest;
    }
    Blame::Unknown
}

/// What the host is short of, if any cause says that it is.
pub(crate) fn lack_in(error: &Error) -> Option<&'static str> {
    if error.is::<wasmtime::error::OutOfMemory>() {
        return Some(lack::MEMORY);
    }
    let wrapped = error.downcast_ref::<Errno>().and_then(|errno| lack::of_errno(*errno));
    wrapped.or_else(|| error.downcast_ref::<io::Error>().and_then(lack)).or_else(|| error.chain().find_map(cause))
}

fn cause(error: &(dyn Cause + 'static)) -> Option<&'static str> {
    let errno = error.downcast_ref::<Errno>().and_then(|errno| lack::of_errno(*errno));
    errno.or_else(|| error.downcast_ref::<io::Error>().and_then(lack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_the_host_is_found_behind_any_context() {
        let memory = Error::from(Errno::NOMEM).context("mmap failed to reserve 0x104000000 bytes");
        assert_eq!(of(&memory), Blame::Lack(lack::MEMORY));
        let files = Error::from(io::Error::from(Errno::MFILE)).context("cannot open").context("more");
        assert!(matches!(of(&files), Blame::Lack(what) if what.contains("EMFILE")));
        // A guest may be in the middle of something by then.
        assert!(matches!(of(&Error::from(Errno::NOMEM).context(Trap::StackOverflow)), Blame::Lack(_)));
    }

    #[test]
    fn what_is_not_known_is_nobodys() {
        for error in [
            Error::msg("mmap failed to reserve 0x104000000 bytes"),
            Error::msg("something that the engine says from its next version on"),
            Error::from(Errno::INVAL).context("mprotect failed"),
            Error::from(io::Error::other("no")),
        ] {
            assert_eq!(of(&error), Blame::Unknown, "{error:#}");
        }
    }

    #[test]
    fn traps_and_broken_values_are_the_guests() {
        assert_eq!(of(&Trap::UnreachableCodeReached.into()), Blame::Guest);
        assert_eq!(of(&Error::from(Trap::MemoryOutOfBounds).context("error while executing")), Blame::Guest);
        assert_eq!(of(&Error::msg("unknown handle index 7")), Blame::Guest);
        let utf8 = String::from_utf8(vec![0xff]).unwrap_err().utf8_error();
        assert_eq!(of(&Error::from(utf8)), Blame::Guest);
        assert_eq!(
            of(&Error::msg("resource limit exceeded: memory count too high at 1001")),
            Blame::Limit("instances")
        );
    }
}
