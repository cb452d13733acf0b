//! The compile cache: private, authenticated, and filled by this program alone.
//!
//! An artefact is machine code that the engine runs as it is, so whoever can write one can
//! run code on the host. The directory is private to the user, each file carries an
//! HMAC-SHA256 under a key that never leaves the state directory, and what is checked is
//! the very buffer that is then loaded. Nothing outside the directory is ever deserialised.
//! It is bounded: a new artefact takes the place of the oldest ones.

use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parole_durable::Digest;
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::blame::lack_in;
use crate::compiler::{Bounds, Compiler};
use crate::engine;
use crate::error::Error;

const MAC: usize = 32;
const KEY: usize = 32;
/// What the cache may hold, in bytes.
const CACHE_BYTES: u64 = 1 << 30;
/// What the cache may hold, in artefacts.
const CACHE_FILES: usize = 200;
/// An unfinished file that is older than this was left behind by a crash.
const UNFINISHED: Duration = Duration::from_secs(60 * 60);
/// How often a key that is not whole is looked at: another process may be writing it.
const KEY_LOOKS: u32 = 10;
/// How long between two looks.
const KEY_LOOK: Duration = Duration::from_millis(10);
/// Artefacts of at most this many bytes are loaded where they are needed: a thread for it costs more.
const SMALL: u64 = 1 << 20;

/// The cache of one state directory.
pub(crate) struct Artefacts {
    dir: PathBuf,
    key: [u8; KEY],
}

/// How a component came to be.
pub(crate) struct Loaded {
    pub component: Component,
    /// Whether it had to be compiled.
    pub compiled: bool,
}

impl Artefacts {
    /// Opens or makes the cache in a state directory, whose owner and mode have been checked.
    pub(crate) fn open(state: &Path) -> Result<Self, Error> {
        let dir = state.join("cache");
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(cannot(&dir, &error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(&dir).map_err(|error| cannot(&dir, &error))?;
        let own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_dir() || !own || metadata.mode() & 0o077 != 0 {
            let text = format!("{} must be a directory of yours that nobody else may enter (chmod 700)", dir.display());
            return Err(Error::Store(parole_durable::StoreError::Unfit(text.into())));
        }
        let key = read_or_make_key(&dir.join("key"))?;
        Ok(Self { dir, key })
    }

    /// The component of some bytes: from the cache, or compiled and put there.
    pub(crate) fn load(
        &self,
        engine: &Engine,
        (compiler, bounds): (&Compiler, Bounds),
        guest: &[u8],
        digest: &Digest,
        compiling: impl FnOnce(),
    ) -> Result<Loaded, Error> {
        let path = self.dir.join(self.name(engine, digest));
        if let Some(artefact) = self.read(&path) {
            match deserialize(engine, &artefact[MAC..]) {
                Ok(component) => return Ok(Loaded { component, compiled: false }),
                // To compile it again would help nobody.
                Err(error) => lack_in(&error).map_or(Ok(()), |what| Err(Error::Lack(what)))?,
            }
        }
        compiling();
        let code = compiler.compile(engine, guest, bounds)?;
        let component = deserialize(engine, &code).map_err(|error| match lack_in(&error) {
            Some(what) => Error::Lack(what),
            None => Error::Internal(format!("what was just compiled cannot be loaded: {error:#}")),
        })?;
        if let Err(error) = self.write(&path, &code) {
            tracing::warn!(%error, "the compiled guest cannot be kept");
        }
        Ok(Loaded { component, compiled: true })
    }

    /// The component of some bytes, if it is in the cache and loads in no time.
    pub(crate) fn small(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.dir.join(self.name(engine, digest));
        if fs::metadata(&path).ok()?.len() > SMALL {
            return None;
        }
        deserialize(engine, &self.read(&path)?[MAC..]).ok()
    }

    fn mac(&self) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        Hmac::new_from_slice(&self.key).expect("any key length")
    }

    /// A name that stands for guest, compiler, settings and key.
    fn name(&self, engine: &Engine, digest: &Digest) -> String {
        let mut settings = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        let mut mac = self.mac();
        mac.update(b"name\0");
        mac.update(&digest.0);
        mac.update(&settings.finish().to_be_bytes());
        mac.update(engine::VERSION.as_bytes());
        mac.finalize().into_bytes().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
    }

    fn tag(&self, path: &Path, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac();
        mac.update(b"code\0");
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        mac.update(code);
        mac
    }

    /// An artefact with its tag in front, if there is one and it is ours.
    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let bytes = fs::read(path).ok()?;
        let (tag, code) = bytes.split_at_checked(MAC)?;
        if self.tag(path, code).verify_slice(tag).is_err() {
            tracing::warn!(path = %path.display(), "a cached artefact is not what was written: it is compiled again");
            return None;
        }
        Some(bytes)
    }

