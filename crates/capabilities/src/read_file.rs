//! `read_file`: a whole regular file of a granted directory.

use std::io::Read as _;
use std::time::{Duration, Instant};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use parole_durable::Effect;
use parole_policy::{Arguments, Capability, GrantKey, Kind, Level, READ_FILE_ARGUMENTS, Timeout};
use rustix::fs::OFlags;
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::execution::{Begin, Calling, Gate};
use crate::types::{Refused, json};
use crate::{Entry, Error, Execution, Payload, person, question};

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
        grant_keys: &[GrantKey::Dirs, GrantKey::MaxBytes, GrantKey::TimeoutMs],
        default_timeout: Timeout::After(10_000),
        summary: "reads a file of a granted directory",
        arguments: READ_FILE_ARGUMENTS,
    },
    functions: &[("read_file", Effect::Read)],
    wit: include_str!("../../../wit/read-file.wit"),
    link,
    payload: Payload::Bytes,
    summary: |arguments| person::field(arguments, "path"),
    answer: None,
    done: question::bytes,
};

#[derive(Serialize)]
struct Question<'a> {
    path: &'a str,
}

fn link(instance: &mut LinkerInstance<'_, Execution>) -> wasmtime::Result<()> {
    instance.func_wrap_async("read-file", |mut store: StoreContextMut<'_, Execution>, (path,): (String,)| {
        Box::new(async move { Ok((read_file(store.data_mut(), &path).await?,)) })
    })
}

async fn read_file(execution: &mut Execution, path: &str) -> wasmtime::Result<Result<Vec<u8>, Error>> {
    let arguments = json(&Question { path });
    let open = match execution.begin("read_file", Effect::Read, &arguments)? {
        Begin::Answered(answer) => return Ok(answer),
        Begin::Open(open) => open,
    };
    let typed = Arguments::Read { path };
    let calling = Calling { entry: &ENTRY, typed: &typed, arguments: &arguments, shown: None };
    let passage = match execution.pass(open, &calling).await? {
        Gate::Go(passage) => passage,
        Gate::Done(answer) => return Ok(answer),
    };
    let grant = passage.grant(ENTRY.capability.name);
    let max = grant.and_then(|grant| grant.max_bytes).unwrap_or(MAX_BYTES);
    let timeout = grant.and_then(|grant| grant.timeout.as_millis()).map(Duration::from_millis);
    let dirs = passage.scope.dirs.get(ENTRY.capability.name);
    let result = match dirs.zip(passage.leave.dir).and_then(|(dirs, dir)| dirs.get(dir)?.as_ref()) {
        Some(dir) => read(dir, passage.leave.below(path), max, timeout),
        None => Err(Error::Failed("the granted directory is not open".into())),
    };
    if let Err(error @ Error::Denied(_)) = result {
        return Ok(Err(execution.refuse(passage.open, outside(&ENTRY, path, error))?));
    }
    execution.conclude(passage.open, &result).await?;
    Ok(result)
}

/// Resolves the path beneath the handle, never by joined text, and takes only plain files:
/// what is opened is what was looked at, or it is refused.
fn read(dir: &Dir, path: &str, max: u64, timeout: Option<Duration>) -> Result<Vec<u8>, Error> {
    let started = Instant::now();
    // Opening a pipe or a device can have effects of its own, so look first.
    plain(&dir.metadata(path).map_err(|error| failed(&error, path))?, path)?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    let mut file = dir.open_with(path, &options).map_err(|error| failed(&error, path))?;
    let metadata = file.metadata().map_err(|error| failed(&error, path))?;
    plain(&metadata, path)?;
    if metadata.len() > max {
        return Err(Error::TooLarge(max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    loop {
        let before = bytes.len();
        let left = max.saturating_add(1) - before as u64;
        (&mut file).take(left.min(PIECE)).read_to_end(&mut bytes).map_err(|error| failed(&error, path))?;
        if bytes.len() as u64 > max {
            return Err(Error::TooLarge(max));
        }
        if bytes.len() == before {
            return Ok(bytes);
        }
        if timeout.is_some_and(|timeout| started.elapsed() > timeout) {
            return Err(Error::Expired);
        }
    }
}

fn plain(metadata: &cap_std::fs::Metadata, path: &str) -> Result<(), Error> {
    if metadata.is_file() { Ok(()) } else { Err(not_plain(path)) }
}

pub(crate) fn not_plain(path: &str) -> Error {
    Error::Invalid(format!("`{path}` is not a plain file"))
}

/// The record of a path that the policy allowed and the file system did not.
pub(crate) fn outside(entry: &Entry, path: &str, error: Error) -> Refused {
    Refused {
        capability: entry.capability.name.into(),
        argument: Some(path.into()),
        error,
        remedy: "none for this path: grant the directory that it leads to, or give yourself the right to the file"
            .into(),
    }
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
        for max in [5, 6, u64::MAX - 1, u64::MAX] {
            assert_eq!(read(&dir, "five", max, None), Ok(b"12345".to_vec()));
        }
        for max in [0, 4] {
            assert_eq!(read(&dir, "five", max, None), Err(Error::TooLarge(max)));
        }
    }
}
