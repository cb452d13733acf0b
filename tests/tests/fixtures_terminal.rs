//! What a guest can do to a terminal or a text log: nothing (cases U01 to U05).
//!
//! `script` runs the program at a pseudo-terminal and gives what came out of it. The guest's text stands
//! between marks, so that what the host or the terminal itself writes is not taken for it.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parole_tests::ensure;
use parole_tests::fixture::play::guest;
use parole_tests::fixture::{Failure, World, parole_binary};

const OPEN: &str = "<<<<";
const CLOSE: &str = ">>>>";

/// Sequences that terminals obey; the 65 control characters come on top of them.
const SEQUENCES: &[&str] = &[
    "\u{1b}[2J",
    "\u{1b}[H",
    "\u{1b}[1;1H",
    "\u{1b}[31m",
    "\u{1b}[0m",
    "\u{1b}[8m",
    "\u{1b}[?1049h",
    "\u{1b}[?25l",
    "\u{1b}[6n",
    "\u{1b}[c",
    "\u{1b}[>c",
    "\u{1b}[5n",
    "\u{1b}[21t",
    "\u{1b}[20t",
    "\u{1b}[18t",
    "\u{1b}[1A",
    "\u{1b}[2K",
    "\u{1b}[3J",
    "\u{1b}[s",
    "\u{1b}[u",
    "\u{1b}[!p",
    "\u{1b}[4i",
    "\u{1b}[5i",
    "\u{1b}[?5i",
    "\u{1b}[?1000h",
    "\u{1b}[?2004h",
    "\u{1b}]0;title\u{7}",
    "\u{1b}]2;title\u{1b}\\",
    "\u{1b}]8;;https://evil.test\u{1b}\\link\u{1b}]8;;\u{1b}\\",
    "\u{1b}]52;c;ZXZpbA==\u{7}",
    "\u{1b}]52;c;?\u{7}",
    "\u{1b}]4;1;?\u{7}",
    "\u{1b}]10;?\u{7}",
    "\u{1b}]11;?\u{1b}\\",
    "\u{1b}]1337;File=:AA==\u{7}",
    "\u{1b}]777;notify;a;b\u{7}",
    "\u{1b}]9;4;1;50\u{7}",
    "\u{1b}P$qm\u{1b}\\",
    "\u{1b}P+q544e\u{1b}\\",
    "\u{1b}Pq#0\u{1b}\\",
    "\u{1b}_Ga=q;\u{1b}\\",
    "\u{1b}^private\u{1b}\\",
    "\u{1b}Xstart\u{1b}\\",
    "\u{1b}c",
    "\u{1b}7",
    "\u{1b}8",
    "\u{1b}D",
    "\u{1b}E",
    "\u{1b}M",
    "\u{1b}Z",
    "\u{1b}#8",
    "\u{1b}%G",
    "\u{1b}(0",
    "\u{1b})B",
    "\u{1b}n",
    "\u{1b}o",
    "\u{1b}=",
    "\u{1b}>",
    "\u{1b}\u{1b}[2J",
    "\u{1b}\r[2J",
    "\u{9b}2J",
    "\u{9b}31m",
    "\u{9d}0;title\u{9c}",
    "\u{90}$qm\u{9c}",
    "\u{9f}Ga=q;\u{9c}",
    "\u{85}",
    "\u{8d}",
    "\u{84}",
    "\r",
    "\u{8}",
    "\u{8}\u{8}\u{8}\u{8}    ",
    "\r\u{1b}[K",
    "\u{b}",
    "\u{c}",
    "\u{7}",
    "\u{e}",
    "\u{f}",
    "\u{5}",
    "\u{18}",
    "\u{1a}",
    "\u{202a}",
    "\u{202b}",
    "\u{202c}",
    "\u{202d}",
    "\u{202e}",
    "\u{2066}",
    "\u{2067}",
    "\u{2068}",
    "\u{2069}",
    "\u{200e}",
    "\u{200f}",
    "\u{61c}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{200b}",
    "\u{e0041}",
    "\u{e007f}",
];

fn io(error: std::io::Error) -> Failure {
    error.to_string().into()
}

/// All of them in one text, between marks.
fn hostile() -> String {
    let controls = (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).filter(|c| *c != '\n');
    let text: String = controls.chain(SEQUENCES.iter().flat_map(|sequence| sequence.chars())).collect();
    format!("{OPEN}{text}{CLOSE}")
}

