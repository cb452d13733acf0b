//! `read_file`: a whole regular file of a granted directory.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use parole_durable::EffectClass;
use parole_policy::{Arguments, Capability, GrantKey, GuestPath, Kind, Level, READ_FILE_ARGUMENTS, ScopeKind, Timeout};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::question;
use crate::call::scope::Scope;
use crate::call::{Begin, CallRequest, Form, Formless, Gate, OUTPUT_DELAY};
use crate::capability::person;
use crate::clock;
use crate::error::{Refused, json};
use crate::lack::lack;
use crate::{Entry, Error, Execution, Payload, Stop, StoreData};

/// The default of `max_bytes`, used where a policy has none.
const MAX_BYTES: u64 = 8 << 20;
/// The clock is looked at between pieces of this size.
const PIECE: u64 = 1 << 20;

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "read_file",
        interface: "parole:capabilities/read-file@0.1.0",
        level: Level::Restricted,
        kind: Kind::Host,
        scope: ScopeKind::Path,
        grant_keys: &[GrantKey::Dirs, GrantKey::MaxBytes, GrantKey::TimeoutMs],
        default_timeout: Timeout::After(10_000),
        summary: "reads a file of a granted directory",
        arguments: READ_FILE_ARGUMENTS,
    },
    functions: &[("read_file", EffectClass::Read)],
    wit: include_str!("../../../../wit/read-file.wit"),
    link,
    payload: Payload::Bytes,
    summary: |arguments| person::field(arguments, "path"),
    answer: None,
    done: question::bytes,
};

#[derive(Serialize)]
struct RecordedArguments<'a> {
    path: &'a str,
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("read-file", |store: StoreContextMut<'_, StoreData>, (path,): (String,)| {
        plain(&store, |execution| async move { Ok((read_file(&execution, &path).await?,)) })
    })
}

async fn read_file(execution: &Execution, path: &str) -> wasmtime::Result<Result<Vec<u8>, Error>> {
    let arguments = json(&RecordedArguments { path });
    let open = match execution.with(|state| state.begin("read_file", EffectClass::Read, &arguments))? {
        Begin::Answered(answer) => return Ok(answer),
        Begin::Open(open) => open,
    };
    let name = formed(path);
    let typed = name.as_ref().map(|path| Arguments::Read { path });
    let form = name
        .as_ref()
        .map_or_else(|_| Form::given(&arguments), |path| Form::of(json(&RecordedArguments { path: path.as_str() })));
    let call = CallRequest {
        entry: &ENTRY,
        typed: typed.as_ref().map_err(|formless| *formless),
        arguments: &form,
        shown: None,
    };
    let permitted = match execution.authorize(open, &call).await? {
        Gate::Go(permitted) => permitted,
        Gate::Done(answer) => return Ok(answer),
    };
    let grant = permitted.grant(ENTRY.capability.name);
    let max = grant.and_then(|grant| grant.max_bytes).unwrap_or(MAX_BYTES);
    let timeout = grant.and_then(|grant| grant.timeout.as_millis()).map(Duration::from_millis);
    let dirs = permitted.scope.dirs.get(ENTRY.capability.name);
    let path = name.as_ref().map_or(path, GuestPath::as_str);
    let links = Links::of(&permitted.scope, &ENTRY);
    let result = match dirs.zip(permitted.leave.dir).and_then(|(dirs, dir)| dirs.get(dir)?.as_ref()) {
        Some(dir) => {
            let below = permitted.leave.below(path);
            // On the thread of the guest, which is what a small file costs least on.
            let read = match execution.with(|state| state.has_unshown()) {
                false => read(dir, below, links, max, timeout),
                true => Box::pin(aside(execution, dir, (below, links), max, timeout)).await?,
            };
            match read {
                Err(Unread::Lack(what)) => {
                    return Err(Box::pin(execution.withdraw(&permitted.open, Stop::Lack(what))).await.into());
                }
                Err(Unread::Told(error)) => Err(error),
                Ok(bytes) => Ok(bytes),
            }
        }
        None => Err(Error::Failed("the granted directory is not open".into())),
    };
    if let Err(error @ Error::Denied(_)) = result {
        return Ok(Err(execution.with(|state| state.refuse(permitted.open, outside(&ENTRY, path, links, error)))?));
    }
    execution.conclude(permitted.open, &result).await?;
    Ok(result)
}

