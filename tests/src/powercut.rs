//! A disk that loses power: what was written and not synced may be there, in any order and in part.
//!
//! It is built from what programs were seen to do ([`crate::powercut_trace`]). Of each file it knows what is safe, and
//! what was written since its last sync; of each directory the names that are safe, and what was done to them since. When
//! power is cut
//!
//! * of the writes to a file any subset of 512-byte sectors is there, each whole, each as it was after any write to it;
//! * a new length may be there or not, and sectors that were never written read as zeros;
//! * of what was done to the names of a directory a first part is there, in order, as journals of file systems have it.
//!
//! A sync of a file says nothing of its name, nor one of a directory anything of a file in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::fixture::{Failure, because};
use crate::powercut_trace::Did;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// The file that its users share in memory: a power cut leaves anything of it.
const SHARED: &str = "-shm";

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    safe: Vec<u8>,
    since: Vec<Change>,
    length: usize,
}

#[derive(Clone, Debug)]
enum Naming {
    /// A name stands for this from here on.
    Is(OsString, Node),
    /// A name is gone.
    Gone(OsString),
    /// Both in one.
    Moved(OsString, OsString, Node),
}

type Node = usize;

#[derive(Clone, Debug, Default)]
struct Directory {
    safe: BTreeMap<OsString, Node>,
    since: Vec<Naming>,
}

#[derive(Clone, Debug)]
enum Kind {
    File(File),
    Directory(Directory),
}

/// The disk, or the part of it below one directory.
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Kind>,
    /// What programs see.
    names: BTreeMap<PathBuf, Node>,
    /// Syncs that have begun: what they will have made safe.
    syncs: BTreeMap<usize, (Node, usize)>,
}

/// How much of what was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: as after a kill.
    Nothing,
    /// All of it.
    Everything,
    /// Of each file all or nothing.
    Files,
    /// Some writes as a whole, each as likely as not.
    Writes,
    /// One write.
    One,
    /// All but one write.
    AllButOne,
    /// Some sectors.
    Sectors,
    /// Some sectors of the last write, and nothing else.
    Torn,
}

impl Loss {
    /// All kinds.
    pub const ALL: [Loss; 8] = [
        Loss::Nothing,
        Loss::Everything,
        Loss::Files,
        Loss::Writes,
        Loss::One,
        Loss::AllButOne,
        Loss::Sectors,
        Loss::Torn,
    ];
}

impl Disk {
    /// The contents of a directory, all of them safe, as those of `root`.
    pub fn of(saved: &Path, root: &Path) -> Result<Self, Failure> {
        let mut disk = Disk {
            root: root.to_owned(),
            nodes: vec![Kind::Directory(Directory::default())],
            names: BTreeMap::from([(root.to_owned(), 0)]),
            syncs: BTreeMap::new(),
        };
        disk.load(saved, root)?;
        Ok(disk)
    }

