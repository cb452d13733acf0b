//! `write_file`: replaces a file of a granted directory atomically.

use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use parole_durable::{Digest, EffectClass, PromiseId};
use parole_policy::{
    Arguments, Capability, Grant, GrantKey, GuestPath, Kind, Level, ScopeKind, Timeout, WRITE_FILE_ARGUMENTS,
};
use rustix::fs::OFlags;
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::backends::files::kept::Kept;
use crate::backends::files::unfinished::{self, parent_of};
use crate::call::door::plain;
use crate::call::question;
use crate::call::scope::Scope;
use crate::call::{Begin, CallRequest, Form, Gate, PermittedCall, was_begun};
use crate::capability::person;
use crate::capability::read_file::{Links, Unread, directory_itself, failed, formed, not_plain, outside};
use crate::clock;
use crate::error::{base64, json};
use crate::lack::lack;
use crate::{Entry, Error, Execution, Payload, Stop, StoreData};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "write_file",
        interface: "parole:capabilities/write-file@0.1.0",
        level: Level::Standard,
        kind: Kind::Host,
        scope: ScopeKind::Path,
        grant_keys: &[GrantKey::Dirs, GrantKey::Quota, GrantKey::MaxFiles, GrantKey::TimeoutMs],
        default_timeout: Timeout::After(10_000),
        summary: "replaces a file of a granted directory",
        arguments: WRITE_FILE_ARGUMENTS,
    },
    functions: &[("write_file", EffectClass::Idempotent)],
    wit: include_str!("../../../../wit/write-file.wit"),
    link,
    payload: Payload::Unit,
    summary: |arguments| person::field(arguments, "path"),
    answer: None,
    done: question::unit,
};

/// The contents are recorded by size and digest: at a repetition the guest brings them again.
#[derive(Serialize)]
struct RecordedArguments<'a> {
    path: &'a str,
    bytes: usize,
    digest: Digest,
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "write-file",
        |store: StoreContextMut<'_, StoreData>, (path, contents): (String, Vec<u8>)| {
            plain(&store, |execution| async move { Ok((write_file(&execution, &path, contents).await?,)) })
        },
    )
}

async fn write_file(execution: &Execution, path: &str, contents: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
    let bytes = contents.len() as u64;
    let recorded = RecordedArguments { path, bytes: contents.len(), digest: Digest::of(&contents) };
    let arguments = json(&recorded);
    let open = match execution.with(|state| state.begin("write_file", EffectClass::Idempotent, &arguments))? {
        Begin::Answered(answer) => return Ok(execution.with(|state| state.written.charge_answer(bytes, answer))),
        Begin::Open(open) => open,
    };
    let key = execution.with(|state| state.key(&open, ENTRY.capability.name));
    let begun = was_begun(&open);
    let name = formed(path);
    let typed = name.as_ref().map(|path| Arguments::Write { path, bytes, contents: &contents });
    let form = name.as_ref().map_or_else(
        |_| Form::given(&arguments),
        |path| Form::of(json(&RecordedArguments { path: path.as_str(), ..recorded })),
    );
    let path = name.as_ref().map_or(path, GuestPath::as_str);
    let shown = || serde_json::json!({ "path": path, "contents": base64(&contents) });
    let typed = typed.as_ref().map_err(|formless| *formless);
    let call = CallRequest { entry: &ENTRY, typed, arguments: &form, shown: Some(&shown) };
    let gate = match execution.authorize(open, &call).await? {
        Gate::Go(permitted) => execution.taken_on(permitted, &call, bytes).await?,
        gate => gate,
    };
    let permitted = match gate {
        Gate::Go(permitted) => permitted,
        Gate::Done(answer) => {
            if begun {
                forget_unfinished(execution, path, &key).await?;
            }
            return Ok(execution.with(|state| state.written.charge_answer(bytes, answer)));
        }
    };
    let grant = permitted.grant(ENTRY.capability.name).cloned();
    let grant = grant.as_ref();
    let dir = opened(&permitted.scope, permitted.leave.dir);
    if let Some(what) = dir.as_ref().and_then(|dir| lack(dir.as_ref().err()?)) {
        return Err(execution.withdraw(&permitted.open, Stop::Lack(what)).await.into());
    }
    let links = Links::of(&permitted.scope, &ENTRY);
    let below = permitted.leave.below(path).to_owned();
    let PermittedCall { open, .. } = permitted;
    let result = match (execution.with(|state| state.written.fits(grant, bytes)), dir) {
        (Err(error), _) => Err(error),
        (Ok(()), Some(Ok(dir))) => {
            let timeout = grant.and_then(|grant| grant.timeout.as_millis());
            let most = grant.and_then(|grant| grant.max_files);
            let may_make = most.is_none_or(|most| execution.with(|state| state.written.files) < most);
            let file = File { dir, path: below, links, key };
            let mut result = match replace_elsewhere(file, contents, timeout, may_make).await {
                Ok(result) => result,
                Err(what) => return Err(execution.withdraw(&open, Stop::Lack(what)).await.into()),
            };
            if let (Err(Error::Exhausted(_)), Some(most)) = (&result, most) {
                result = Err(Error::Exhausted(format!("write_file: the quota is {most} new files")));
            }
            result
        }
        (Ok(()), _) => Err(Error::Failed("the granted directory is not open".into())),
    };
    execution.with(|state| state.written.charge(bytes, &result));
    if let Err(error @ Error::Denied(_)) = result {
        return Ok(Err(execution.with(|state| state.refuse(open, outside(&ENTRY, path, links, error)))?));
    }
    let payload = |made: bool| if made { MADE.to_vec() } else { Vec::new() };
    execution.conclude(open, &result.clone().map(payload)).await?;
    Ok(result.map(drop))
}

