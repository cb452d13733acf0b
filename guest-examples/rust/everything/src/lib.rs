//! Uses every capability once and prints each answer, an error too: it always runs to its end.

use std::fmt::Display;
use std::time::Duration;

use parole_guest::{Error, Level, approve, display, input, log, print, read_file, review, sleep, write_file};

fn run() -> Result<(), Error> {
    print("print: ok");

    log(Level::Info, "a record in the log");
    print("log: ok");

    display("text/markdown", b"# Heading\n\nA *paragraph*.\n");
    print("display: ok");

    show("input", input("Your name?"));
    show("approve", approve("Go on?"));
    show(
        "review",
        review("A letter", "Dear reader,").map(|decision| {
            let comment = decision.comment.as_deref().unwrap_or("none");
            format!("accepted {}, text {:?}, comment {comment:?}", decision.accepted, decision.text)
        }),
    );
    show("sleep", sleep(Duration::from_millis(50)).map(|()| "ok"));
    show("read_file", read_file("/data/in.txt").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    show("write_file", write_file("/out/everything.txt", b"written by everything\n").map(|()| "ok"));
    Ok(())
}

fn show(capability: &str, answer: Result<impl Display, Error>) {
    match answer {
        Ok(answer) => print(&format!("{capability}: {answer}")),
        Err(error) => print(&format!("{capability}: error: {error}")),
    }
}

parole_guest::export!(run);
