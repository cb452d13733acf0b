//! Paths of the machine that built a file, left inside it.

use std::env;
use std::path::Path;

use anyhow::{Result, bail};

/// Wherever it was built, none of these belongs into a file for others.
const ALWAYS: &[&str] = &["/root/", "/home/", "/Users/", "\\Users\\", ".cargo", "registry/src", "rustlib"];

/// Fails if the file names a place of a machine.
pub(crate) fn refuse(name: &str, bytes: &[u8], root: &Path) -> Result<()> {
    let mut needles: Vec<String> = ALWAYS.iter().map(ToString::to_string).collect();
    needles.push(root.to_string_lossy().into_owned());
    for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        needles.extend(env::var(variable).ok().filter(|path| path.len() > 1));
    }

    let found: Vec<_> = strings(bytes).filter(|text| needles.iter().any(|needle| text.contains(needle))).collect();
    if !found.is_empty() {
        bail!("{name} holds paths of the machine that built it:\n  {}", found.join("\n  "));
    }
    Ok(())
}

/// Runs of printable ASCII, like strings(1).
fn strings(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|byte| !(b' '..=b'~').contains(byte))
        .filter(|run| run.len() >= 4)
        .filter_map(|run| str::from_utf8(run).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_path_among_bytes() {
        let root = Path::new("/src/parole");
        assert!(refuse("a", b"\0asm\x01/src/parole/x.rs\0", root).is_err());
        assert!(refuse("a", b"\0asm\x01/home/ada/x.rs\0", root).is_err());
        assert!(refuse("a", b"\0asm\x01Hello, /data/in.txt\0", root).is_ok());
    }
}
