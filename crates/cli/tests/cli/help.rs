//! The help of every word is one committed file: a change of the surface is seen in review.

use crate::scratch::Scratch;

const WORDS: &[&[&str]] = &[
    &[],
    &["run"],
    &["resume"],
    &["ps"],
    &["show"],
    &["journal"],
    &["replay"],
    &["cancel"],
    &["grant"],
    &["revoke"],
    &["schedules"],
    &["schedule"],
    &["schedule", "show"],
    &["schedule", "pause"],
    &["schedule", "resume"],
    &["schedule", "delete"],
    &["promises"],
    &["promise"],
    &["promise", "get"],
    &["promise", "resolve"],
    &["promise", "reject"],
    &["promise", "cancel"],
    &["answer"],
    &["work"],
    &["inspect"],
    &["policy"],
    &["policy", "check"],
    &["policy", "levels"],
    &["policy", "explain"],
    &["wit"],
    &["gc"],
    &["completions"],
];

#[test]
fn the_help_of_every_word() {
    let scratch = Scratch::new();
    let mut all = String::new();
    for word in WORDS {
        let arguments: Vec<&str> = word.iter().copied().chain(["--help"]).collect();
        let help = scratch.parole(&arguments).code(0);
        all.push_str(&format!("$ parole {}\n\n{}\n\n", arguments.join(" "), help.out.trim_end()));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn every_word_that_the_program_knows_is_in_the_snapshot() {
    let help = Scratch::new().parole(&["--help"]).code(0).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for word in listed.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help") {
        assert!(WORDS.iter().any(|words| words.first() == Some(&word)), "{word}");
    }
}

#[test]
fn nothing_hidden_is_shown() {
    let scratch = Scratch::new();
    assert!(!scratch.parole(&["--help"]).code(0).out.contains("__compile"));
    assert!(!scratch.parole(&["completions", "bash"]).code(0).out.contains("__compile"));
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let scratch = Scratch::new();
    let mut child = scratch.command(["wit"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = crate::scratch::Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.code(0).err, "");
}

#[test]
fn output_that_is_lost_is_a_fault() {
    let scratch = Scratch::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = scratch.command(["wit"]);
    command.stdout(full);
    crate::scratch::ran(command).code(70).says("stdout could not be written");
}

#[test]
fn version() {
    Scratch::new().parole(&["--version"]).code(0).prints(concat!("parole ", env!("CARGO_PKG_VERSION"), "\n"));
}