/// What the first attempt of a call that is over may have left is nobody's any more, wherever the grants of that time
/// led.
async fn forget_unfinished(execution: &Execution, path: &str, key: &PromiseId) -> Result<(), Stop> {
    for scope in execution.with(|state| state.scopes_so_far())? {
        if let Some((dir, below)) = unfinished::place(&scope.policy, path)
            && let Some(Ok(dir)) = opened(&scope, Some(dir))
        {
            let key = key.clone();
            let _ = tokio::task::spawn_blocking(move || unfinished::remove(&dir, &below, &key)).await;
        }
    }
    Ok(())
}

/// The granted directory that a call goes by.
fn opened(scope: &Scope, dir: Option<usize>) -> Option<std::io::Result<Dir>> {
    scope.dirs.get(ENTRY.capability.name)?.get(dir?)?.as_ref().map(Dir::try_clone)
}

impl crate::call::Written {
    /// Charges a write of which the recorded answer is at hand, and gives that as the guest has it.
    fn charge_answer(&mut self, bytes: u64, answer: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let answer = answer.map(|made| made == MADE);
        self.charge(bytes, &answer);
        answer.map(drop)
    }

    /// Whether a grant leaves room for a write.
    fn fits(&self, grant: Option<&Grant>, bytes: u64) -> Result<(), Error> {
        let Some(grant) = grant else { return Ok(()) };
        if let Some(quota) = grant.quota
            && self.bytes.saturating_add(bytes) > quota
        {
            return Err(Error::Exhausted(format!("write_file: the quota is {quota} bytes")));
        }
        Ok(())
    }

