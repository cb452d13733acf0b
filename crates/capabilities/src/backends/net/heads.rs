//! Whether the head of an answer is written as the standard wants it.
//!
//! Heads are read as liberally as browsers read them: a folded line, a line that ends in LF alone, a space before a
//! colon, a line that is no header. Where such a thing is, another reader may see another end of the answer; so what
//! comes after it on the same connection is not believed, and the connection is not used again.

/// Follows the bytes of an answer, those of interim ones (1xx) before it too, until its head is over.
pub(super) struct Heads {
    odd: bool,
    over: bool,
    /// In the status line, and not yet past it.
    first: bool,
    /// It is that of an interim answer: another one follows.
    interim: bool,
    /// The bytes of this line so far.
    length: u32,
    /// The name of this line's header is over.
    named: bool,
    /// The last byte was a CR.
    returned: bool,
}

/// Where the first digit of the status stands in `HTTP/1.1 200`.
const STATUS_AT: u32 = 9;

impl Heads {
    pub(super) fn new() -> Self {
        Self { odd: false, over: false, first: true, interim: false, length: 0, named: false, returned: false }
    }

    /// Takes the next bytes; whether anything was odd so far.
    pub(super) fn look(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.over {
                break;
            }
            self.byte(*byte);
        }
        self.odd
    }

    fn byte(&mut self, byte: u8) {
        if byte == b'\n' {
            self.odd |= !self.returned;
            self.returned = false;
            self.end_of_line();
            return;
        }
        self.odd |= self.returned;
        self.returned = byte == b'\r';
        if self.returned {
            return;
        }
        if self.first {
            if self.length == STATUS_AT {
                self.interim = byte == b'1';
            }
        } else if !self.named {
            self.named = byte == b':';
            self.odd |= if self.named { self.length == 0 } else { !is_token(byte) };
        }
        self.odd |= byte == 0;
        self.length = self.length.saturating_add(1);
    }

    fn end_of_line(&mut self) {
        match (self.length, self.first) {
            // A blank line before the status line.
            (0, true) => self.odd = true,
            (0, false) if self.interim => *self = Self { odd: self.odd, ..Self::new() },
            (0, false) => self.over = true,
            (_, true) => self.first = false,
            (_, false) => self.odd |= !self.named,
        }
        (self.length, self.named) = (0, false);
    }
}

/// A byte of a header's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(head: &str) -> bool {
        let whole = Heads::new().look(head.as_bytes());
        let mut heads = Heads::new();
        let piecewise = head.bytes().fold(false, |_, byte| heads.look(&[byte]));
        assert_eq!(whole, piecewise, "{head:?}");
        whole
    }

    #[test]
    fn oddities_of_a_head_and_none_of_a_body() {
        for plain in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200\r\na: b\r\nx-y:\r\n\r\n",
            "HTTP/1.0 404 Not: Found\r\na: b: c\t d\r\n\r\n\n body : of\nany \0 kind",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\n\r\n x\n",
        ] {
            assert!(!odd(plain), "{plain:?}");
        }
        for strange in [
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\r\na: b\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
            "HTTP/1.1 200 OK\r\na\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\na: b\n\r\n",
        ] {
            assert!(odd(strange), "{strange:?}");
        }
    }
}
