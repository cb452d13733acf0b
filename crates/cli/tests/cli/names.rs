//! Names of files and directories, ids that are pasted, and commands that the program prints.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use crate::scratch::{PAROLE, Ran, Scratch, guest, ran};

fn with(scratch: &Scratch, words: &[&OsStr]) -> Ran {
    ran(scratch.command(words))
}

#[test]
fn a_directory_whose_name_is_not_utf_8_is_a_directory_like_any_other() {
    let scratch = Scratch::new();
    let odd = scratch.path("").join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&odd).unwrap();
    let file = odd.join("greet.wasm");
    std::fs::copy(guest("greet.wasm"), &file).unwrap();
    let word = OsStr::new;
    let left = with(&scratch, &[word("run"), file.as_os_str(), word("--detach"), word("--json")]).code(75).json();
    let (execution, id) = (left["execution"].as_str().unwrap(), left["pending"][0]["id"].as_str().unwrap());
    scratch.parole(&["promise", "resolve", id, "--data", "Ada"]).code(0);
    // The file is looked at by its name, byte for byte.
    std::fs::copy(guest("everything.wasm"), &file).unwrap();
    scratch.parole(&["resume", execution]).code(73).says("now holds another component");
    std::fs::copy(guest("greet.wasm"), &file).unwrap();
    scratch.parole(&["resume", execution]).code(0).prints("Hello, Ada!\n");
    // The state may lie there as well, and what is printed about it can be typed.
    let state = odd.join("state");
    let run = [word("run"), word("--state"), state.as_os_str(), word(&guest("greet.wasm")), word("--detach")]
        .map(OsString::from);
    let left = ran(scratch.command(run)).code(75);
    let go_on = left.err.lines().find_map(|line| line.trim().strip_prefix("go on: ")).unwrap().to_owned();
    let shell =
        Command::new("/bin/bash").arg("-c").arg(go_on.replacen("parole", PAROLE, 1)).env_clear().output().unwrap();
    assert_eq!(shell.status.code(), Some(75), "{go_on}: {}", String::from_utf8_lossy(&shell.stderr));
}

#[test]
fn a_guest_from_stdin_is_resumed_from_what_is_stored() {
    let scratch = Scratch::new();
    for path in ["/dev/stdin", "/proc/self/fd/0", "/dev/fd/0", "link"] {
        let _ = std::os::unix::fs::symlink("/dev/stdin", scratch.path("link"));
        let mut run = scratch.command(["run", path, "--detach", "--json"]);
        run.stdin(std::fs::File::open(guest("greet.wasm")).unwrap());
        let left = ran(run).code(75).json();
        let execution = left["execution"].as_str().unwrap();
        let mut resume = scratch.command(["resume", execution, "--stdin", "-"]);
        resume.stdin(std::fs::File::open(scratch.file("answers", "Ada\n")).unwrap());
        ran(resume).code(0).prints("Hello, Ada!\n");
    }
    // A link to a file on the disk is a name like any other: what it leads to is looked at.
    std::fs::copy(guest("greet.wasm"), scratch.path("one.wasm")).unwrap();
    std::os::unix::fs::symlink("one.wasm", scratch.path("greet.wasm")).unwrap();
    let (execution, _) = scratch.left_at(&["run", "greet.wasm", "--detach", "--json"]);
    std::fs::copy(guest("everything.wasm"), scratch.path("one.wasm")).unwrap();
    scratch.parole(&["resume", &execution]).code(73).says("now holds another component");
}

