//! `write_file`: replaces a file of a granted directory atomically.

use std::io::Write as _;
use std::time::Duration;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, PermissionsExt as _};
use parole_durable::{Digest, Effect, PromiseId};
use parole_policy::{Arguments, Capability, GrantKey, Kind, Level, Permit, Timeout};
use rustix::fs::OFlags;
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::execution::Begin;
use crate::read_file::{failed, not_plain};
use crate::types::json;
use crate::{Entry, Error, Execution, Payload, person};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "write_file",
        interface: "parole:capabilities/write-file@0.1.0",
        level: Level::Standard,
        kind: Kind::Host,
        grant_keys: &[GrantKey::Dirs, GrantKey::Quota, GrantKey::MaxFiles, GrantKey::TimeoutMs],
        default_timeout: Timeout::After(10_000),
        summary: "replaces a file of a granted directory",
    },
    functions: &[("write_file", Effect::Idempotent)],
    wit: include_str!("../../../wit/write-file.wit"),
    link,
    payload: Payload::Unit,
    summary: |arguments| person::field(arguments, "path"),
    answer: None,
};

/// The contents are recorded by size and digest: at a repetition the guest brings them again.
#[derive(Serialize)]
struct Question<'a> {
    path: &'a str,
    bytes: usize,
    digest: Digest,
}

fn link(instance: &mut LinkerInstance<'_, Execution>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "write-file",
        |mut store: StoreContextMut<'_, Execution>, (path, contents): (String, Vec<u8>)| {
            Box::new(async move { Ok((write_file(store.data_mut(), &path, contents).await?,)) })
        },
    )
}

async fn write_file(execution: &mut Execution, path: &str, contents: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
    let bytes = contents.len() as u64;
    let arguments = json(&Question { path, bytes: contents.len(), digest: Digest::of(&contents) });
    let open = match execution.begin("write_file", Effect::Idempotent, &arguments)? {
        Begin::Answered(answer) => {
            if answer.is_ok() {
                execution.written.add(bytes);
            }
            return Ok(answer.map(|_| ()));
        }
        Begin::Open(open) => open,
    };
    let scope = execution.scope();
    let permit = match execution.decide(&scope, &ENTRY, &Arguments::Write { path, bytes }, &arguments) {
        Ok(permit) => permit,
        Err(refused) => return Ok(Err(execution.refuse(open, refused)?)),
    };
    let dirs = scope.dirs.get(ENTRY.capability.name);
    let dir = dirs.zip(permit.dir).and_then(|(dirs, dir)| dirs.get(dir)).map(Dir::try_clone);
    let result = match (execution.within_quota(&permit, bytes), dir) {
        (Err(error), _) => Err(error),
        (Ok(()), Some(Ok(dir))) => {
            execution.admit(&open).await?;
            let key = execution.key(&open, ENTRY.capability.name);
            let timeout = permit.grant.and_then(|grant| grant.timeout.as_millis());
            replace_elsewhere(dir, permit.relative.to_owned(), contents, key, timeout).await
        }
        (Ok(()), _) => Err(Error::Failed("the granted directory is not open".into())),
    };
    if result.is_ok() {
        execution.written.add(bytes);
    }
    execution.finish(open, None, &result.clone().map(|()| Vec::new()))?;
    Ok(result)
}

impl crate::execution::Written {
    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.files = self.files.saturating_add(1);
    }
}

impl Execution {
    fn within_quota(&self, permit: &Permit<'_>, bytes: u64) -> Result<(), Error> {
        let Some(grant) = permit.grant else { return Ok(()) };
        if let Some(quota) = grant.quota
            && self.written.bytes.saturating_add(bytes) > quota
        {
            return Err(Error::Exhausted(format!("write_file: the quota is {quota} bytes")));
        }
        if let Some(most) = grant.max_files
            && self.written.files >= most
        {
            return Err(Error::Exhausted(format!("write_file: the quota is {most} files")));
        }
        Ok(())
    }
}

/// Files are synced to the disk, which blocks: so on a thread for that.
async fn replace_elsewhere(
    dir: Dir,
    path: String,
    contents: Vec<u8>,
    key: PromiseId,
    timeout: Option<u64>,
) -> Result<(), Error> {
    let work = tokio::task::spawn_blocking(move || replace(&dir, &path, &contents, &key));
    let timeout = timeout.map_or(Duration::MAX, Duration::from_millis);
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Failed("the host could not do it".into())),
        Err(_) => Err(Error::Failed("it took too long; it may still happen".into())),
    }
}

/// Writes beside the file under a name that only this call has, syncs, renames over it, and
/// syncs the directory: whoever looks sees the old contents or the new ones. A repetition
/// after a crash finds and replaces its own unfinished file.
fn replace(dir: &Dir, path: &str, contents: &[u8], key: &PromiseId) -> Result<(), Error> {
    let failed = |error: std::io::Error| failed(&error, path);
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "" | "." | "..") {
        return Err(not_plain(path));
    }
    let parent = match parent.trim_end_matches('/') {
        "" => dir.try_clone().map_err(failed)?,
        parent => dir.open_dir(parent).map_err(failed)?,
    };
    let mut mode = 0o666;
    match parent.symlink_metadata(name) {
        Ok(there) if there.is_file() => mode = there.permissions().mode() & 0o777,
        Ok(_) => return Err(not_plain(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let unfinished = format!(".parole-{}.tmp", key.as_str().rsplit(':').next().unwrap_or_default());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = match parent.open_with(&unfinished, &options) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            parent.remove_file(&unfinished).map_err(failed)?;
            parent.open_with(&unfinished, &options).map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    let written = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| parent.rename(&unfinished, &parent, name));
    if let Err(error) = written {
        let _ = parent.remove_file(&unfinished);
        return Err(failed(error));
    }
    parent.open(".").and_then(|dir| dir.sync_all()).map_err(failed)
}
