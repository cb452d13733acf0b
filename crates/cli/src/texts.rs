//! The one reader for the text files that the program takes: policies, answers, what an editor leaves.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What some programs write at the start of a text file. It is no part of the text.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// The marks of UTF-16.
const WIDE_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Reads a whole text. The error is a sentence that begins with `what`.
pub fn read(path: &Path, what: &str, longest: usize) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("{what} cannot be read: {error}");
    if path.metadata().map_err(cannot)?.is_dir() {
        return Err(format!("{what} is a directory, not a file"));
    }
    let mut bytes = Vec::new();
    let most = (longest + MARK.len()) as u64;
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    let text = text(bytes, what)?;
    if text.len() > longest {
        return Err(format!("{what} is longer than {longest} bytes"));
    }
    Ok(text)
}

/// The text that the bytes of a file hold.
fn text(mut bytes: Vec<u8>, what: &str) -> Result<String, String> {
    unmark(&mut bytes);
    utf8(bytes, what)
}

/// The text that bytes are.
pub fn utf8(bytes: Vec<u8>, what: &str) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let wide = WIDE_MARKS.iter().any(|mark| error.as_bytes().starts_with(mark));
        let wide = if wide { "; it begins with the mark of UTF-16" } else { "" };
        format!("{what} is not UTF-8 text (byte {}){wide}", error.utf8_error().valid_up_to() + 1)
    })
}

/// Takes the mark away from the bytes at the start of a file.
pub fn unmark(bytes: &mut Vec<u8>) {
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_no_part_of_the_text() {
        assert_eq!(text(b"\xef\xbb\xbfAda\r\n".to_vec(), "it").as_deref(), Ok("Ada\r\n"));
        assert_eq!(text(b"A\xef\xbb\xbf".to_vec(), "it").as_deref(), Ok("A\u{feff}"));
        let wide = text(b"\xff\xfeA\0".to_vec(), "it").unwrap_err();
        assert!(wide.contains("UTF-16") && wide.contains("byte 1"), "{wide}");
        assert!(text(b"Ren\xe9".to_vec(), "it").unwrap_err().contains("byte 4"));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, b"\xef\xbb\xbf12345").unwrap();
        assert_eq!(read(&file, "it", 5).as_deref(), Ok("12345"));
        assert!(read(&file, "it", 4).unwrap_err().contains("longer than 4"));
        assert!(read(dir.path(), "it", 4).unwrap_err().contains("directory"));
        assert!(read(&dir.path().join("b"), "it", 4).unwrap_err().contains("cannot be read"));
    }
}
