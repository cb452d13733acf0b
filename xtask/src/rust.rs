//! Rust guests: core modules for wasm32-unknown-unknown.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{output, run, succeeds};

const TARGET: &str = "wasm32-unknown-unknown";

/// How guests are compiled here.
pub(crate) struct Toolchain {
    root: PathBuf,
    flags: Vec<String>,
    debian: Option<Debian>,
}

/// Debian's rustc, unpacked, and the linker of the installed one.
struct Debian {
    rustc: PathBuf,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds the target, or gets a compiler that can build its standard library.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let mut flags = vec![remap(&cargo_home()?.join("registry/src"), "/crates"), remap(root, "/build")];
        let debian = if has_target() {
            println!("Rust: the installed target {TARGET}");
            None
        } else {
            let debian = Debian::get(root)?;
            // The root above covers .tools too; the last one that matches is used.
            flags.push(remap(&debian.library(), "/rustc"));
            // No places of panics: their messages are never seen. It needs the same permission
            // to use unstable flags as building the standard library does.
            flags.push("-Zlocation-detail=none".to_owned());
            println!("Rust: {}", output(Command::new(&debian.rustc).arg("--version"))?);
            Some(debian)
        };
        Ok(Self { root: root.to_owned(), flags, debian })
    }

    /// Compiles one package of guest-examples and gives its core module.
    ///
    /// One at a time: built together, guests would share the features of `parole-guest`.
    pub(crate) fn build(&self, package: &str) -> Result<Vec<u8>> {
        let target_dir = self.root.join("target/guests");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(self.root.join("guest-examples"))
            .args(["build", "--release", "--locked", "--quiet", "--target", TARGET])
            .args(["--package", package, "--target-dir"])
            .arg(&target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags.join("\x1f"));
        if let Some(debian) = &self.debian {
            cargo
                .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"])
                .env("RUSTC", &debian.rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &debian.linker);
        }
        run(&mut cargo)?;

        let file = format!("{}.wasm", package.replace('-', "_"));
        let module = target_dir.join(TARGET).join("release").join(file);
        fs::read(&module).with_context(|| format!("cannot read {}", module.display()))
    }
}

impl Debian {
    /// Unpacks Debian's rustc into .tools/, once. Delete it there to get a newer one.
    fn get(root: &Path) -> Result<Self> {
        let linker = linker()?;
        let tools = root.join(".tools");
        let home = tools.join("rustc-web");
        let rustc = home.join("rustc");
        if !rustc.exists() {
            if !succeeds(Command::new("apt-get").arg("--version")) {
                bail!("the Rust target {TARGET} is missing: `rustup target add {TARGET}`");
            }
            // Under another name until it is complete.
            let partial = tools.join("rustc-web.partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            unpack(&partial).with_context(|| {
                format!(
                    "neither the Rust target {TARGET} (`rustup target add {TARGET}`) nor \
                     Debian's rustc-web can be had"
                )
            })?;
            fs::rename(&partial, &home)?;
        }
        Ok(Self { rustc, linker })
    }

    /// The source of the standard library.
    fn library(&self) -> PathBuf {
        self.rustc.with_file_name("usr/lib/rustlib/src/rust")
    }
}

/// Downloads and unpacks into `home`, and puts a program `rustc` there.
fn unpack(home: &Path) -> Result<()> {
    let debs = home.join("debs");
    fs::create_dir_all(&debs)?;

    // The compiler, its libraries and the library source fit each other at one version only.
    let version = match candidate("rustc-web") {
        Ok(version) => version,
        Err(_) => {
            run(Command::new("apt-get").arg("update"))?;
            candidate("rustc-web")?
        }
    };
    let same = |package: &str| format!("{package}={version}");
    let libraries = dependency(&same("libstd-rust-web-dev"), "libstd-rust-web-")?;
    let llvm = dependency(&same(&libraries), "libllvm")?;
    println!("Rust: unpacking Debian's rustc-web {version} into .tools (about 1 GB)");
    run(Command::new("apt-get")
        .current_dir(&debs)
        .args(["download", "--quiet=2"])
        .args([same("rustc-web"), same("libstd-rust-web-dev"), same(&libraries)])
        .args([same("rust-web-src"), llvm])
        // What apt-get says about its sandbox is of no interest here.
        .args(["-o", "APT::Sandbox::User=root"]))?;
    for deb in fs::read_dir(&debs)? {
        run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(home))?;
    }
    fs::remove_dir_all(&debs)?;

    let rustc = home.join("rustc");
    let wrapper = format!(
        "#!/bin/sh\n\
         usr=$(dirname \"$0\")/usr\n\
         LD_LIBRARY_PATH=$usr/lib/{}-linux-gnu:$usr/lib exec \"$usr/bin/rustc\" \"$@\"\n",
        env::consts::ARCH
    );
    fs::write(&rustc, wrapper)?;
    run(Command::new("chmod").arg("+x").arg(&rustc))?;
    output(Command::new(&rustc).arg("--version")).map(drop)
}

/// The version that apt would install.
fn candidate(package: &str) -> Result<String> {
    let policy = output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"))?;
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .with_context(|| format!("Debian has no package {package} here"))
}

/// The dependency of a package whose name begins so.
fn dependency(package: &str, prefix: &str) -> Result<String> {
    let shown = output(Command::new("apt-cache").args(["show", package]))?;
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .and_then(|depends| {
            depends
                .split(", ")
                .filter_map(|dependency| dependency.split(' ').next())
                .find(|name| name.starts_with(prefix))
        })
        .map(str::to_owned)
        .with_context(|| format!("{package} depends on no {prefix}*"))
}

fn has_target() -> bool {
    let mut rustc = Command::new("rustc");
    output(rustc.args(["--print", "target-libdir", "--target", TARGET]))
        .is_ok_and(|directory| Path::new(&directory).exists())
}

/// The wasm linker that comes with the installed Rust.
fn linker() -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    let linker = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if !linker.exists() {
        bail!("the installed Rust has no linker for wasm: {} is missing", linker.display());
    }
    Ok(linker)
}

fn cargo_home() -> Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
        .context("cannot find the home of cargo: set CARGO_HOME")
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}
