//! WebSockets to the origins that the policy grants. From level `trusted`.
//!
//! ```no_run
//! use parole_guest::websocket::{Message, Socket};
//!
//! # fn run() -> Result<(), parole_guest::Error> {
//! let socket = Socket::connect("wss://feed.example.com/prices")?;
//! socket.send("subscribe")?;
//! while let Some(message) = socket.receive()? {
//!     if let Message::Text(text) = message {
//!         parole_guest::print(&text);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An open connection does not outlive the process of the host that opened it. A guest that is resumed
//! gets what it has already received from the journal, and then [`Error::Closed`]: connect again.

use std::fmt;

use crate::Error;
use crate::wit::websocket as wit;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

/// An open connection. Dropping it drops the connection; [`Socket::close`] says good-bye first.
pub struct Socket(wit::Socket);

impl Socket {
    /// Opens a connection. The policy may want a person asked first.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] if the policy, or a person, said no; [`Error::Expired`], [`Error::Canceled`];
    /// [`Error::Exhausted`] if too many are open; [`Error::Invalid`]; [`Error::Failed`].
    pub fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self(wit::Socket::connect(url)?))
    }

    /// Sends a message. That it was sent is no word of its arrival.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is gone, [`Error::Denied`] if the right to it was taken back,
    /// [`Error::Expired`] if it took too long, [`Error::TooLarge`].
    pub fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = match message.into() {
            Message::Text(text) => wit::Message::Text(text),
            Message::Binary(bytes) => wit::Message::Binary(bytes),
        };
        Ok(self.0.send(&message)?)
    }

    /// Waits for the next message; `None` when the other side has closed.
    ///
    /// # Errors
    ///
    /// As [`Socket::send`]. After [`Error::Expired`] it can be called again.
    pub fn receive(&self) -> Result<Option<Message>, Error> {
        let message = self.0.receive()?;
        Ok(message.map(|message| match message {
            wit::Message::Text(text) => Message::Text(text),
            wit::Message::Binary(bytes) => Message::Binary(bytes),
        }))
    }

    /// Closes the connection.
    pub fn close(self) {
        self.0.close();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}
