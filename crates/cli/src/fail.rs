//! The one kind of failure of the program, and what each kind is worth as an exit code.

use parole_runtime::Error;
use serde_json::json;

use crate::{output, shell};

/// What a script can tell apart by the exit code (design section 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A flag, an id, a value, a policy file.
    Usage,
    /// The file is not a guest.
    NotAGuest,
    /// The host or the store failed.
    Internal,
    /// The execution cannot be resumed.
    NotResumed,
    /// A named limit of the policy is reached before the guest has run.
    Exhausted,
    /// Ctrl-C before anything was recorded.
    Interrupted,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::NotAGuest => 65,
            Kind::Internal => 70,
            Kind::NotResumed => 73,
            Kind::Exhausted => 137,
            Kind::Interrupted => 130,
        }
    }
}

/// Why a word could not be done. The message says what is wrong, the hints what to do.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    pub hints: Vec<String>,
    /// Shown instead of message and hints where there is something better, such as an excerpt of a file.
    pub picture: Option<String>,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), picture: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(Kind::Internal, message.to_string())
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says it, and gives the exit code.
    pub fn report(&self, json: bool) -> u8 {
        let exit = self.kind.exit_code();
        if json {
            output::json(&self.to_json());
        }
        match &self.picture {
            Some(picture) => output::err(picture.trim_end()),
            None => {
                output::err(&format!("parole: {}", self.message));
                for hint in &self.hints {
                    output::err(&format!("  {hint}"));
                }
            }
        }
        exit
    }

    /// The object that `--json` prints where there is no report of an execution.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = json!({ "error": self.message, "exit": self.kind.exit_code() });
        if let (Some(object), false) = (object.as_object_mut(), self.hints.is_empty()) {
            object.insert("hints".into(), json!(self.hints));
        }
        object
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Usage(_) => Self::usage(message),
            Error::BadAnswer { .. } => Self::usage(message).hint("nothing was settled: the promise is still pending"),
            Error::NotAGuest(_) => Self::new(Kind::NotAGuest, message),
            Error::Limit { .. } => Self::new(Kind::Exhausted, message),
            Error::NoExecution(_) => {
                Self::usage(message).hint(format!("`{}` lists every execution", shell::command("ps --all")))
            }
            Error::NoPromise(_) => {
                Self::usage(message).hint(format!("`{}` lists every promise", shell::command("promises")))
            }
            Error::NotResumed(_) => Self::new(Kind::NotResumed, message),
            Error::Stopped => Self::new(Kind::Interrupted, message),
            Error::Lack(_) => Self::new(Kind::Internal, message)
                .hint("that is no fault of the guest: what is recorded goes on when there is room again"),
            Error::Store(_) | Error::Internal(_) => Self::new(Kind::Internal, message),
        }
    }
}
