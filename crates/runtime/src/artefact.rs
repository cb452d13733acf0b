//! The compile cache: private, authenticated, and filled by this program alone.
//!
//! An artefact is machine code that the engine runs as it is, so whoever can write one can
//! run code on the host. The directory is private to the user, each file carries an
//! HMAC-SHA256 under a key that never leaves the state directory, and what is checked is
//! the very buffer that is then loaded. Nothing outside the directory is ever deserialised.

use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parole_durable::Digest;
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compiler::Compiler;
use crate::engine;
use crate::error::Error;

const MAC: usize = 32;
const KEY: usize = 32;

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
        compiler: &Compiler,
        guest: &[u8],
        digest: &Digest,
        compiling: impl FnOnce(),
    ) -> Result<Loaded, Error> {
        let path = self.dir.join(self.name(engine, digest));
        if let Some(artefact) = self.read(&path)
            && let Ok(component) = deserialize(engine, &artefact[MAC..])
        {
            return Ok(Loaded { component, compiled: false });
        }
        compiling();
        let code = compiler.compile(engine, guest)?;
        let component = deserialize(engine, &code)
            .map_err(|error| Error::Internal(format!("what was just compiled cannot be loaded: {error:#}")))?;
        if let Err(error) = self.write(&path, &code) {
            tracing::warn!(%error, "the compiled guest cannot be kept");
        }
        Ok(Loaded { component, compiled: true })
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
        written
    }

    /// Removes every artefact. Gives how many bytes that freed.
    pub(crate) fn clear(&self) -> std::io::Result<u64> {
        let mut freed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != "key" {
                freed += entry.metadata()?.len();
                fs::remove_file(entry.path())?;
            }
        }
        Ok(freed)
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
    let mut key = [0; KEY];
    for _ in 0..2 {
        match fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
        {
            Ok(mut file) => match file.read_exact(&mut key) {
                Ok(()) => return Ok(key),
                // A crash between making and filling it: nothing was ever signed with it.
                Err(_) => fs::remove_file(path).map_err(|error| cannot(path, &error))?,
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(path, &error)),
        }
        getrandom::fill(&mut key).map_err(|error| Error::Internal(error.to_string()))?;
        let unfinished = path.with_extension(uuid::Uuid::now_v7().simple().to_string());
        let made = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| file.write_all(&key))
            // A link fails where a rename would replace the key of a process that was faster.
            .and_then(|()| fs::hard_link(&unfinished, path));
        let _ = fs::remove_file(&unfinished);
        match made {
            Ok(()) => return Ok(key),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot(path, &error)),
        }
    }
    Err(Error::Internal(format!("{} cannot be made", path.display())))
}

fn cannot(path: &Path, error: &std::io::Error) -> Error {
    Error::Internal(format!("{}: {error}", path.display()))
}

/// Loads what this process has just compiled itself.
pub(crate) fn load_own(engine: &Engine, code: &[u8]) -> Result<Component, Error> {
    deserialize(engine, code)
        .map_err(|error| Error::Internal(format!("what was just compiled cannot be loaded: {error:#}")))
}
