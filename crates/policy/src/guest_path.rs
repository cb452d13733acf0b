//! The one form of a path that a guest names.

use crate::{Denial, MAX_GUEST_PATH, denial};

/// A path that a guest named, in its one form: absolute, without `.`, `..` and empty components. A relative path starts
/// at `/`, and `/` has nothing above it. What can only be a directory (`a/`, `a/.`, `a/b/..`) ends in `/`.
///
/// `..` is taken as text, and so it is when the file is opened: whatever links there are, `a/../b` is `b`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GuestPath(String);

impl GuestPath {
    /// Reads a path as a guest spelt it.
    pub fn read(text: &str) -> Result<GuestPath, Denial> {
        if text.len() > MAX_GUEST_PATH || text.as_bytes().contains(&0) {
            return Err(denial::unspeakable(text));
        }
        let (mut names, mut directory) = (Vec::new(), true);
        for name in text.split('/') {
            directory = matches!(name, "" | "." | "..");
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let mut path = String::with_capacity(text.len() + 2);
        for name in names {
            path.push('/');
            path.push_str(name);
        }
        if directory {
            path.push('/');
        }
        // A relative one is longer by its slash.
        if path.len() > MAX_GUEST_PATH { Err(denial::unspeakable(&path)) } else { Ok(GuestPath(path)) }
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether text is a path in its one form that can name a file.
pub(crate) fn is_plain_file(text: &str) -> bool {
    !text.ends_with('/') && GuestPath::read(text).is_ok_and(|path| path.0 == text)
}