    fn load(&mut self, saved: &Path, directory: &Path) -> Result<(), Failure> {
        for entry in fs::read_dir(saved).map_err(because(saved.display()))? {
            let saved = entry.map_err(because(saved.display()))?.path();
            let path = directory.join(saved.file_name().unwrap_or_default());
            let is_directory = saved.is_dir();
            let kind = if is_directory {
                Kind::Directory(Directory::default())
            } else {
                let safe = fs::read(&saved).map_err(because(saved.display()))?;
                Kind::File(File { length: safe.len(), safe, since: Vec::new() })
            };
            let node = self.add(&path, kind);
            let (parent, name) = self.parent(&path)?;
            self.directory(parent)?.safe.insert(name, node);
            if is_directory {
                self.load(&saved, &path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, kind: Kind) -> Node {
        self.nodes.push(kind);
        let node = self.nodes.len() - 1;
        self.names.insert(path.to_owned(), node);
        node
    }

    fn node(&self, path: &Path) -> Result<Node, Failure> {
        self.names.get(path).copied().ok_or_else(|| format!("it was never made: {}", path.display()).into())
    }

    fn file(&mut self, node: Node) -> Result<&mut File, Failure> {
        match &mut self.nodes[node] {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err("a directory is written to".into()),
        }
    }

    fn directory(&mut self, node: Node) -> Result<&mut Directory, Failure> {
        match &mut self.nodes[node] {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err("a file has names in it".into()),
        }
    }

    fn parent(&self, path: &Path) -> Result<(Node, OsString), Failure> {
        let parts = path.parent().zip(path.file_name());
        let (parent, name) = parts.ok_or_else(|| format!("{} has no name", path.display()))?;
        Ok((self.node(parent)?, name.to_owned()))
    }

    fn naming(&mut self, path: &Path, naming: impl FnOnce(OsString) -> Naming) -> Result<(), Failure> {
        let (parent, name) = self.parent(path)?;
        self.directory(parent)?.since.push(naming(name));
        Ok(())
    }

    /// What a program did.
    pub fn apply(&mut self, did: &Did) -> Result<(), Failure> {
        match did {
            Did::Create(path) if self.names.contains_key(path) => {}
            Did::Create(path) => {
                let node = self.add(path, Kind::File(File::default()));
                self.naming(path, |name| Naming::Is(name, node))?;
            }
            Did::MakeDir(path) if *path == self.root => {}
            Did::MakeDir(path) => {
                let node = self.add(path, Kind::Directory(Directory::default()));
                self.naming(path, |name| Naming::Is(name, node))?;
            }
            Did::Write(path, at, bytes) => {
                let node = self.node(path)?;
                let file = self.file(node)?;
                let at = match at {
                    Some(u64::MAX) => return Err(format!("{} is written in another way", path.display()).into()),
                    Some(at) => usize::try_from(*at).map_err(because("a place"))?,
                    None => file.length,
                };
                file.length = file.length.max(at + bytes.len());
                file.since.push(Change::Write(at, bytes.clone()));
            }
            Did::Truncate(path, length) => {
                let (node, length) = (self.node(path)?, usize::try_from(*length).map_err(because("a length"))?);
                let file = self.file(node)?;
                file.length = length;
                file.since.push(Change::Length(length));
            }
            Did::Link(from, to) => {
                let node = self.node(from)?;
                self.names.insert(to.clone(), node);
                self.naming(to, |name| Naming::Is(name, node))?;
            }
            Did::Rename(from, to) => {
                let node = self.names.remove(from).ok_or_else(|| format!("{} is not there", from.display()))?;
                self.names.insert(to.clone(), node);
                let (old, old_name) = self.parent(from)?;
                if old != self.parent(to)?.0 {
                    return Err("a rename from one directory to another is not followed here".into());
                }
                self.naming(to, |name| Naming::Moved(old_name, name, node))?;
            }
            Did::Remove(path) => {
                self.names.remove(path);
                self.naming(path, Naming::Gone)?;
            }
            Did::SyncBegins(path, number) => {
                // What has no name any more needs no sync.
                if let Some(node) = self.names.get(path).copied() {
                    let so_far = match &self.nodes[node] {
                        Kind::File(file) => file.since.len(),
                        Kind::Directory(directory) => directory.since.len(),
                    };
                    self.syncs.insert(*number, (node, so_far));
                }
            }
            Did::SyncEnds(number) => self.synced(*number),
            Did::Sends(_) | Did::Says(_) => {}
        }
        Ok(())
    }

    fn synced(&mut self, number: usize) {
        let Some((node, so_far)) = self.syncs.remove(&number) else { return };
        let done = match &mut self.nodes[node] {
            Kind::File(file) => {
                let so_far = so_far.min(file.since.len());
                for change in file.since.drain(..so_far) {
                    change.whole(&mut file.safe);
                }
                so_far
            }
            Kind::Directory(directory) => {
                let so_far = so_far.min(directory.since.len());
                for naming in directory.since.drain(..so_far) {
                    naming.done(&mut directory.safe);
                }
                so_far
            }
        };
        // Another sync of the same that is under way has that much less before it.
        for (other, before) in self.syncs.values_mut() {
            if *other == node {
                *before = before.saturating_sub(done);
            }
        }
    }

    /// Whether there is anything that a power cut could take.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        let safe = |name: &PathBuf, kind: &Kind| match kind {
            Kind::File(file) => file.since.is_empty() || name.to_string_lossy().ends_with(SHARED),
            Kind::Directory(directory) => directory.since.is_empty(),
        };
        self.names.iter().all(|(name, node)| safe(name, &self.nodes[*node]))
    }

    /// What is found when power is back, written to a directory, which must not exist.
    pub fn cut(&self, loss: Loss, random: &mut StdRng, to: &Path) -> Result<(), Failure> {
        let mut keeps = Keeps::new(self, loss, random);
        self.write_out(0, &mut keeps, random, to)
    }

    fn write_out(&self, node: Node, keeps: &mut Keeps, random: &mut StdRng, to: &Path) -> Result<(), Failure> {
        match &self.nodes[node] {
            Kind::Directory(directory) => {
                fs::DirBuilder::new().mode(0o700).create(to).map_err(because(to.display()))?;
                let mut names = directory.safe.clone();
                let some = match keeps.loss {
                    Loss::Nothing | Loss::One | Loss::Torn => directory.since.len(),
                    Loss::Everything => 0,
                    _ => random.random_range(0..=directory.since.len()),
                };
                directory.since[..some].iter().cloned().for_each(|naming| naming.done(&mut names));
                names.iter().try_for_each(|(name, node)| self.write_out(*node, keeps, random, &to.join(name)))
            }
            Kind::File(file) => {
                let bytes = if to.to_string_lossy().ends_with(SHARED) {
                    match random.random_range(0..3) {
                        0 => return Ok(()),
                        1 => vec![0; 32 << 10],
                        _ => (0..32 << 10).map(|_| random.random()).collect(),
                    }
                } else {
                    keeps.contents(node, file, random)
                };
                let mut options = fs::OpenOptions::new();
                let mut out =
                    options.write(true).create_new(true).mode(0o600).open(to).map_err(because(to.display()))?;
                std::io::Write::write_all(&mut out, &bytes).map_err(because(to.display()))
            }
        }
    }
}

impl Naming {
    fn done(self, names: &mut BTreeMap<OsString, Node>) {
        match self {
            Naming::Is(name, node) => drop(names.insert(name, node)),
            Naming::Gone(name) => drop(names.remove(&name)),
            Naming::Moved(from, to, node) => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }
}

impl Change {
    fn whole(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Length(length) => bytes.resize(*length, 0),
            Change::Write(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
        }
    }