#[test]
fn a_byte_order_mark_is_no_part_of_what_a_file_says() {
    let scratch = Scratch::new();
    let lines = scratch.file("a.txt", b"\xef\xbb\xbfAda\r\n");
    scratch.parole(&["run", &guest("greet.wasm"), "--stdin", &lines]).code(0).prints("Hello, Ada!\n");
    scratch
        .piped(&["run", &guest("greet.wasm"), "--stdin", "-"], b"\xef\xbb\xbfAda\r\n")
        .code(0)
        .prints("Hello, Ada!\n");
    let (execution, id) = scratch.waiting();
    let file = scratch.file("a.json", b"\xef\xbb\xbf\"Ada\"\r\n");
    scratch.parole(&["promise", "resolve", &id, "--file", &file]).code(0);
    scratch.parole(&["resume", &execution]).code(0).prints("Hello, Ada!\n");
    let policy = scratch.file("p.toml", b"\xef\xbb\xbflevel = \"restricted\"\r\n");
    scratch.parole(&["policy", "check", &policy]).code(0);
    let mut text = b"\xef\xbb\xbf".to_vec();
    text.extend(std::fs::read(guest("hello.wat")).unwrap());
    let wat = scratch.file("hello.wat", text);
    scratch.parole(&["run", &wat]).code(0);
    // UTF-16 is another encoding, and is called so.
    let wide: Vec<u8> = "\u{feff}Ada\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let file = scratch.file("wide", &wide);
    scratch.parole(&["run", &guest("greet.wasm"), "--stdin", &file]).code(75).says("UTF-16");
    let (_, id) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &id, "--file", &file]).code(2).says("UTF-16");
    scratch.parole(&["policy", "check", &file]).code(2).says("UTF-16");
}

#[test]
fn brackets_in_a_text_nest_nothing() {
    let scratch = Scratch::new();
    for text in ["it rains :( ".repeat(120), "[{(".repeat(200), "\\\"(".repeat(200)] {
        let call = format!("greet(\"{text}\")");
        let ran = scratch.parole(&["run", &guest("add.wat"), "--invoke", &call]).code(0);
        assert!(ran.out.contains(&text), "{}", ran.out);
    }
    for call in [format!("greet({})", "(".repeat(200)), format!("add({}1, 2)", "[".repeat(200))] {
        scratch.parole(&["run", &guest("add.wat"), "--invoke", &call]).code(2).says("nested deeper than 100");
    }
}

/// The commands that a text prints, for a shell.
fn commands(text: &str) -> Vec<String> {
    let of = |line: &str| line.find("parole ").map(|at| line[at..].trim_end_matches(['`', ')']).to_owned());
    text.lines().filter(|line| line.contains(": parole ")).filter_map(of).collect()
}

#[test]
fn a_printed_command_works_as_it_is_printed() {
    for state in ["plain", "a state", "it's"] {
        let scratch = Scratch::new();
        let dir = scratch.path(state);
        let dir = dir.to_str().unwrap();
        // As it is printed, in a shell without the variable.
        let shell = |line: &str| {
            let line = line.replacen("parole", PAROLE, 1);
            let mut command = Command::new("/bin/bash");
            command.args(["-c", &line]).env_clear().env("HOME", scratch.path("home"));
            command.stdin(std::process::Stdio::null());
            Ran::of(&command.output().unwrap())
        };
        let left = scratch.parole(&["run", &guest("greet.wasm"), "--detach", "--state", dir]).code(75);
        let printed = commands(&left.err);
        assert_eq!(printed.len(), 3, "{}", left.err);
        let resolve = printed.iter().find(|line| line.contains("promise resolve")).unwrap();
        let settled = shell(&resolve.replace("TEXT", "Ada")).code(0);
        for next in commands(&settled.err) {
            shell(&next).code(0).prints("Hello, Ada!\n");
        }
        let go_on = printed.iter().find(|line| line.contains("parole resume")).unwrap();
        shell(go_on).code(0);
        // An `ask`: how to see it, and from there each way to settle it.
        let policy = scratch.asks_before("write_file");
        let ask = ["run", &guest("files.wasm"), "--policy", &policy, "--state", dir];
        for way in 0..4 {
            let left = scratch.parole(&ask).code(75);
            let get = commands(&left.err).into_iter().find(|line| line.contains("promise get")).unwrap();
            let got = shell(&get).code(0).out;
            let ways: Vec<&str> =
                got.lines().map(str::trim).filter(|line| line.starts_with("parole promise resolve")).collect();
            assert_eq!(ways.len(), 4, "{got}");
            shell(ways[way]).code(0);
        }
        // Where something cannot be found.
        let gone = "01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44";
        let said = scratch.parole(&["show", gone, "--state", dir]).code(2).err;
        let list = said.split('`').nth(1).unwrap();
        shell(list).code(0);
        let said = scratch.parole(&["show", "no-id", "--state", dir]).code(2).err;
        let list = said.split('`').nth(1).unwrap();
        assert!(list.starts_with("parole ps"), "{said}");
        shell(list).code(0);
    }
}