    /// Takes a call off the quota, whatever came of it, unless its answer says that it never began to
    /// write. The answer alone decides, so that a replay counts the same.
    fn charge(&mut self, bytes: u64, answer: &Result<bool, Error>) {
        // Expired and canceled is only the question about a write.
        if let Err(
            Error::Denied(_)
            | Error::Invalid(_)
            | Error::Exhausted(_)
            | Error::TooLarge(_)
            | Error::Expired
            | Error::Canceled,
        ) = answer
        {
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        // What failed may have made a file.
        self.files = self.files.saturating_add(u64::from(answer.as_ref().is_ok_and(|made| *made) || answer.is_err()));
    }
}

impl Execution {
    /// Takes a write on for which there is room: under the grants of the moment, which may take deciding it again.
    async fn taken_on(
        &self,
        mut permitted: PermittedCall,
        call: &CallRequest<'_>,
        bytes: u64,
    ) -> Result<Gate, crate::Stop> {
        loop {
            let fits = self.with(|state| state.written.fits(permitted.grant(ENTRY.capability.name), bytes)).is_ok();
            if permitted.admitted || !fits {
                return Ok(Gate::Go(permitted));
            }
            match self.admit(permitted, call).await? {
                Ok(permitted) => return Ok(Gate::Go(PermittedCall { admitted: true, ..permitted })),
                Err(Gate::Go(next)) => permitted = next,
                Err(done) => return Ok(done),
            }
        }
    }
}

/// The recorded payload of a write that made a new file; of any other it is empty.
const MADE: &[u8] = &[1];

/// What has become of a write. It moves on once, by whoever comes first: the thread that is about to
/// rename, or the call that gives up.
#[derive(Default)]
pub(crate) struct Progress {
    stage: AtomicU8,
    /// What the host was short of before anything was written, if that is why nothing was.
    lack: OnceLock<&'static str>,
}

const WRITING: u8 = 0;
const RENAMING: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Progress {
    fn to(&self, next: u8) -> bool {
        self.stage.compare_exchange(WRITING, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// How long a write that came to its rename in time may take for the rest.
const REST: Duration = Duration::from_secs(1);

/// A file that is to be replaced.
pub(crate) struct File {
    pub(crate) dir: Dir,
    /// Its name below the directory.
    pub(crate) path: String,
    pub(crate) links: Links,
    /// The id of the call.
    pub(crate) key: PromiseId,
}

/// Files are synced to the disk, which blocks: so on a thread for that. A write that takes too long is
/// given up, and then it does not happen later either.
async fn replace_elsewhere(
    file: File,
    contents: Vec<u8>,
    timeout: Option<u64>,
    may_make: bool,
) -> Result<Result<bool, Error>, &'static str> {
    let progress = Arc::new(Progress::default());
    let shared = Arc::clone(&progress);
    let mut work = tokio::task::spawn_blocking(move || replace(&file, &contents, &shared, may_make));
    let timeout = timeout.map_or(Duration::MAX, Duration::from_millis);
    let mut done = clock::timeout(timeout, &mut work).await;
    if done.is_err() {
        if progress.to(GIVEN_UP) {
            return Ok(Err(too_long()));
        }
        done = clock::timeout(REST, work).await;
    }
    if let Some(what) = progress.lack.get() {
        return Err(what);
    }
    Ok(match done {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Failed("the host could not do it".into())),
        Err(_) => Err(Error::Failed("it took too long; the file may have been replaced".into())),
    })
}

fn too_long() -> Error {
    Error::Failed("it took too long; nothing was written".into())
}

/// What goes wrong once there are bytes on the disk: never a kind of error that says that nothing was begun.
fn failed_late(error: &std::io::Error, path: &str) -> Error {
    match failed(error, path) {
        Error::Denied(text) | Error::Invalid(text) => Error::Failed(text),
        error => error,
    }
}

/// Writes beside the file under a name that only this call has, syncs, renames over it, and
/// syncs the directory: whoever looks sees the old contents or the new ones. A repetition
/// after a crash finds and replaces its own unfinished file.
///
/// Says whether the file is a new one.
pub(crate) fn replace(file: &File, contents: &[u8], progress: &Progress, may_make: bool) -> Result<bool, Error> {
    let File { dir, path, links, key } = file;
    let failed = |error: std::io::Error| {
        if let Some(what) = lack(&error) {
            let _ = progress.lack.set(what);
        }
        failed(&error, path)
    };
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "" | "." | "..") {
        return Err(not_plain(path));
    }
    let parent = match links {
        Links::Follow => parent_of(dir, parent).map_err(failed)?,
        Links::Refuse => directory_itself(dir, parent, path).map_err(|unread| match unread {
            Unread::Told(error) => error,
            Unread::Lack(what) => {
                let _ = progress.lack.set(what);
                Error::Failed(what.into())
            }
        })?,
    };
    let old = match parent.symlink_metadata(name) {
        Ok(there) if there.is_file() => Some(Kept::of(&parent, name, &there).map_err(failed)?),
        Ok(_) => return Err(not_plain(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if old.is_none() && !may_make {
        return Err(Error::Exhausted(String::new()));
    }
    // Opened while there is nothing to take back: it is synced when the name is there.
    let directory = parent.open(".").map_err(failed)?;
    let unfinished = unfinished::name(key);
    let mut options = OpenOptions::new();
    // Nobody else sees the contents before the file has the rights of the old one. The umask has its say about new
    // files only.
    options.write(true).create_new(true).mode(if old.is_some() { 0o600 } else { 0o666 });
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = match parent.open_with(&unfinished, &options) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            parent.remove_file(&unfinished).map_err(failed)?;
            parent.open_with(&unfinished, &options).map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    let kept = old.as_ref().map_or(Ok(()), |old| old.give(&file));
    let written = kept
        .map_err(|what| Error::Failed(format!("`{path}` was not replaced: its {what} cannot be kept")))
        .and_then(|()| {
            file.write_all(contents).and_then(|()| file.sync_all()).map_err(|error| failed_late(&error, path))
        })
        .and_then(|()| if progress.to(RENAMING) { Ok(()) } else { Err(too_long()) })
        .and_then(|()| parent.rename(&unfinished, &parent, name).map_err(|error| not_renamed(&error, path)));
    if let Err(error) = written {
        let _ = parent.remove_file(&unfinished);
        return Err(error);
    }
    let synced = directory.sync_all();
    // The new contents are there; whether they stay there after a power cut is what nobody knows.
    synced.map(|()| old.is_none()).map_err(|error| match failed_late(&error, path) {
        Error::Failed(text) => Error::Failed(format!("{text}; it may have happened")),
        error => error,
    })
}

/// Why the new contents could not take the place of the old. A file that is a mount of its own, as containers have
/// them, can only be written where it lies, and then somebody could see half of it.
fn not_renamed(error: &std::io::Error, path: &str) -> Error {
    let mounted = [rustix::io::Errno::BUSY, rustix::io::Errno::XDEV];
    if mounted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        return Error::Failed(format!(
            "`{path}` is a mount of its own, so it cannot be replaced; its directory can hold others"
        ));
    }
    failed_late(error, path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use cap_std::ambient_authority;

    use super::*;
    use crate::call::Written;

    fn place() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(scratch.path(), ambient_authority()).unwrap();
        (scratch, dir)
    }

    fn of(dir: &Dir, path: &str) -> File {
        let (dir, path) = (dir.try_clone().unwrap(), path.to_owned());
        File { dir, path, links: Links::Follow, key: "write_file:x:y".into() }
    }

    fn names(scratch: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> =
            scratch.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_mode_of_a_file_is_kept_exactly() {
        let (scratch, dir) = place();
        let file = scratch.path().join("f");
        for mode in [0o600, 0o640, 0o666, 0o777, 0o200] {
            fs::write(&file, "old").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            replace(&of(&dir, "f"), b"new", &Progress::default(), true).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, mode, "{mode:o}");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"new");
        }
        // A file that sets the user id hands that on to nobody's new contents.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4711)).unwrap();
        replace(&of(&dir, "f"), b"new", &Progress::default(), true).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o711);
    }

    /// A file that is a mount of its own cannot be renamed over, and what is said of it is that.
    #[test]
    fn a_mount_is_told_as_one() {
        for errno in [rustix::io::Errno::BUSY, rustix::io::Errno::XDEV] {
            let Error::Failed(text) = not_renamed(&errno.into(), "out/f") else { panic!() };
            assert!(text.starts_with("`out/f` is a mount of its own"), "{text}");
        }
        assert_eq!(not_renamed(&rustix::io::Errno::NOENT.into(), "f"), Error::NotFound);
    }

    #[test]
    fn a_name_that_was_decided_on_is_what_is_replaced() {
        let (scratch, dir) = place();
        dir.create_dir_all("a/b").unwrap();
        dir.symlink("a", "link").unwrap();
        let write =
            |path: &str, links| replace(&File { links, ..of(&dir, path) }, path.as_bytes(), &Progress::default(), true);
        assert_eq!(write("link/b/one", Links::Follow), Ok(true));
        for path in ["link/b/two", "link/two"] {
            assert!(matches!(write(path, Links::Refuse), Err(Error::Denied(reason)) if reason.contains("a link")));
        }
        assert_eq!(write("a/b/three", Links::Refuse), Ok(true));
        assert_eq!(write("four", Links::Refuse), Ok(true));
        assert_eq!(write("none/five", Links::Refuse), Err(Error::NotFound));
        assert_eq!(names(&scratch), ["a", "four", "link"]);
        let mut below: Vec<_> =
            fs::read_dir(scratch.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
        below.sort();
        assert_eq!(below, ["one", "three"]);
    }

    #[test]
    fn what_was_given_up_does_not_happen_later() {
        let (scratch, dir) = place();
        fs::write(scratch.path().join("f"), "old").unwrap();
        let progress = Progress::default();
        assert!(progress.to(GIVEN_UP) && !progress.to(RENAMING));
        assert_eq!(replace(&of(&dir, "f"), b"new", &progress, true), Err(too_long()));
        assert_eq!(fs::read(scratch.path().join("f")).unwrap(), b"old");
        assert_eq!(names(&scratch), ["f"]);
    }

    #[test]
    fn a_write_that_takes_too_long_is_given_up() {
        let (scratch, dir) = place();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // The one thread for files is busy.
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let other = tokio::task::spawn_blocking(move || busy.recv());
            let answer = replace_elsewhere(of(&dir, "f"), b"new".to_vec(), Some(20), true).await;
            assert_eq!(answer, Ok(Err(too_long())));
            drop(free);
            assert!(other.await.unwrap().is_err());
            tokio::task::spawn_blocking(|| {}).await.unwrap();
        });
        assert_eq!(names(&scratch), Vec::<String>::new());
    }

    #[test]
    fn the_quota_is_charged_by_the_answer() {
        let mut written = Written::default();
        let text = String::new;
        for answer in [Ok(true), Err(Error::Failed(text())), Err(Error::NotFound), Err(too_long())] {
            written.charge(10, &answer);
        }
        assert_eq!((written.bytes, written.files), (40, 4));
        written.charge(0, &Ok(false));
        assert_eq!((written.bytes, written.files), (40, 4), "a file that was there is not a new one");
        for error in [Error::Denied(text()), Error::Invalid(text()), Error::Exhausted(text()), Error::TooLarge(1)] {
            written.charge(10, &Err(error));
        }
        assert_eq!((written.bytes, written.files), (40, 4));
        let late = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        written.charge(10, &Err(failed_late(&late, "f")));
        assert_eq!(written.files, 5);
        written.charge(u64::MAX, &Ok(false));
        assert_eq!(written.bytes, u64::MAX);
    }
}
