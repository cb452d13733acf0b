//! Typed answers: whole or refused; and the terminal, which is as it was afterwards.

use std::time::Duration;

use serde_json::Value;

use crate::pty::Pty;
use crate::scratch::{PAROLE, Scratch, guest};

fn answer(scratch: &Scratch) -> Value {
    let promise = scratch.parole(&["promises", "--json"]).code(0).json()[0].clone();
    promise["value"]["data"].as_str().map_or(Value::Null, |data| serde_json::from_str(data).unwrap())
}

#[test]
fn a_long_line_is_taken_whole_and_one_that_is_too_long_refused() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm")]);
    pty.sees("> ");
    let text: String = (0..5000).map(|number| format!("{number:06}.")).collect();
    pty.types(format!("{text}\r"));
    pty.sees("Hello, ");
    assert_eq!(pty.ends().0, 0);
    assert!(answer(&scratch) == text, "it was cut");
    let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm")]);
    pty.sees("> ");
    pty.types("a".repeat((1 << 20) + 1) + "\n");
    pty.sees("longer than 1048576 bytes");
    pty.sees("> ");
    pty.types("Ada\n");
    pty.sees("Hello, Ada!");
    assert_eq!(pty.ends().0, 0);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_words() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm")]);
    pty.sees("> ");
    pty.types(b"Ren\xe9\r");
    pty.sees("not UTF-8 text (byte 4, \\xe9)");
    pty.sees("> ");
    assert_eq!(answer(&scratch), Value::Null);
    pty.types("Rene\u{7f}\u{e9}\r");
    pty.sees("Hello, Ren\u{e9}!");
    assert_eq!(pty.ends().0, 0);
}

#[test]
fn what_is_pasted_behind_an_answer_is_nobody_elses() {
    let scratch = Scratch::new();
    let line = format!("'{PAROLE}' run '{}'; IFS= read -r -t 2 rest; echo \"left=<$rest>\"", guest("greet.wasm"));
    let mut pty = Pty::shell(&scratch, &format!("exec bash -c '{}'", line.replace('\'', r"'\''")));
    pty.sees("> ");
    pty.types("Ada\rtouch canary\rtouch canary2\r");
    pty.sees("Only one line is taken");
    pty.sees("Hello, Ada!");
    pty.sees("left=<>");
    // Neither when it comes in pieces, nor when the question is left.
    let mut pty = Pty::shell(&scratch, &format!("exec bash -c '{}'", line.replace('\'', r"'\''")));
    pty.sees("> ");
    pty.types("Ada\r");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(10));
        pty.types("touch canary\r");
    }
    pty.sees("left=<>");
    let mut pty = Pty::shell(&scratch, &format!("exec bash -c '{}'", line.replace('\'', r"'\''")));
    pty.sees("> ");
    pty.types("\u{4}touch canary\r");
    pty.sees("go on: parole resume ");
    pty.sees("left=<>");
}

/// The modes of a terminal after the program has ended in a way.
fn modes_after(end: impl Fn(&mut Pty, &Scratch)) {
    let scratch = Scratch::new();
    // The shell waits for a signal to itself, too: it must live on.
    let line = format!("trap : INT TERM QUIT; '{PAROLE}' run '{}'; stty -a; echo the end", guest("greet.wasm"));
    let mut pty = Pty::shell(&scratch, &format!("exec bash -c '{}'", line.replace('\'', r"'\''")));
    pty.sees("> ");
    end(&mut pty, &scratch);
    let modes = pty.sees("the end");
    let set = |mode: &str| modes.split([' ', ';', '\r', '\n']).any(|word| word == mode);
    assert!(set("icanon") && set("echo") && set("isig"), "{modes}");
    assert!(modes.contains("susp = ^Z") && modes.contains("quit = ^\\"), "{modes}");
}

