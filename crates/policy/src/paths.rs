//! Guest paths and host paths as text. Nothing here looks at a file system.

use std::path::{Component, Path, PathBuf};

use crate::nearest::quoted;

/// The longest path that a guest may name, in bytes.
pub const MAX_GUEST_PATH: usize = 4096;
/// The longest host path that a policy may name, in bytes.
pub const MAX_HOST_PATH: usize = 4096;

/// The first component of a guest path and the text after it. Empty components and `.` are passed over.
fn next_component(path: &str) -> Option<(&str, &str)> {
    let mut rest = path;
    loop {
        let start = rest.trim_start_matches('/');
        if start.is_empty() {
            return None;
        }
        let (component, after) = start.split_at(start.find('/').unwrap_or(start.len()));
        if component != "." {
            return Some((component, after));
        }
        rest = after;
    }
}

/// If `path` is in the mount: how many components the mount has, and the rest of the path without a leading
/// slash. A `..` never matches a component of a mount.
pub(crate) fn below<'p>(mount: &str, path: &'p str) -> Option<(usize, &'p str)> {
    let (mut mount, mut path, mut depth) = (mount, path, 0);
    while let Some((name, mount_rest)) = next_component(mount) {
        let (component, rest) = next_component(path)?;
        if component != name || name == ".." {
            return None;
        }
        (mount, path, depth) = (mount_rest, rest, depth + 1);
    }
    Some((depth, path.trim_start_matches('/')))
}

/// Whether the rest of a path below a mount can only name a directory.
pub(crate) fn is_directory(relative: &str) -> bool {
    relative.is_empty() || relative.ends_with('/')
}

/// A guest path for a mount in its one spelling (`/`, `/data/in`), or what is wrong with it.
pub(crate) fn mount(guest: &str) -> Result<String, String> {
    if !guest.starts_with('/') {
        return Err(format!("guest path {} must start with `/`", quoted(guest)));
    }
    if guest.contains('\0') {
        return Err(format!("guest path {} holds a NUL character", quoted(guest)));
    }
    if guest.len() > MAX_GUEST_PATH {
        return Err(format!("guest path {} is over {MAX_GUEST_PATH} bytes", quoted(guest)));
    }
    let (mut rest, mut normal) = (guest, String::new());
    while let Some((component, after)) = next_component(rest) {
        if component == ".." {
            return Err(format!("guest path {} holds `..`", quoted(guest)));
        }
        normal.push('/');
        normal.push_str(component);
        rest = after;
    }
    Ok(if normal.is_empty() { "/".to_owned() } else { normal })
}

/// The directory of a guest path that no mount holds, for a remedy: `/etc/passwd` → `/etc`.
pub(crate) fn parent(path: &str) -> String {
    let (mut rest, mut stack) = (path, Vec::new());
    while let Some((component, after)) = next_component(rest) {
        if component == ".." {
            stack.pop();
        } else {
            stack.push(component);
        }
        rest = after;
    }
    stack.pop();
    format!("/{}", stack.join("/"))
}

/// A host path made absolute against `base` and without `.` and `..`, or what is wrong with it.
///
/// `..` is resolved as text, so that what a check sees is what is opened later, whatever links there are.
pub(crate) fn host(base: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the host path is empty".to_owned());
    }
    if text.contains('\0') {
        return Err(format!("host path {} holds a NUL character", quoted(text)));
    }
    if text.len() > MAX_HOST_PATH {
        return Err(format!("host path {} is over {MAX_HOST_PATH} bytes", quoted(text)));
    }
    let path = plain(&base.join(text));
    if !path.is_absolute() {
        return Err(format!("host path {} is relative to a directory that is not absolute", quoted(text)));
    }
    if path.to_str().is_none() {
        return Err(format!("host path {} is in a directory whose name is not UTF-8", quoted(text)));
    }
    Ok(path)
}

/// A path without `.` and, as text, without `..`.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
