//! What a file keeps when its contents are replaced by another file: everything else.

use cap_std::fs::{Dir, File, Metadata, MetadataExt as _};
use rustix::fs::{Access, AtFlags, Gid, Mode, Uid, accessat, fchmod, fchown};

/// Owner, group, mode and extended attributes of a file.
pub(crate) struct Kept {
    owner: u32,
    group: u32,
    mode: u32,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Kept {
    /// Those of the plain file `name` in a directory.
    ///
    /// # Errors
    /// The file may not be written by this program: renaming would pass by that. Or its attributes cannot be read.
    pub(crate) fn of(parent: &Dir, name: &str, there: &Metadata) -> std::io::Result<Self> {
        accessat(parent, name, Access::WRITE_OK, AtFlags::EACCESS)?;
        // The bits that give the rights of the owner, and file capabilities, are handed on to nobody's new contents.
        let mode = there.mode() & 0o777;
        Ok(Self { owner: there.uid(), group: there.gid(), mode, attributes: attributes::of(parent, name)? })
    }

    /// Gives them to a new file, or says which cannot be kept.
    pub(crate) fn give(&self, file: &File) -> Result<(), &'static str> {
        let new = file.metadata().map_err(|_| "owner")?;
        if new.gid() != self.group {
            fchown(file, None, Some(Gid::from_raw(self.group))).map_err(|_| "group")?;
        }
        if new.uid() != self.owner {
            fchown(file, Some(Uid::from_raw(self.owner)), None).map_err(|_| "owner")?;
        }
        attributes::give(file, &self.attributes)?;
        fchmod(file, Mode::from_raw_mode(self.mode)).map_err(|_| "mode")
    }
}

#[cfg(target_os = "linux")]
mod attributes {
    use std::os::fd::AsRawFd as _;

    use cap_std::fs::{Dir, File};
    use rustix::fs::{
        Mode, OFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr, openat,
    };
    use rustix::io::Errno;

    /// The most bytes of one value, and of all names: the kernel's own limits.
    const MOST: usize = 64 * 1024;
    /// What goes with a file whatever it holds. Not file capabilities, and not what is signed together with the contents.
    const KEPT: [&[u8]; 6] = [
        b"user.",
        b"trusted.",
        b"system.posix_acl_access",
        b"system.nfs4_acl",
        b"security.selinux",
        b"security.SMACK64",
    ];

    fn is_kept(name: &[u8]) -> bool {
        KEPT.iter().any(|kept| name.starts_with(kept))
    }

    fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
        list.split(|byte| *byte == 0).filter(|name| is_kept(name))
    }

    /// A file system without them has none.
    fn or_none<T: Default>(result: rustix::io::Result<T>) -> rustix::io::Result<T> {
        match result {
            Err(Errno::NOTSUP | Errno::NODATA | Errno::NOSYS) => Ok(T::default()),
            result => result,
        }
    }

    pub(super) fn of(parent: &Dir, name: &str) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        // No right to read is needed to name a file: only its path can be asked then.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut list = Vec::with_capacity(MOST);
        match listxattr(&*path, rustix::buffer::spare_capacity(&mut list)) {
            // Where the system shows no processes, nothing can be asked; what is there shows when it is given on.
            Err(Errno::NOENT) => return Ok(Vec::new()),
            listed => or_none(listed.map(drop))?,
        }
        let mut all = Vec::new();
        for name in names(&list) {
            let mut value = Vec::with_capacity(MOST);
            or_none(getxattr(&*path, name, rustix::buffer::spare_capacity(&mut value)).map(drop))?;
            all.push((name.to_vec(), value));
        }
        Ok(all)
    }

    pub(super) fn give(file: &File, wanted: &[(Vec<u8>, Vec<u8>)]) -> Result<(), &'static str> {
        let mut list = Vec::with_capacity(MOST);
        or_none(flistxattr(file, rustix::buffer::spare_capacity(&mut list)).map(drop)).map_err(|_| "attributes")?;
        for (name, value) in wanted {
            let mut own = Vec::with_capacity(MOST);
            let has = fgetxattr(file, &**name, rustix::buffer::spare_capacity(&mut own)).is_ok();
            if !(has && own == *value) {
                fsetxattr(file, &**name, value, XattrFlags::empty()).map_err(|_| told(name))?;
            }
        }
        // A directory may give its new files an access list that the old one did not have.
        for name in names(&list).filter(|name| !wanted.iter().any(|(wanted, _)| wanted == name)) {
            if name.starts_with(b"system.") {
                fremovexattr(file, name).map_err(|_| told(name))?;
            }
        }
        Ok(())
    }

    fn told(name: &[u8]) -> &'static str {
        if name.starts_with(b"system.") { "access list" } else { "attributes" }
    }
}

#[cfg(not(target_os = "linux"))]
mod attributes {
    use cap_std::fs::{Dir, File};