/// Why there are no bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The host is short of this: no answer to the guest.
    Lack(&'static str),
    Told(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Told(error)
    }
}

fn unread(error: &std::io::Error, path: &str) -> Unread {
    lack(error).map_or_else(|| Unread::Told(failed(error, path)), Unread::Lack)
}

/// Reads on a thread for that: while output waits to be shown, a file system that hangs must not hold it up.
async fn aside(
    execution: &Execution,
    dir: &Dir,
    (path, links): (&str, Links),
    max: u64,
    timeout: Option<Duration>,
) -> Result<Result<Vec<u8>, Unread>, Stop> {
    let (dir, path) = match dir.try_clone() {
        Ok(dir) => (dir, path.to_owned()),
        Err(error) => return Ok(Err(unread(&error, path))),
    };
    let mut work = tokio::task::spawn_blocking(move || read(&dir, &path, links, max, timeout));
    let done = match tokio::time::timeout(OUTPUT_DELAY, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            execution.show_meanwhile().await?;
            work.await
        }
    };
    Ok(done.unwrap_or_else(|_| Err(Error::Failed("the host could not do it".into()).into())))
}

/// The one form of a path, or why there is none.
pub(crate) fn formed(path: &str) -> Result<GuestPath, Formless> {
    GuestPath::read(path).map_err(|denial| Formless { argument: path.to_owned(), denial })
}

/// What is done about links on the way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are followed where they lead to something beneath the granted directory.
    Follow,
    /// They are not: something has decided about the name, and that is what is opened.
    Refuse,
}

impl Links {
    pub(crate) fn of(scope: &Scope, entry: &Entry) -> Self {
        if scope.looks(entry.capability.name).path { Links::Refuse } else { Links::Follow }
    }
}

/// Resolves the path beneath the handle, never by joined text, and takes only plain files:
/// what is opened is what was looked at, or it is refused.
fn read(dir: &Dir, path: &str, links: Links, max: u64, timeout: Option<Duration>) -> Result<Vec<u8>, Unread> {
    let started = clock::now();
    let mut file = match links {
        Links::Follow => open(dir, path)?,
        Links::Refuse => open_itself(dir, path)?,
    };
    let metadata = file.metadata().map_err(|error| unread(&error, path))?;
    plain_file(&metadata, path)?;
    if metadata.len() > max {
        return Err(Error::TooLarge(max).into());
    }
    let mut bytes = Vec::new();
    let whole = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(whole).map_err(|_| Unread::Lack(crate::lack::MEMORY))?;
    loop {
        let before = bytes.len();
        let left = max.saturating_add(1) - before as u64;
        (&mut file).take(left.min(PIECE)).read_to_end(&mut bytes).map_err(|error| unread(&error, path))?;
        if bytes.len() as u64 > max {
            return Err(Error::TooLarge(max).into());
        }
        if bytes.len() == before {
            return Ok(bytes);
        }
        if timeout.is_some_and(|timeout| clock::now().saturating_duration_since(started) > timeout) {
            return Err(Error::Expired.into());
        }
    }
}

fn open(dir: &Dir, path: &str) -> Result<File, Unread> {
    // Opening a pipe or a device can have effects of its own, so look first.
    plain_file(&dir.metadata(path).map_err(|error| unread(&error, path))?, path)?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(QUIET.bits().cast_signed());
    dir.open_with(path, &options).map_err(|error| unread(&error, path))
}

/// For files that turn out to be something else.
const QUIET: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Opens the file that has this name, and no link in its place.
fn open_itself(dir: &Dir, path: &str) -> Result<File, Unread> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = directory_itself(dir, parent, path)?;
    let failed = |errno: rustix::io::Errno| unread(&errno.into(), path);
    match FileType::from_raw_mode(statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(through_link(path).into()),
        _ => return Err(not_plain(path).into()),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | QUIET;
    let file: OwnedFd = openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
    Ok(File::from_std(file.into()))
}

/// The directory of this name below another one, with no link on the way: `path`, without its last name, has neither
/// `..` nor `.` in it.
pub(crate) fn directory_itself(dir: &Dir, parent: &str, path: &str) -> Result<Dir, Unread> {
    let mut here = dir.try_clone().map_err(|error| unread(&error, path))?;
    for name in parent.split('/').filter(|name| !name.is_empty()) {
        // What is no directory, a link too, is an error.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(&here, name, flags, Mode::empty()).map_err(|errno| {
            let there = statat(&here, name, AtFlags::SYMLINK_NOFOLLOW);
            let link = there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Symlink);
            if link { through_link(path).into() } else { unread(&errno.into(), path) }
        })?;
        here = Dir::from_std_file(next.into());
    }
    Ok(here)
}

