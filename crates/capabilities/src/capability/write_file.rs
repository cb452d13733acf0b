//! `write_file`: replaces a file of a granted directory atomically.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use parole_durable::{Digest, EffectClass, PromiseId};
use parole_policy::{
    DEFAULT_MAX_FILES, DEFAULT_QUOTA, Definition, Fact, Facts, Flag, Function as Declared, GrantKey, GuestPath,
    HOST_TIMEOUT, Key, Level, Looks, Resource, ScopeKind, SecurityPolicy, Type, field, reach,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::backends::files::unfinished;
use crate::backends::{Outside, files};
use crate::call::door::plain;
use crate::call::effect::{Answer, Attempt, Effect, Failure, Form, Formless, Function, Unformed};
use crate::call::permit::{DirPath, Path, Permit};
use crate::call::slot::Slot;
use crate::call::{act, question};
use crate::error::{base64, json};
use crate::{Entry, Error, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Idempotent],
    wit: include_str!("../../../../wit/write-file.wit"),
    link,
    channel: None,
    payload: Payload::Unit,
    done: question::unit,
    sweep: Some(sweep),
});

fn definition() -> Definition {
    Definition {
        level: Level::Standard,
        scope: ScopeKind::Path,
        keys: vec![
            GrantKey::Dirs.into(),
            Key::number(GrantKey::Quota, DEFAULT_QUOTA),
            Key::number(GrantKey::MaxFiles, DEFAULT_MAX_FILES),
            GrantKey::TimeoutMs.into(),
        ],
        flag: Some(Flag::AllowWrite),
        functions: vec![Declared::new(
            "write-file",
            "write_file",
            [field("path", Type::Path), field("contents", Type::Contents)],
            None,
        )],
        timeout: HOST_TIMEOUT,
        summary: "replaces a file of a granted directory".into(),
        shown: "{path}".into(),
        ..Definition::new("write_file", "parole:capabilities/write-file@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "write-file",
        |store: StoreContextMut<'_, StoreData>, (path, contents): (String, Vec<u8>)| {
            plain(&store, |execution| async move {
                let args = Args { path, digest: Digest::of(&contents), contents: Arc::new(contents) };
                Ok((act(&execution, WriteFile, args).await?.map(drop),))
            })
        },
    )
}

struct WriteFile;

struct Args {
    path: String,
    contents: Arc<Vec<u8>>,
    digest: Digest,
}

struct Called {
    path: GuestPath,
    contents: Arc<Vec<u8>>,
    digest: Digest,
}

/// The contents are recorded by size and digest: at a repetition the guest brings them again.
#[derive(Serialize)]
struct Recorded<'a> {
    path: &'a str,
    bytes: usize,
    digest: Digest,
}

impl Function for WriteFile {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        "write_file".into()
    }

    type Args = Args;
    type Form = Called;
    type Answer = Made;
    type Slot = Written;

    fn recorded(&self, args: &Args) -> Vec<u8> {
        json(&Recorded { path: &args.path, bytes: args.contents.len(), digest: args.digest })
    }

    fn class(&self, _: &Args) -> EffectClass {
        EffectClass::Idempotent
    }

    fn bytes(&self, args: &Args) -> u64 {
        args.contents.len() as u64
    }

    fn form(&self, args: Args, _: Looks, _: &Written) -> Result<Called, Unformed<Made>> {
        let path = GuestPath::read(&args.path).map_err(Formless::of(&args.path))?;
        Ok(Called { path, contents: args.contents, digest: args.digest })
    }
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Path(&self.path)
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        match name {
            "path" => Some(Fact::Text(self.path.as_str())),
            "contents" => Some(Fact::Bytes(&self.contents)),
            _ => None,
        }
    }
}

impl Form for Called {
    fn canonical(&self) -> Option<Vec<u8>> {
        Some(json(&Recorded { path: self.path.as_str(), bytes: self.contents.len(), digest: self.digest }))
    }

    fn shown(&self) -> Option<Value> {
        Some(serde_json::json!({ "path": self.path.as_str(), "contents": base64(&self.contents) }))
    }

    fn argument(&self) -> Option<String> {
        Some(self.path.as_str().into())
    }
}

/// Whether a write made a new file: the payload of one that did is not empty.
struct Made(bool);

impl Answer for Made {
    fn encode(&self) -> Vec<u8> {
        if self.0 { vec![1] } else { Vec::new() }
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        Some(Self(bytes == [1]))
    }
}

impl Effect for WriteFile {
    type Scope = Path;
    const OUTSIDE: bool = false;
    const LEAVES: bool = true;

    fn before(&self, written: &Written, permit: &Permit<Path>, form: &Called) -> Result<(), Error> {
        written.with(|used| used.fits(permit.number(GrantKey::Quota), form.contents.len() as u64))
    }

    async fn act(&self, permit: &Permit<Path>, form: &Called, _: &Outside, written: &Written) -> Attempt<Made, Called> {
        let most = permit.number(GrantKey::MaxFiles);
        let may_make = most.is_none_or(|most| written.with(|used| used.files) < most);
        match files::replace::replace(permit, Arc::clone(&form.contents), may_make).await {
            Ok(made) => Attempt::Done(Made(made)),
            Err(Failure::Ended(Error::Exhausted(_))) if let Some(most) = most => {
                Attempt::Failed(Error::Exhausted(format!("write_file: the quota is {most} new files")).into())
            }
            Err(failure) => Attempt::Failed(failure),
        }
    }