    pub(super) fn of(_: &Dir, _: &str) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(Vec::new())
    }

    pub(super) fn give(_: &File, _: &[(Vec<u8>, Vec<u8>)]) -> Result<(), &'static str> {
        Ok(())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    use cap_std::ambient_authority;
    use cap_std::fs::Dir;
    use rustix::fs::{Gid, Uid, XattrFlags, getxattr, listxattr, setxattr};
    use rustix::io::Errno;
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    use crate::Error;
    use crate::backends::files::replace::{File, Progress, replace_below};
    use crate::call::permit::Links;

    const SOMEBODY: u32 = 54_321;

    fn write(dir: &Path, name: &str) -> Result<bool, Error> {
        let dir = Dir::open_ambient_dir(dir, ambient_authority()).unwrap();
        let file = File { dir: dir.into(), path: name.into(), links: Links::Follow, key: "write_file:x:y".into() };
        replace_below(&file, b"new", &Progress::default(), true)
    }

    /// As a user without rights, on a thread of its own: these are rights of a thread.
    fn as_somebody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let (user, group) = (Uid::from_raw(SOMEBODY), Gid::from_raw(SOMEBODY));
                set_thread_groups(&[]).unwrap();
                set_thread_res_gid(group, group, group).unwrap();
                set_thread_res_uid(user, user, user).unwrap();
                work()
            });
            work.join().unwrap()
        })
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    fn place() -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
        scratch
    }

    fn file(dir: &Path, name: &str, mode: u32, owner: Option<u32>) -> std::path::PathBuf {
        let path = dir.join(name);
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        }
        path
    }

    fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(1024);
        getxattr(path, name, rustix::buffer::spare_capacity(&mut value)).ok()?;
        Some(value)
    }

    /// An access list with one user beside owner, group and others: version, then tag, rights and id of each.
    fn access_list() -> Vec<u8> {
        let entry = |tag: u16, rights: u16, id: u32| {
            [tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let none = u32::MAX;
        let entries =
            [entry(1, 6, none), entry(2, 4, 7_777), entry(4, 4, none), entry(16, 4, none), entry(32, 0, none)];
        [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
    }

    #[test]
    fn owner_group_mode_and_attributes_stay() {
        let scratch = place();
        let path = file(scratch.path(), "f", 0o640, is_root().then_some(SOMEBODY));
        // A file system may have no attributes of its own; one that has them keeps them.
        let noted = match setxattr(&path, "user.note", b"mine", XattrFlags::empty()) {
            Err(Errno::NOTSUP) => None,
            set => set.map(|()| b"mine".to_vec()).map(Some).unwrap(),
        };
        let listed = match setxattr(&path, "system.posix_acl_access", &access_list(), XattrFlags::empty()) {
            Err(Errno::NOTSUP) => None,
            set => set.map(|()| access_list()).map(Some).unwrap(),
        };
        let before = fs::metadata(&path).unwrap();
        assert_eq!(write(scratch.path(), "f"), Ok(false));
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_ne!(before.ino(), after.ino(), "it is another file");
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert_eq!((attribute(&path, "user.note"), attribute(&path, "system.posix_acl_access")), (noted, listed));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    /// A directory that gives its new files an access list gives none to a file that had none.
    #[test]
    fn an_access_list_that_was_not_there_does_not_come() {
        let scratch = place();
        let path = file(scratch.path(), "f", 0o640, None);
        match setxattr(scratch.path(), "system.posix_acl_default", &access_list(), XattrFlags::empty()) {
            Err(Errno::NOTSUP) => {}
            set => set.unwrap(),
        }
        assert_eq!(write(scratch.path(), "f"), Ok(false));
        let mut list = Vec::with_capacity(1024);
        listxattr(&path, rustix::buffer::spare_capacity(&mut list)).unwrap();
        assert!(!String::from_utf8_lossy(&list).contains("posix_acl_access"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    /// What would take a file from its owner leaves it as it is; the twin is one's own.
    #[test]
    fn what_cannot_be_kept_is_not_replaced() {
        // Only root can make a file of somebody else.
        if !is_root() {
            return;
        }
        let scratch = place();
        let others = file(scratch.path(), "others", 0o666, Some(SOMEBODY + 1));
        let own = file(scratch.path(), "own", 0o600, Some(SOMEBODY));
        let Err(Error::Failed(text)) = as_somebody(|| write(scratch.path(), "others")) else { panic!() };
        assert_eq!(text, "`others` was not replaced: its group cannot be kept");
        assert_eq!((fs::read(&others).unwrap(), fs::metadata(&others).unwrap().uid()), (b"old".to_vec(), SOMEBODY + 1));
        assert_eq!(as_somebody(|| write(scratch.path(), "own")), Ok(false));
        assert_eq!((fs::read(&own).unwrap(), fs::metadata(&own).unwrap().uid()), (b"new".to_vec(), SOMEBODY));
        std::os::unix::fs::chown(&others, None, Some(SOMEBODY)).unwrap();
        let Err(Error::Failed(text)) = as_somebody(|| write(scratch.path(), "others")) else { panic!() };
        assert_eq!(text, "`others` was not replaced: its owner cannot be kept");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing is left behind");
    }

    /// A file that may not be written is not written by way of a new one.
    #[test]
    fn a_file_that_is_only_read_stays() {
        let scratch = place();
        let path = file(scratch.path(), "f", 0o444, is_root().then_some(SOMEBODY));
        let write = || if is_root() { as_somebody(|| write(scratch.path(), "f")) } else { write(scratch.path(), "f") };
        assert_eq!(write(), Err(Error::Denied("the operating system denies `f`".into())));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(write(), Ok(false));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