fn wave(text: &str) -> String {
    let escape = |c: char| {
        if c == '"' || c == '\\' || !(' '..='~').contains(&c) {
            format!("\\u{{{:x}}}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs the program at a terminal, typing each answer when its prompt has appeared, and gives what was shown.
fn at_terminal(world: &World, arguments: &[&str], answers: &[(&str, &str)]) -> Result<Vec<u8>, Failure> {
    let mut words = vec![quoted(&parole_binary()?.to_string_lossy())];
    words.extend(arguments.iter().map(|argument| quoted(argument)));
    words.push(format!("--state {}", quoted(&world.path("state").to_string_lossy())));
    let mut command = Command::new("/usr/bin/script");
    command.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(world.root()).env_clear();
    command.env("HOME", world.path("home")).env("TERM", "dumb").env("NO_COLOR", "1").env("SHELL", "/bin/sh");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    let mut child = command.spawn().map_err(io)?;
    let (mut stdin, mut stdout) = child.stdin.take().zip(child.stdout.take()).ok_or("there are no pipes")?;
    let (send, receive) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if send.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let until = Instant::now() + Duration::from_secs(20);
    let (mut shown, mut answers) = (Vec::new(), answers.iter());
    let mut next = answers.next();
    loop {
        match receive.recv_timeout(Duration::from_millis(100)) {
            Ok(bytes) => shown.extend(bytes),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Some((prompt, answer)) = next
            && String::from_utf8_lossy(&shown).contains(prompt)
        {
            // What is typed before the prompt is thrown away.
            thread::sleep(Duration::from_millis(200));
            stdin.write_all(answer.as_bytes()).map_err(io)?;
            next = answers.next();
        }
        if Instant::now() > until {
            Command::new("/bin/kill").args(["-KILL", "--", &format!("-{}", child.id())]).status().map_err(io)?;
            drop(child.wait());
            return Err(format!("it did not end at the terminal: {:?}", String::from_utf8_lossy(&shown)).into());
        }
    }
    drop(stdin);
    child.wait().map_err(io)?;
    drop(reader.join());
    Ok(shown)
}

/// Nothing in what was shown is more than text: lines and tabs. The carriage return before a line feed is the terminal's own.
fn inert(shown: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8(shown.to_vec()).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let text = text.replace("\r\n", "\n");
    let spells =
        |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
    let obeyed = text.chars().find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || spells(*c));
    ensure!(obeyed.is_none(), "the terminal obeys {obeyed:?} in {text:?}");
    Ok(())
}

/// The same, and the guest's text was shown, from mark to mark.
fn shows(shown: &[u8]) -> Result<(), Failure> {
    inert(shown)?;
    let text = String::from_utf8_lossy(shown);
    ensure!(text.contains(OPEN) && text.contains(CLOSE), "it does not show the text: {text:?}");
    Ok(())
}

fn world() -> Result<World, Failure> {
    ensure!(Path::new("/usr/bin/script").is_file(), "script is missing: it is part of bsdutils");
    World::plant()
}

fn says(how: &str) -> Result<Vec<u8>, Failure> {
    let guest = guest("voices");
    at_terminal(&world()?, &["run", &guest.to_string_lossy(), "--invoke", how], &[])
}

#[test]
fn u01_print() -> Result<(), Failure> {
    shows(&says(&format!("print({})", wave(&hostile())))?)
}

#[test]
fn u01_log() -> Result<(), Failure> {
    shows(&says(&format!("log({})", wave(&hostile())))?)
}

#[test]
fn u01_display() -> Result<(), Failure> {
    for mime in ["text/plain", "text/markdown", "application/json"] {
        shows(&says(&format!("display(\"{mime}\", {})", wave(&hostile())))?)?;
    }
    for mime in ["image/png", "image/svg+xml", "text/html", "application/octet-stream", ""] {
        inert(&says(&format!("display(\"{mime}\", {})", wave(&hostile())))?)?;
    }
    inert(&says(&format!("display({}, \"text\")", wave(&hostile())))?)
}

#[test]
fn u01_result_and_error() -> Result<(), Failure> {
    inert(&says(&format!("echo({})", wave(&hostile())))?)?;
    inert(&says(&format!("fail({})", wave(&hostile())))?)
}

#[test]
fn u01_prompt() -> Result<(), Failure> {
    let guest = guest("waits");
    let prompt = wave(&hostile());
    let world = world()?;
    let shown = at_terminal(
        &world,
        &["run", &guest.to_string_lossy(), "--invoke", &format!("ask({prompt})")],
        &[(CLOSE, "Ada\n")],
    )?;
    shows(&shown)?;
    ensure!(
        String::from_utf8_lossy(&shown).matches("Ada").count() >= 2,
        "it was not answered: {:?}",
        String::from_utf8_lossy(&shown)
    );
    Ok(())
}

/// A question in hostile text is shown as text, and a mere line end is no yes.
#[test]
fn u04_approval() -> Result<(), Failure> {
    let guest = guest("waits");
    let question = wave(&hostile());
    let world = world()?;
    let shown = at_terminal(
        &world,
        &["run", &guest.to_string_lossy(), "--invoke", &format!("approve({question})")],
        &[(CLOSE, "\n\u{4}")],
    )?;
    shows(&shown)?;
    let text = String::from_utf8_lossy(&shown);
    ensure!(text.contains("is suspended"), "an empty line was an answer: {text:?}");
    Ok(())
}

/// Everything that lists what guests asked: at a terminal, and what is still pending.
#[test]
fn u01_listings() -> Result<(), Failure> {
    let world = world()?;
    world.write_policy("level = \"restricted\"\n")?;
    let text = wave(&hostile());
    let waiting = world.waits("waits", &format!("review({text}, {text})"))?;
    let asked = world.waits("waits", &format!("ask({text})"))?;
    let ran = world.invoke("voices", &format!("print({text})"))?;
    let printed = ran.exits(0)?.json()?;
    let printed = printed["execution"].as_str().unwrap_or_default();
    let listings: [&[&str]; 9] = [
        &["ps", "--all"],
        &["promises"],
        &["promises", "--pending"],
        &["promise", "get", &waiting.promise],
        &["promise", "get", &asked.promise],
        &["show", &waiting.execution],
        &["show", printed],
        &["journal", &waiting.execution],
        &["journal", printed],
    ];
    for listing in listings {
        let shown = at_terminal(&world, listing, &[])?;
        inert(&shown).map_err(|failure| format!("{listing:?}: {failure}"))?;
    }
    world.resolve(&asked.promise, &serde_json::to_string(&hostile()).unwrap_or_default())?.exits(0)?;
    let shown = at_terminal(&world, &["resume", &asked.execution], &[])?;
    shows(&shown).map_err(|failure| format!("resume: {failure}").into())
}

/// What a path, an import or an export is called is guest text, too.
#[test]
fn u01_names() -> Result<(), Failure> {
    let world = world()?;
    let guest = guest("read-granted");
    let path = wave(&format!("/data/{}", hostile()));
    let shown = at_terminal(&world, &["run", &guest.to_string_lossy(), "--invoke", &format!("read({path})")], &[])?;
    inert(&shown)?;
    // And what the operator typed by mistake.
    let shown = at_terminal(&world, &["run", &guest.to_string_lossy(), "--invoke", &hostile().replace('\0', "")], &[])?;
    inert(&shown)?;
    let shown = at_terminal(&world, &["run", "no\u{1b}[2Jthing\u{9b}31m.wasm"], &[])?;
    inert(&shown)?;
    let shown = at_terminal(&world, &["show", "\u{1b}[2J\u{202e}"], &[])?;
    inert(&shown)?;
    std::fs::write(world.path("policy.toml"), "level = \"sand\u{202e}\u{9b}31mbox\"\n").map_err(io)?;
    let shown = at_terminal(&world, &["run", &guest.to_string_lossy(), "--policy", "policy.toml"], &[])?;
    inert(&shown)
}

/// Output that goes to a pipe is the guest's, byte by byte; the log is made inert wherever it goes.
#[test]
fn u01_pipe() -> Result<(), Failure> {
    let world = world()?;
    let guest = guest("voices");
    let (text, raw) = (wave(&hostile()), hostile());
    let ran = world.run(&["run", &guest.to_string_lossy(), "--invoke", &format!("print({text})")])?;
    ensure!(ran.exits(0)?.out().contains(&raw), "piped output is not what was printed\n{}", ran.report());
    let ran = world.run(&["run", &guest.to_string_lossy(), "--invoke", &format!("log({text})")])?;
    inert(&ran.exits(0)?.stderr)?;
    ensure!(ran.err().contains(CLOSE), "the log lost the text\n{}", ran.report());
    Ok(())
}

/// A log message with a line break in it is one record.
#[test]
fn u05_log_record() -> Result<(), Failure> {
    let world = world()?;
    let guest = guest("voices");
    let forged = wave("first\n2026-01-01T00:00:00Z ERROR parole: approved by root\r\nlast");
    for quiet in [false, true] {
        let mut arguments = vec![
            "run".to_owned(),
            guest.to_string_lossy().into_owned(),
            "--invoke".to_owned(),
            format!("log({forged})"),
        ];
        arguments.extend(quiet.then(|| "--json".to_owned()));
        let ran = world.run(&arguments)?;
        let err = ran.exits(0)?.err();
        let lines: Vec<&str> = err
            .lines()
            .filter(|line| line.contains("first") || line.contains("approved by root") || line.contains("last"))
            .collect();
        ensure!(lines.len() == 1, "one record became {} lines\n{}", lines.len(), ran.report());
    }
    Ok(())
}

/// A guest cannot make its output look like the host's own words: those go elsewhere.
#[test]
fn u03_host_text_stays() -> Result<(), Failure> {
    let shown = says(&format!("print({})", wave("safe\r\u{1b}[1Aforged\u{8}\u{8}\u{8}")))?;
    inert(&shown)?;
    ensure!(String::from_utf8_lossy(&shown).contains("safe"), "the start of the line is gone");
    Ok(())
}
