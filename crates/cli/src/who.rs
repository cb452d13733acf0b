//! Who takes a decision: the user by number (a name in the environment proves nothing) and the terminal.

use std::fs::File;
use std::io::Read as _;

/// The most of the list of users that is read.
const PASSWD_MAX: u64 = 1 << 20;

/// For the record of a decision: `uid 1000 (ada) at /dev/pts/3`.
pub fn who() -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = name_of(uid).map(|name| format!(" ({name})")).unwrap_or_default();
    let terminal = [
        rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new()),
        rustix::termios::ttyname(rustix::stdio::stderr(), Vec::new()),
    ]
    .into_iter()
    .find_map(Result::ok)
    .map_or_else(|| "without a terminal".into(), |name| format!("at {}", name.to_string_lossy()));
    format!("uid {uid}{name} {terminal}")
}

fn name_of(uid: u32) -> Option<String> {
    let mut users = Vec::new();
    File::open("/etc/passwd").ok()?.take(PASSWD_MAX).read_to_end(&mut users).ok()?;
    // Some other user's entry may be in another encoding.
    let (users, uid) = (String::from_utf8_lossy(&users), uid.to_string());
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}
