//! What one exchange may take.

use std::time::Instant;

/// What an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the answer's body as the guest gets it: after unzipping.
    pub max_bytes: u64,
    /// Bytes of the answer's status line and headers.
    pub header_bytes: usize,
    /// Headers of the answer.
    pub headers: usize,
    /// When it has to be over: connecting, TLS, sending, headers and body.
    pub deadline: Instant,
}

impl Limits {
    /// The usual limits of a head: 100 headers, 64 KiB.
    pub fn new(max_bytes: u64, deadline: Instant) -> Self {
        Self { max_bytes, header_bytes: 64 * 1024, headers: 100, deadline }
    }
}