    fn count(&self, written: &Written, bytes: u64, answer: &Result<Made, Error>) {
        written.with(|used| used.charge(bytes, answer));
    }

    async fn clear_up(&self, below: &DirPath, key: &PromiseId) {
        let (dir, path, key) = (Arc::clone(&below.dir), below.path.clone(), key.clone());
        let _ = tokio::task::spawn_blocking(move || unfinished::remove(&dir, &path, &key)).await;
    }
}

/// What an execution has used of its quota.
#[derive(Default)]
struct Written(Mutex<Used>);

impl Slot for Written {}

impl Written {
    fn with<R>(&self, section: impl FnOnce(&mut Used) -> R) -> R {
        section(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes and files that were written.
#[derive(Default)]
struct Used {
    bytes: u64,
    files: u64,
}

impl Used {
    /// Whether there is room for a write.
    fn fits(&self, quota: Option<u64>, bytes: u64) -> Result<(), Error> {
        match quota {
            Some(quota) if self.bytes.saturating_add(bytes) > quota => {
                Err(Error::Exhausted(format!("write_file: the quota is {quota} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// Takes a call off the quota, whatever came of it, unless its answer says that it never began to
    /// write. The answer alone decides, so that a replay counts the same.
    fn charge(&mut self, bytes: u64, answer: &Result<Made, Error>) {
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
        self.files = self.files.saturating_add(u64::from(answer.as_ref().is_ok_and(|made| made.0) || answer.is_err()));
    }
}

/// Removes what a recorded write may have left under this policy, if it is there. To be asked for each policy that the
/// execution has had; nothing is opened that was not granted.
fn sweep(policy: &SecurityPolicy, arguments: &[u8], key: &PromiseId) {
    /// The part of the arguments that says where.
    #[derive(Deserialize)]
    struct Place {
        path: String,
    }
    let Ok(Place { path }) = serde_json::from_slice(arguments) else { return };
    let Ok(path) = GuestPath::read(&path) else { return };
    if let Some(permit) = reach(policy, &ENTRY.definition, Resource::Path(&path))
        && let Some(granted) = permit.grant.zip(permit.dir).and_then(|(grant, dir)| grant.dirs.get(dir))
    {
        unfinished::remove_below(granted, permit.relative, key);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parole_policy::Then;

    use super::*;

    #[test]
    fn the_quota_is_charged_by_the_answer() {
        let mut written = Used::default();
        let text = String::new;
        for answer in [Ok(Made(true)), Err(Error::Failed(text())), Err(Error::NotFound)] {
            written.charge(10, &answer);
        }
        assert_eq!((written.bytes, written.files), (30, 3));
        written.charge(0, &Ok(Made(false)));
        assert_eq!((written.bytes, written.files), (30, 3), "a file that was there is not a new one");
        for error in [Error::Denied(text()), Error::Invalid(text()), Error::Exhausted(text()), Error::TooLarge(1)] {
            written.charge(10, &Err(error));
        }
        assert_eq!((written.bytes, written.files), (30, 3));
        written.charge(u64::MAX, &Ok(Made(false)));
        assert_eq!(written.bytes, u64::MAX);
    }

    /// Rules and revocations say what may be done, not where what was done lies.
    #[test]
    fn what_is_left_is_found_by_the_grants_of_its_time() {
        let scratch = tempfile::tempdir().unwrap();
        let host = scratch.path().canonicalize().unwrap();
        fs::create_dir(host.join("deep")).unwrap();
        let resolved = |mut policy: SecurityPolicy| {
            policy.resolve(&crate::CATALOGUE).unwrap();
            policy
        };
        let granted = resolved(SecurityPolicy::new(Level::Standard).allow_write("/out", &host));
        let mut revoked = granted.clone().rule("none", "write_file", None, Then::Deny);
        revoked.revoked.insert("write_file".to_owned());
        let key: PromiseId = "write_file:x:y".into();
        let other = resolved(SecurityPolicy::new(Level::Standard).allow_write("/other", &host));
        for (policy, path, at, goes) in [
            (&granted, "/out/f", "", true),
            (&revoked, "/out/f", "", true),
            (&granted, "out/deep/f", "deep", true),
            (&granted, "/out/f", "deep", false),
            (&other, "/out/f", "", false),
            (&granted, "/out/../f", "", false),
        ] {
            let left = host.join(at).join(unfinished::name(&key));
            fs::write(&left, "half").unwrap();
            fs::write(host.join(".parole-z.tmp"), "another's").unwrap();
            sweep(policy, format!("{{\"path\":\"{path}\",\"bytes\":1}}").as_bytes(), &key);
            assert_eq!(left.exists(), !goes, "{path}");
            assert!(host.join(".parole-z.tmp").exists());
        }
        sweep(&granted, b"no JSON", &key);
        // A granted directory that leads elsewhere by now.
        let (real, link) = (host.join("deep"), host.join("link"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let left = real.join(unfinished::name(&key));
        fs::write(&left, "half").unwrap();
        let linked = SecurityPolicy::new(Level::Standard).allow_write("/out", &link);
        sweep(&linked, b"{\"path\":\"/out/f\"}", &key);
        assert!(left.exists());
    }
}
