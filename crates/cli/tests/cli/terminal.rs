//! At a real terminal: questions, keys, signals, and text that tries to be more than text.

use std::time::Duration;

use crate::pty::Pty;
use crate::scratch::{PAROLE, Scratch, guest};

/// The promise that the question on the screen is about.
fn promise(screen: &str) -> String {
    let at = screen.find("promise resolve ").unwrap() + "promise resolve ".len();
    screen[at..].split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_person_is_asked_and_answers() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm")]);
    let question = pty.sees("> ");
    assert!(question.contains("greet.wasm (sha256:"), "{question}");
    assert!(question.contains("│ What is your name?"), "{question}");
    pty.types("Ada\n");
    pty.sees("Hello, Ada!");
    assert_eq!(pty.ends().0, 0);
}

#[test]
fn an_answer_from_elsewhere_comes_first() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm")]);
    let id = promise(&pty.sees("> "));
    scratch.parole(&["promise", "resolve", &id, "--data", "Elsewhere"]).code(0);
    pty.sees("(settled elsewhere)");
    pty.sees("Hello, Elsewhere!");
    assert_eq!(pty.ends().0, 0);
}

#[test]
fn ctrl_c_and_ctrl_d_leave_it_suspended_and_say_how_to_go_on() {
    for key in ["\u{3}", "\u{4}"] {
        let scratch = Scratch::new();
        let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm")]);
        let id = promise(&pty.sees("> "));
        pty.types(key);
        pty.sees("go on: parole resume ");
        assert_eq!(pty.ends().0, 75);
        let execution = id.split(':').nth(1).unwrap();
        // Asked again, and only once.
        let mut pty = Pty::start(&scratch, &["resume", execution]);
        assert_eq!(promise(&pty.sees("> ")), id);
        pty.types("Ada\n");
        pty.sees("Hello, Ada!");
        assert_eq!(pty.ends().0, 0);
    }
}

#[test]
fn approvals_take_a_whole_word_and_nothing_typed_ahead() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("everything.wasm")]);
    pty.sees("> ");
    pty.types("Ada\nyes\n");
    pty.sees("yes or no> ");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!pty.screen().contains("approve: true"), "typed ahead: {}", pty.screen());
    pty.decides("y");
    pty.sees("whole word");
    pty.sees("yes or no> ");
    pty.decides("no");
    pty.sees("approve: false");
    // The review: refused, with a comment.
    pty.sees("accept, edit or refuse> ");
    pty.decides("refuse");
    pty.sees("comment");
    pty.types("too short\n");
    pty.sees("accepted false");
    pty.ends();
}

#[test]
fn a_review_is_edited_in_the_editor() {
    let scratch = Scratch::new();
    let editor = scratch.file("editor", "#!/bin/sh\nprintf 'edited text' > \"$2\"\n");
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    // Words of the variable are arguments, and no shell reads them.
    let line = format!("EDITOR='{editor} --wait' '{PAROLE}' run '{}' --level standard", guest("everything.wasm"));
    let mut pty = Pty::shell(&scratch, &line);
    pty.sees("> ");
    pty.types("Ada\n");
    pty.sees("yes or no> ");
    pty.decides("yes");
    pty.sees("accept, edit or refuse> ");
    pty.decides("edit");
    pty.sees("│ edited text");
    pty.sees("accept, edit or refuse> ");
    pty.decides("accept");
    pty.sees("comment");
    pty.types("\n");
    pty.sees("text \"edited text\"");
    pty.ends();
}

#[test]
fn the_walk_answers_skips_and_resumes() {
    let scratch = Scratch::new();
    let (one, _) = scratch.waiting();
    let (two, _) = scratch.waiting();
    let mut pty = Pty::start(&scratch, &["answer", "--capability", "input"]);
    pty.sees("> ");
    pty.types("s\n");
    pty.sees("┌");
    pty.sees("> ");
    pty.types("Ada\n");
    pty.sees("Hello, Ada!");
    assert_eq!(pty.ends().0, 0);
    let state = |id: &str| scratch.parole(&["show", id, "--json"]).code(0).json()["outcome"].clone();
    assert_eq!((state(&one), state(&two)), ("suspended".into(), "completed".into()));
    let by = scratch.parole(&["promises", "--execution", &two, "--json"]).code(0).json();
    let by = by[0]["value"]["headers"]["parole:by"].as_str().unwrap();
    assert!(by.contains(" at /dev/pts/"), "{by}");
}

#[test]
fn nothing_of_a_guest_reaches_the_terminal_as_more_than_text() {
    let scratch = Scratch::new();
    let evil = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}2J\r\u{8}\u{202e}";
    let lines = scratch.file("lines", format!("{evil}\n"));
    let (code, screen) = Pty::start(&scratch, &["run", &guest("greet.wasm"), "--stdin", &lines]).ends();
    assert_eq!(code, 0, "{screen}");
    for harmful in ["\u{1b}", "\u{7}", "\u{9b}", "\u{8}", "\u{202e}"] {
        assert!(!screen.contains(harmful), "{harmful:?} in {screen:?}");
    }
    assert!(screen.contains("Hello, \\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{9b}2J\\u{d}\\u{8}\\u{202e}!"), "{screen:?}");
    // Neither from what is stored, whichever word shows it.
    for word in [&["promises"][..], &["promises", "--json"], &["ps", "--all"], &["ps", "--all", "--json"]] {
        let (code, screen) = Pty::start(&scratch, word).ends();
        assert_eq!(code, 0, "{screen}");
        assert!(!screen.contains('\u{1b}') && !screen.contains('\u{9b}') && !screen.contains('\u{202e}'), "{screen:?}");
    }
}

#[test]
fn detach_asks_nobody() {
    let scratch = Scratch::new();
    let (code, screen) = Pty::start(&scratch, &["run", &guest("greet.wasm"), "--detach"]).ends();
    assert_eq!(code, 75);
    assert!(!screen.contains("> "), "{screen}");
}

#[test]
fn a_question_that_expires_says_so() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("greet.wasm"), "--timeout", "input=700ms"]);
    pty.sees("> ");
    pty.sees("(expired: nobody answered in time)");
    let (code, screen) = pty.ends();
    assert_eq!(code, 1, "{screen}");
    assert!(!screen.contains("settled elsewhere"), "{screen}");
}

#[test]
fn ctrl_c_ends_a_guest_that_computes() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &crate::signals::spinning(&scratch)]);
    pty.sees("begun");
    pty.types("\u{3}");
    pty.sees("interrupted");
    pty.sees("go on: parole resume ");
    assert_eq!(pty.ends().0, 75);
}
