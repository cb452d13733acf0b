//! The bytes of an answer, counted as they come and, where the host asked for it, unzipped.

use std::io::{self, Write};

use flate2::write::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::Failure;

/// What is set aside beforehand for a body that says how long it is.
const RESERVED_MAX: u64 = 1024 * 1024;
/// By how much a zipped body may be longer than the limit of what it holds.
const ZIPPED_SLACK: u64 = 64 * 1024;
/// How much is unpacked at once.
const PIECE: usize = 8 * 1024;
/// How each member of a gzip body begins.
const MEMBER: [u8; 2] = [0x1f, 0x8b];

/// How a body is zipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// With the frame of zlib, as the standard says, or without it, as some servers have understood it.
    Deflate,
}

impl Coding {
    pub(super) const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Gzip => &["gzip", "x-gzip"],
            Self::Deflate => &["deflate"],
        }
    }
}

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

/// What comes after the end of what is zipped is no part of it: browsers and curl leave it alone too.
enum Sink {
    Plain(Bounded),
    Gzip(Box<GzDecoder<Bounded>>),
    /// After a member of gzip, with so many bytes of the beginning of another.
    Between(Bounded, usize),
    /// Before there are enough bytes to tell which kind it is.
    Deflate(Bounded, Vec<u8>),
    Inflate(Bounded, Box<Decompress>),
    /// After the end.
    Rest(Bounded),
}

impl Gather {
    /// `declared` is what the answer says of its own length, if it does.
    pub(super) fn new(coding: Option<Coding>, limit: u64, declared: Option<u64>) -> Result<Self, Failure> {
        let bounded = Bounded { bytes: Vec::new(), limit, over: false };
        let sink = match coding {
            None => Sink::Plain(bounded),
            Some(Coding::Gzip) => Sink::Gzip(Box::new(GzDecoder::new(bounded))),
            Some(Coding::Deflate) => Sink::Deflate(bounded, Vec::new()),
        };
        let mut gather = Self { sink, limit, raw: 0 };
        let declared = declared.unwrap_or_default();
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
            _ => self.limit.saturating_add(ZIPPED_SLACK),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.raw = self.raw.saturating_add(bytes.len() as u64);
        if self.raw > self.raw_limit() {
            return Err(Failure::TooLarge(self.limit));
        }
        let mut left = bytes;
        while !left.is_empty() {
            // On an error there is nothing left to go on with.
            let sink =
                std::mem::replace(&mut self.sink, Sink::Rest(Bounded { bytes: Vec::new(), limit: 0, over: false }));
            (self.sink, left) = self.take(sink, left)?;
        }
        Ok(())
    }

    /// Takes some of the bytes, and gives what is left of them.
    fn take<'b>(&self, sink: Sink, bytes: &'b [u8]) -> Result<(Sink, &'b [u8]), Failure> {
        let after = |taken: usize| bytes.get(taken..).unwrap_or_default();
        Ok(match sink {
            Sink::Plain(mut bounded) => {
                bounded.write_all(bytes).map_err(|_| Failure::TooLarge(self.limit))?;
                (Sink::Plain(bounded), after(bytes.len()))
            }
            Sink::Gzip(mut decoder) => match decoder.write(bytes) {
                Ok(0) => (Sink::Between(self.member(*decoder)?, 0), bytes),
                Ok(taken) => (Sink::Gzip(decoder), after(taken)),
                Err(_) => return Err(self.broken(decoder.get_ref())),
            },
            Sink::Between(bounded, begun) if bytes.first() != MEMBER.get(begun) => (Sink::Rest(bounded), bytes),
            Sink::Between(bounded, 0) => (Sink::Between(bounded, 1), after(1)),
            Sink::Between(bounded, _) => {
                let mut decoder = Box::new(GzDecoder::new(bounded));
                decoder.write_all(&MEMBER).map_err(|_| damaged())?;
                (Sink::Gzip(decoder), after(1))
            }
            Sink::Deflate(bounded, mut begun) => {
                begun.extend(bytes.first());
                let [first, second] = *begun.as_slice() else { return Ok((Sink::Deflate(bounded, begun), after(1))) };
                let framed = first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
                let (sink, _) = self.inflate(bounded, Box::new(Decompress::new(framed)), &begun)?;
                (sink, after(1))
            }
            Sink::Inflate(bounded, stream) => {
                let (sink, taken) = self.inflate(bounded, stream, bytes)?;
                (sink, after(taken))
            }
            Sink::Rest(bounded) => (Sink::Rest(bounded), after(bytes.len())),
        })
    }

    /// Unpacks all of the bytes, or those up to the end of the stream: so many.
    fn inflate(
        &self,
        mut bounded: Bounded,
        mut stream: Box<Decompress>,
        bytes: &[u8],
    ) -> Result<(Sink, usize), Failure> {
        let mut piece = [0; PIECE];
        let mut taken = 0;
        loop {
            let left = bytes.get(taken..).unwrap_or_default();
            let (before, made_before) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(left, &mut piece, FlushDecompress::None).map_err(|_| damaged())?;
            let count = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
            let (used, made) = (count(stream.total_in(), before), count(stream.total_out(), made_before));
            let made = piece.get(..made).unwrap_or_default();
            bounded.write_all(made).map_err(|_| Failure::TooLarge(self.limit))?;
            taken += used;
            if status == Status::StreamEnd {
                return Ok((Sink::Rest(bounded), taken));
            }
            if used == 0 && made.is_empty() {
                return if taken >= bytes.len() { Ok((Sink::Inflate(bounded, stream), taken)) } else { Err(damaged()) };
            }
        }
    }

    /// A member of gzip that has come to its end: its sums are held against what they are of.
    fn member(&self, mut decoder: GzDecoder<Bounded>) -> Result<Bounded, Failure> {
        match decoder.try_finish() {
            Ok(()) => {
                let empty = Bounded { bytes: Vec::new(), limit: self.limit, over: false };
                Ok(std::mem::replace(decoder.get_mut(), empty))
            }
            Err(_) => Err(self.broken(decoder.get_ref())),
        }
    }

    fn broken(&self, bounded: &Bounded) -> Failure {
        if bounded.over { Failure::TooLarge(self.limit) } else { damaged() }
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, Failure> {
        let sink = std::mem::replace(&mut self.sink, Sink::Rest(Bounded { bytes: Vec::new(), limit: 0, over: false }));
        match sink {
            Sink::Plain(bounded) | Sink::Between(bounded, _) | Sink::Rest(bounded) => Ok(bounded.bytes),
            // Some servers mark the absence of a body as zipped.
            _ if self.raw == 0 => Ok(Vec::new()),
            Sink::Gzip(decoder) => self.member(*decoder).map(|bounded| bounded.bytes),
            Sink::Deflate(..) | Sink::Inflate(..) => Err(damaged()),
        }
    }
}

fn damaged() -> Failure {
    Failure::after("the zipped body of the answer is damaged or cut short")
}
