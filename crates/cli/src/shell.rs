//! Commands of this program as they are printed: what is copied into a shell works.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;

/// The `--state` of this process, for the commands that it prints.
static GIVEN: OnceLock<String> = OnceLock::new();

/// Values of these flags may look like flags.
const ANYTHING: [&str; 3] = ["--data", "--value", "--invoke"];

/// Looks for `--state` among the arguments, before anything is said about them.
pub fn look_for_state(arguments: &[OsString]) {
    let ours = arguments.split(|argument| argument == "--").next().unwrap_or_default();
    let given = ours.iter().enumerate().find_map(|(at, argument)| {
        if at > 0 && ANYTHING.iter().any(|flag| ours[at - 1] == *flag) {
            return None;
        }
        if argument == "--state" {
            return ours.get(at + 1).map(OsString::as_os_str);
        }
        argument.as_bytes().strip_prefix(b"--state=").map(OsStr::from_bytes)
    });
    if let Some(dir) = given.filter(|dir| !dir.is_empty()).and_then(|dir| std::path::absolute(dir).ok()) {
        let _ = GIVEN.set(format!(" --state {}", quoted_bytes(dir.as_os_str().as_bytes())));
    }
}

/// A command of this program that works as it is printed, also where `--state` was given. What follows is behind it.
pub fn command(words: &str) -> String {
    format!("parole {words}{}", GIVEN.get().map(String::as_str).unwrap_or_default())
}

/// One word for a shell.
pub fn quoted(word: &str) -> String {
    quoted_bytes(word.as_bytes())
}

fn quoted_bytes(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-:@%+,=".contains(byte);
    match std::str::from_utf8(word) {
        Ok(text) if !word.is_empty() && word.iter().all(plain) => text.to_owned(),
        Ok(text) if matches!(crate::output::cell(text), std::borrow::Cow::Borrowed(_)) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        // What cannot be shown as it is; bash, zsh and ksh know this form.
        _ => {
            let escaped = |byte: &u8| match byte {
                byte if plain(byte) || *byte == b' ' => char::from(*byte).to_string(),
                byte => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", word.iter().map(escaped).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_for_a_shell() {
        for (word, shell) in [
            (&b"/home/ada/state"[..], "/home/ada/state"),
            (b"/a state", "'/a state'"),
            (b"it's", r"'it'\''s'"),
            (b"", "''"),
            (b"$HOME;`id`", "'$HOME;`id`'"),
            (b"caf\xe9 'x'", r"$'caf\xe9 \x27x\x27'"),
            (b"\x1b[2J\n", r"$'\x1b\x5b2J\x0a'"),
        ] {
            assert_eq!(quoted_bytes(word), shell);
        }
    }
}