#[test]
fn the_terminal_is_as_it_was_whatever_ends_a_question() {
    modes_after(|pty, _| pty.types("Ada\n"));
    modes_after(|pty, _| pty.types("\u{4}"));
    modes_after(|pty, _| pty.types("\u{3}"));
    // Ctrl-\ fells the program, as it fells any other.
    modes_after(|pty, _| pty.types("\u{1c}"));
    modes_after(|_, scratch| {
        let pending = scratch.pending();
        scratch.parole(&["promise", "resolve", pending[0]["id"].as_str().unwrap(), "--data", "Elsewhere"]).code(0);
    });
    modes_after(|_, scratch| {
        let id = scratch.at_the_terminal();
        assert!(std::process::Command::new("/bin/kill").args(["-TERM", &id]).status().unwrap().success());
    });
}

#[test]
fn ctrl_z_gives_the_shell_its_terminal_and_the_question_comes_back() {
    let scratch = Scratch::new();
    let mut pty = Pty::shell(&scratch, "exec bash --norc --noprofile -i");
    pty.types(format!("'{PAROLE}' run '{}'\n", guest("greet.wasm")));
    pty.sees("│ What is your name?");
    pty.sees("> ");
    pty.types("Ad");
    pty.sees("Ad");
    pty.types("\u{1a}");
    pty.sees("Stopped");
    pty.types("stty -a; echo the' 'end\n");
    let modes = pty.sees("the end");
    assert!(modes.contains("susp = ^Z") && modes.contains("isig"), "{modes}");
    pty.types("fg\n");
    // What was typed of a text is still there.
    pty.sees("> Ad");
    pty.types("a\n");
    pty.sees("Hello, Ada!");
    // What is typed before the program has ended is not the shell's.
    pty.sees("bash-");
    pty.types("exit\n");
    pty.ends();
}

#[test]
fn the_editor_is_a_command_of_the_shell_and_what_is_not_touched_stays() {
    let scratch = Scratch::new();
    let editor =
        scratch.file("my editors/ed it", "#!/bin/sh\n[ \"$1\" = --wait ] || exit 9\nprintf 'one more' >> \"$2\"\n");
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let text = "می\u{200c}خواهم 👩\u{200d}💻 \u{1b}[2J \\\\u{1b}\\u{0}\\r\\n";
    let call = format!("review(\"t\", \"{text}\")");
    let waits = std::fs::canonicalize(format!("{}/../../tests/fixtures/waits/guest.wat", env!("CARGO_MANIFEST_DIR")));
    let Ok(waits) = waits else { panic!("the guest of the fixtures is not where it was") };
    let line = format!("export VISUAL=\"'{editor}' --wait\"; '{PAROLE}' run '{}' --invoke '{call}'", waits.display());
    let file = scratch.file("line.sh", line);
    let mut pty = Pty::shell(&scratch, &format!("exec bash {file}"));
    pty.sees("accept, edit or refuse> ");
    pty.decides("edit");
    pty.sees("one more");
    pty.sees("accept, edit or refuse> ");
    pty.decides("accept");
    pty.sees("comment");
    pty.types("\n");
    pty.ends();
    let promise = scratch.parole(&["promises", "--json"]).code(0).json()[0].clone();
    let asked: Value = serde_json::from_str(promise["param"]["data"].as_str().unwrap()).unwrap();
    let asked = asked["text"].as_str().unwrap();
    assert!(asked.contains('\u{200d}') && asked.contains('\u{1b}') && asked.contains("\\u{1b}"), "{asked:?}");
    assert_eq!(answer(&scratch)["text"].as_str().unwrap(), format!("{asked}one more"));
}

#[test]
fn an_editor_that_is_not_there_leaves_the_text_alone() {
    let scratch = Scratch::new();
    let line = format!("EDITOR='no-such-editor --wait' '{PAROLE}' run '{}'", guest("everything.wasm"));
    let mut pty = Pty::shell(&scratch, &line);
    pty.sees("> ");
    pty.types("Ada\n");
    pty.sees("yes or no> ");
    pty.decides("yes");
    pty.sees("accept, edit or refuse> ");
    pty.decides("edit");
    pty.sees("the editor no-such-editor --wait cannot be started; the text is unchanged");
    pty.sees("accept, edit or refuse> ");
    pty.types("\u{4}");
    assert_eq!(pty.ends().0, 75);
}