    /// Those of its sectors that are kept reach the disk as they were `then`: with what was written to them before.
    fn partly(&self, bytes: &mut Vec<u8>, then: &[u8], mut keeps: impl FnMut() -> bool) {
        match self {
            Change::Length(length) => {
                if keeps() {
                    bytes.resize(*length, 0);
                }
            }
            Change::Write(at, new) => {
                for sector in at / SECTOR..(at + new.len()).div_ceil(SECTOR) {
                    let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(then.len()));
                    if keeps() {
                        bytes.resize(bytes.len().max(to), 0);
                        bytes[from..to].copy_from_slice(&then[from..to]);
                    }
                }
            }
        }
    }
}

/// What one power cut keeps.
struct Keeps {
    loss: Loss,
    /// The one write that is lost, or kept.
    one: Option<(Node, usize)>,
}

impl Keeps {
    fn new(disk: &Disk, loss: Loss, random: &mut StdRng) -> Self {
        let mut writes = Vec::new();
        for (name, node) in &disk.names {
            if let Kind::File(file) = &disk.nodes[*node]
                && !name.to_string_lossy().ends_with(SHARED)
            {
                writes.extend((0..file.since.len()).map(|n| (*node, n)));
            }
        }
        let one = match loss {
            // Of the file that has any, the last.
            Loss::Torn => writes.last().copied(),
            _ if writes.is_empty() => None,
            _ => Some(writes[random.random_range(0..writes.len())]),
        };
        Keeps { loss, one }
    }

    fn contents(&self, node: Node, file: &File, random: &mut StdRng) -> Vec<u8> {
        let (mut bytes, mut then) = (file.safe.clone(), file.safe.clone());
        let whole_file: bool = random.random();
        // How likely a sector is kept is one number for all, so that there are images that lose few and that lose most.
        let share: f64 = random.random();
        for (n, change) in file.since.iter().enumerate() {
            let is_one = self.one == Some((node, n));
            let whole: bool = random.random();
            change.whole(&mut then);
            change.partly(&mut bytes, &then, || match self.loss {
                Loss::Nothing => true,
                Loss::Everything => false,
                Loss::Files => whole_file,
                Loss::Writes => whole,
                Loss::One => !is_one,
                Loss::AllButOne => is_one,
                Loss::Sectors => random.random_bool(share),
                Loss::Torn => !is_one || random.random_bool(0.5),
            });
        }
        bytes
    }
}