    fn write(&self, path: &Path, code: &[u8]) -> std::io::Result<()> {
        let unfinished = path.with_extension(uuid::Uuid::now_v7().simple().to_string());
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let written = file
            .write_all(&self.tag(path, code).finalize().into_bytes())
            .and_then(|()| file.write_all(code))
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written.and_then(|()| self.keep_within(path, CACHE_BYTES, CACHE_FILES))
    }

    /// Removes the oldest artefacts until the cache is within its bounds. `newest` stays.
    fn keep_within(&self, newest: &Path, most_bytes: u64, most_files: usize) -> std::io::Result<()> {
        let mut kept = self.files()?;
        kept.retain(|file| file.finished);
        kept.sort_by_key(|file| (file.path != newest, std::cmp::Reverse(file.modified)));
        let mut bytes = 0u64;
        for (index, file) in kept.into_iter().enumerate() {
            bytes = bytes.saturating_add(file.bytes);
            if index > 0 && (index >= most_files || bytes > most_bytes) {
                remove(&file.path)?;
            }
        }
        Ok(())
    }

    /// What there is beside the key. What another process removes meanwhile is not there.
    fn files(&self) -> std::io::Result<Vec<Kept>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() == "key" {
                continue;
            }
            let path = entry.path();
            match entry.metadata() {
                Ok(metadata) => {
                    let (bytes, modified) = (metadata.len(), metadata.modified()?);
                    files.push(Kept { finished: path.extension().is_none(), path, bytes, modified });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Removes every artefact, and what crashes have left behind. Gives how many bytes that freed.
    pub(crate) fn clear(&self) -> std::io::Result<u64> {
        let now = SystemTime::now();
        let stale = |file: &Kept| now.duration_since(file.modified).is_ok_and(|age| age > UNFINISHED);
        let mut freed = 0;
        for file in self.files()? {
            if (file.finished || stale(&file)) && remove(&file.path)? {
                freed += file.bytes;
            }
        }
        Ok(freed)
    }
}

/// A file of the cache.
struct Kept {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
    /// It is an artefact, not one that is being written.
    finished: bool,
}

/// Removes a file, and says whether it was there.
fn remove(path: &Path) -> std::io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The one place where machine code is loaded.
#[expect(unsafe_code, reason = "the engine cannot check machine code; see the module for why this is ours")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` was made by this program's own compiler for this engine: it comes from
    // it directly, or from a buffer whose HMAC under our private key has been verified.
    unsafe { Component::deserialize(engine, code) }
}

fn read_or_make_key(path: &Path) -> Result<[u8; KEY], Error> {
    let failed = |error: std::io::Error| cannot(path, &error);
    for look in 1..=KEY_LOOKS {
        match read_key(path) {
            Ok(Some(key)) => return Ok(key),
            // A crash between making and filling it, or a disk that lost what was never synced: with
            // such a key nothing was signed that counts.
            Ok(None) if look == KEY_LOOKS => {
                remove(path).map_err(failed)?;
            }
            Ok(None) => {
                std::thread::sleep(KEY_LOOK);
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut key = [0; KEY];
        getrandom::fill(&mut key).map_err(|error| Error::Internal(error.to_string()))?;
        match make_key(path, &key, fs::hard_link) {
            Ok(()) => return Ok(key),
            // Another process was faster.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Error::Internal(format!("{} cannot be made", path.display())))
}

/// The key, or nothing if the file holds none: one that is short, or all zero, as a crash leaves it.
fn read_key(path: &Path) -> std::io::Result<Option<[u8; KEY]>> {
    let mut key = [0; KEY];
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path)?;
    match file.read_exact(&mut key) {
        Ok(()) if key != [0; KEY] => Ok(Some(key)),
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a key in place, unless there is one: a link fails where a rename would replace the key
/// of a process that was faster. File systems without links get the file itself.
fn make_key(path: &Path, key: &[u8], link: fn(PathBuf, PathBuf) -> std::io::Result<()>) -> std::io::Result<()> {
    let fill = |path: &Path| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key).and_then(|()| file.sync_all())
    };
    let unfinished = path.with_extension(uuid::Uuid::now_v7().simple().to_string());
    let made = fill(&unfinished).and_then(|()| match link(unfinished.clone(), path.to_owned()) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => fill(path),
        linked => linked,
    });
    let _ = fs::remove_file(&unfinished);
    made
}

fn cannot(path: &Path, error: &std::io::Error) -> Error {
    Error::Internal(format!("{}: {error}", path.display()))
}

/// Loads what this process has just compiled itself.
pub(crate) fn load_own(engine: &Engine, code: &[u8]) -> Result<Component, Error> {
    deserialize(engine, code)
        .map_err(|error| Error::Internal(format!("what was just compiled cannot be loaded: {error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Artefacts) {
        let state = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::open(state.path()).unwrap();
        (state, artefacts)
    }

    fn old(path: &Path, seconds: u64) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    fn names(artefacts: &Artefacts) -> Vec<String> {
        let names = artefacts.files().unwrap().into_iter();
        let mut names: Vec<String> =
            names.map(|file| file.path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_make_room() {
        let (_state, artefacts) = cache();
        for (age, name) in ["a", "b", "c", "d"].iter().enumerate() {
            let path = artefacts.dir.join(name);
            artefacts.write(&path, &[7; 968]).unwrap();
            old(&path, 100 - 10 * age as u64);
        }
        let newest = artefacts.dir.join("a");
        artefacts.keep_within(&newest, u64::MAX, 3).unwrap();
        assert_eq!(names(&artefacts), ["a", "c", "d"], "the newest stays whatever its time says");
        artefacts.keep_within(&newest, 2_000, 200).unwrap();
        assert_eq!(names(&artefacts), ["a", "d"]);
        artefacts.keep_within(&newest, 0, 0).unwrap();
        assert_eq!(names(&artefacts), ["a"]);
    }

    #[test]
    fn clearing_leaves_what_is_being_written() {
        let (_state, artefacts) = cache();
        let (fresh, stale) = (artefacts.dir.join("a.0123"), artefacts.dir.join("b.0123"));
        for path in [&fresh, &stale, &artefacts.dir.join("c")] {
            fs::write(path, [0; 10]).unwrap();
        }
        old(&stale, 2 * 60 * 60);
        assert_eq!(artefacts.clear().unwrap(), 20);
        assert_eq!(names(&artefacts), ["a.0123"]);
        assert!(artefacts.dir.join("key").exists());
        assert!(!remove(&stale).unwrap(), "what has vanished is no fault");
    }

    #[test]
    fn a_key_of_nothing_is_no_key() {
        let (state, artefacts) = cache();
        assert_eq!(Artefacts::open(state.path()).unwrap().key, artefacts.key);
        let path = artefacts.dir.join("key");
        for damaged in [&[0; KEY][..], &[], &[1; KEY - 1]] {
            fs::write(&path, damaged).unwrap();
            let again = Artefacts::open(state.path()).unwrap();
            assert!(again.key != [0; KEY] && again.key != artefacts.key);
            assert_eq!(fs::read(&path).unwrap(), again.key);
            assert_eq!(names(&again), Vec::<String>::new());
        }
    }

    #[test]
    fn a_key_is_made_without_links_and_never_replaced() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("key");
        let no_links = |_, _| Err(std::io::ErrorKind::Unsupported.into());
        make_key(&path, &[1; KEY], no_links).unwrap();
        for link in [no_links, fs::hard_link] {
            assert_eq!(make_key(&path, &[2; KEY], link).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&path).unwrap(), [1; KEY]);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }
}
