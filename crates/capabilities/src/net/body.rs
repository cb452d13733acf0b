//! The bytes of an answer, counted as they come and, where the host asked for it, unzipped.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::Failure;

/// What is set aside beforehand for a body that says how long it is.
const RESERVED_MAX: u64 = 1024 * 1024;
/// By how much a zipped body may be longer than the limit of what it holds.
const ZIPPED_SLACK: u64 = 64 * 1024;

/// Bytes up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() as u64 + bytes.len() as u64 > self.limit {
            self.over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the body goes.
pub(super) struct Gather {
    sink: Sink,
    limit: u64,
    /// Bytes as they came.
    raw: u64,
}

enum Sink {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Gather {
    /// `declared` is what the answer says of its own length, if it does.
    pub(super) fn new(gzip: bool, limit: u64, declared: Option<u64>) -> Result<Self, Failure> {
        let mut gather = Self { sink: Sink::Plain(Bounded { bytes: Vec::new(), limit, over: false }), limit, raw: 0 };
        let declared = declared.unwrap_or_default();
        if gzip {
            gather.sink = Sink::Gzip(Box::new(MultiGzDecoder::new(Bounded { bytes: Vec::new(), limit, over: false })));
        }
        if declared > gather.raw_limit() {
            return Err(Failure::TooLarge(limit));
        }
        if let Sink::Plain(bounded) = &mut gather.sink {
            bounded.bytes.reserve(usize::try_from(declared.min(RESERVED_MAX)).unwrap_or_default());
        }
        Ok(gather)
    }

    fn raw_limit(&self) -> u64 {
        match self.sink {
            Sink::Plain(_) => self.limit,
            Sink::Gzip(_) => self.limit.saturating_add(ZIPPED_SLACK),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.raw = self.raw.saturating_add(bytes.len() as u64);
        if self.raw > self.raw_limit() {
            return Err(Failure::TooLarge(self.limit));
        }
        match &mut self.sink {
            Sink::Plain(bounded) => bounded.write_all(bytes).map_err(|_| Failure::TooLarge(self.limit)),
            Sink::Gzip(decoder) => {
                let result = decoder.write_all(bytes);
                result.map_err(|_| if decoder.get_ref().over { Failure::TooLarge(self.limit) } else { damaged() })
            }
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, Failure> {
        match self.sink {
            Sink::Plain(bounded) => Ok(bounded.bytes),
            // Some servers mark the absence of a body as zipped.
            Sink::Gzip(_) if self.raw == 0 => Ok(Vec::new()),
            Sink::Gzip(mut decoder) => match decoder.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut decoder.get_mut().bytes)),
                Err(_) if decoder.get_ref().over => Err(Failure::TooLarge(self.limit)),
                Err(_) => Err(damaged()),
            },
        }
    }
}

fn damaged() -> Failure {
    Failure::after("the zipped body of the answer is damaged or cut short")
}