/// A link where a name was decided on.
fn through_link(path: &str) -> Error {
    Error::Denied(format!("`{path}` leads through a link, and its name is what was decided on"))
}

fn plain_file(metadata: &cap_std::fs::Metadata, path: &str) -> Result<(), Error> {
    if metadata.is_file() { Ok(()) } else { Err(not_plain(path)) }
}

pub(crate) fn not_plain(path: &str) -> Error {
    Error::Invalid(format!("`{path}` is not a plain file"))
}

/// The record of a path that the policy allowed and the file system did not.
pub(crate) fn outside(entry: &Entry, path: &str, links: Links, error: Error) -> Refused {
    let remedy = match links {
        Links::Follow => {
            "none for this path: grant the directory that it leads to, or give yourself the right to the file"
        }
        Links::Refuse => {
            "none for this path: a rule, a check or a person decides about names here, so no link is followed: the guest \
             has to name the file itself, in a granted directory"
        }
    };
    Refused { capability: entry.capability.name.into(), argument: Some(path.into()), error, remedy: remedy.into() }
}

/// What the guest is told of an I/O error: never a path of the host, and of what lies outside only that it does.
pub(crate) fn failed(error: &std::io::Error, path: &str) -> Error {
    use std::io::ErrorKind;
    // A link of the kernel's own making (/proc/self/cwd) is ELOOP where `openat2` resolves.
    let outside = [rustix::io::Errno::XDEV, rustix::io::Errno::LOOP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        || (error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none());
    match error.kind() {
        _ if outside => Error::Denied(format!("`{path}` leads outside the granted directory")),
        ErrorKind::NotFound => Error::NotFound,
        ErrorKind::PermissionDenied => Error::Denied(format!("the operating system denies `{path}`")),
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => not_plain(path),
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => Error::Invalid(format!("`{path}` is not a file name")),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Failed("no space left on the device".into()),
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Error::Failed("an input/output error of the device".into())
        }
        kind => Error::Failed(kind.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_a_limit() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(scratch.path(), cap_std::ambient_authority()).unwrap();
        dir.write("five", "12345").unwrap();
        for links in [Links::Follow, Links::Refuse] {
            for max in [5, 6, u64::MAX - 1, u64::MAX] {
                assert_eq!(read(&dir, "five", links, max, None), Ok(b"12345".to_vec()));
            }
            for max in [0, 4] {
                assert_eq!(read(&dir, "five", links, max, None), Err(Error::TooLarge(max).into()));
            }
        }
    }

    #[test]
    fn a_name_that_was_decided_on_is_what_is_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(scratch.path(), cap_std::ambient_authority()).unwrap();
        dir.create_dir_all("a/b").unwrap();
        dir.write("a/b/f", "text").unwrap();
        for (to, link) in
            [("a", "dir"), ("b/f", "a/file"), ("../a/b", "a/up"), ("nowhere", "dangling"), ("self", "self")]
        {
            dir.symlink(to, link).unwrap();
        }
        let said = |links, path| match read(&dir, path, links, 100, None) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(Unread::Told(Error::Denied(reason))) if reason.contains("through a link") => "link".to_owned(),
            Err(Unread::Told(error)) => error.to_string(),
            Err(Unread::Lack(what)) => what.to_owned(),
        };
        for (path, followed, itself) in [
            ("a/b/f", "text", "text"),
            ("dir/b/f", "text", "link"),
            ("a/file", "text", "link"),
            ("a/up/f", "text", "link"),
            ("dir/up/f", "text", "link"),
            ("dangling", "not found", "link"),
            ("a/b/none", "not found", "not found"),
            ("a/none/f", "not found", "not found"),
            ("a/b", "invalid: `a/b` is not a plain file", "invalid: `a/b` is not a plain file"),
            ("a/b/f/g", "invalid: `a/b/f/g` is not a plain file", "invalid: `a/b/f/g` is not a plain file"),
        ] {
            assert_eq!(
                (said(Links::Follow, path).as_str(), said(Links::Refuse, path).as_str()),
                (followed, itself),
                "{path}"
            );
        }
        assert_eq!(said(Links::Refuse, "self"), "link");
    }
}