#[test]
fn an_id_may_be_pasted_with_what_stands_around_it() {
    let scratch = Scratch::new();
    let (execution, id) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &format!(" {id}\n"), "--data", " Ada "]).code(0);
    scratch.parole(&["resume", &format!("\t{execution}\r\n")]).code(0).prints("Hello,  Ada !\n");
    scratch.parole(&["show", &format!("{execution} ")]).code(0);
}

#[test]
fn a_directory_flag_has_one_reading() {
    let scratch = Scratch::new();
    scratch.file("lake/year=2024/in.txt", "right");
    scratch.file("2024/in.txt", "other");
    let lake = scratch.path("lake/year=2024");
    let lake = lake.to_str().unwrap();
    let read = |flag: &str, policy: &str| {
        scratch.parole(&["run", &guest("files.wasm"), "--allow-read", flag, "--allow-write", policy])
    };
    scratch.dir("out");
    let said = read(lake, "/out=./out").code(2).says("can be read in two ways").says("seen at its own place");
    // Both ways to say it, as they are printed.
    let hints: Vec<&str> = said.err.lines().filter_map(|line| line.trim().strip_prefix("for the ")).collect();
    assert_eq!(hints.len(), 2, "{}", said.err);
    for (hint, text) in hints.iter().zip(["RIGHT", "OTHER"]) {
        let flag = hint.split_once("--allow-read ").unwrap().1.split(", with").next().unwrap();
        // The guest reads below /data.
        let flag =
            if text == "OTHER" { flag.replacen(flag.split('=').next().unwrap(), "/data", 1) } else { flag.to_owned() };
        read(&flag, "/out=./out").code(0);
        assert_eq!(std::fs::read_to_string(scratch.path("out/out.txt")).unwrap(), text, "{flag}");
    }
    let (execution, _) = scratch.waiting();
    scratch.parole(&["grant", &execution, "--allow-read", lake]).code(2).says("can be read in two ways");
    // Where there is no such directory, there is one reading.
    scratch
        .parole(&["run", &guest("files.wasm"), "--allow-read", "/data=lake/year=2024", "--allow-write", "/out=./out"])
        .code(0);
}

#[test]
fn a_canceled_execution_is_replayed_as_canceled_and_timers_end() {
    let scratch = Scratch::new();
    let (execution, _) = scratch.waiting();
    scratch.parole(&["replay", &execution]).code(0).says("suspended");
    scratch.parole(&["cancel", &execution]).code(0);
    scratch.parole(&["replay", &execution]).code(0).says("canceled");
    assert_eq!(scratch.parole(&["replay", &execution, "--json"]).code(0).json()["outcome"], "canceled");
    let waits = format!("{}/../../tests/fixtures/waits/guest.wat", env!("CARGO_MANIFEST_DIR"));
    let left =
        scratch.parole(&["run", &waits, "--invoke", "sleep(864000000, 1)", "--detach"]).code(75).says(", ends in ");
    assert!(!left.err.contains("expires"), "{}", left.err);
    let timer = scratch.parole(&["promises", "--pending", "--capability", "sleep", "--json"]).code(0).json();
    let timer = timer[0]["id"].as_str().unwrap();
    let got = scratch.parole(&["promise", "get", timer]).code(0).out;
    assert!(got.contains("\nends ") && !got.contains("expires"), "{got}");
    let execution = timer.split(':').nth(1).unwrap();
    let shown = scratch.parole(&["show", execution]).code(0).out;
    assert!(shown.contains(", ends in ") && !shown.contains("expires"), "{shown}");
    // In the foreground it says what it waits for, once.
    let mut child = scratch.command(["resume", execution]).spawn().unwrap();
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert!(line.contains("waits for sleep, which ends in 9 d 23 h"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}
