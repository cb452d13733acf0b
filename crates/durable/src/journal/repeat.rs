//! A repetition: what is recorded ahead of it, and where it ends.

use super::{Fault, Head, Journal};

impl Journal {
    /// Makes every call that has no recorded result a [`Fault::Head`]. `ended`: the guest came to an end of its own after
    /// the last step, and may get there.
    #[must_use]
    pub fn without_effects(mut self, ended: bool) -> Self {
        self.head = if ended { Head::End } else { Head::Unknown };
        self
    }

    /// Whether what leaves no record may be answered by now.
    ///
    /// # Errors
    /// [`Fault::Head`]: the end of the journal is not the end of the guest.
    pub fn goes_on(&self) -> Result<(), Fault> {
        if self.head == Head::Unknown && self.is_live() { Err(Fault::Head(self.next)) } else { Ok(()) }
    }

    /// The call that is repeated next, if one is recorded: its function and its arguments.
    #[must_use]
    pub fn recorded(&self) -> Option<(&str, &[u8])> {
        self.recorded.front().map(|step| (&*step.function, step.arguments.as_slice()))
    }
}
