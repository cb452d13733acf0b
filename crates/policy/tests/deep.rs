//! Policy files that nest as deep as the parser lets them, on a small stack.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fmt::Write as _;

/// Runs on a thread with a stack of 1 MiB: half of what a Tokio worker has.
fn survives(toml: String) {
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(move || assert!(common::parse(&toml).is_err())).unwrap().join().unwrap();
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let dotted = vec!["a"; 78].join(".");
    for depth in [70, 79, 80, 81, 1_000, 100_000] {
        survives(format!("a = {}", "[".repeat(depth)));
        survives(format!("a = {}{}", "[".repeat(depth), "]".repeat(depth)));
        survives(format!("a = {}1{}", "{a = ".repeat(depth), "}".repeat(depth)));
        survives(vec!["a"; depth].join(".") + " = 1");
        survives(format!("[{}]", vec!["a"; depth].join(".")));
    }
    let mut deepest = format!("[{dotted}]\n");
    for _ in 0..78 {
        write!(deepest, "{dotted} = {{").unwrap();
    }
    deepest.push_str(&"}".repeat(78));
    survives(deepest.clone());
    survives(format!("{deepest}\n{}", deepest.lines().last().unwrap()));
    // The most dots that are let through to the parser.
    let allowed: Vec<&str> = deepest.lines().collect();
    let most = format!("{}\n{}", allowed[0], format!("{dotted} = {{").repeat(12) + &"}".repeat(12));
    survives(most.clone() + "\n" + most.lines().last().unwrap());
}

/// What stands in texts and comments is no structure, however many dots it has; keys with as many are refused.
#[test]
fn dots_in_texts_nest_nothing() {
    let dots = "a.".repeat(2_000);
    let rule = |message: &str| {
        format!("[[rule]]\nname = \"r\"\ncapability = \"read_file\"\nthen = \"deny\"\nmessage = {message}\n")
    };
    for text in [
        rule(&format!("\"{dots} = b\"")),
        rule(&format!("'{dots} = b'")),
        rule(&format!("\"\"\"\n{dots} = b\n\"\"\"")),
        format!("# {dots} = b\nlevel = \"standard\""),
        format!("level = \"standard\" # {dots} = b"),
    ] {
        let parsed = common::parse(&text);
        assert!(!format!("{parsed:?}").contains("too many dots"), "{parsed:?}");
    }
    let keys = format!("{}a = 1\n", "a.".repeat(60)).repeat(20);
    for text in [keys.clone(), format!("level = \"standard\"\n{keys}"), format!("x = '''\n'''\n{keys}")] {
        assert!(format!("{:?}", common::parse(&text)).contains("too many dots"), "{text}");
    }
}

/// Ten thousand files that were cut, joined and changed at random, from a fixed seed: none of them panics, and
/// what is refused has a place inside the file.
#[test]
fn changed_files_do_not_panic() {
    const PIECES: [&str; 24] = [
        "level",
        " = ",
        "\"standard\"",
        "\n",
        "\r\n",
        "[",
        "]",
        "{",
        "}",
        "[grant.read_file]",
        "dirs",
        "\"/a\"",
        "limits",
        ".",
        ",",
        "'",
        "\"\"\"",
        "#",
        "\u{feff}",
        "\u{1f980}",
        "\\",
        "9",
        "-",
        "block",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for _ in 0..10_000 {
        let length = random(40);
        let file: String = (0..length).map(|_| PIECES[random(PIECES.len())]).collect();
        for error in common::parse(&file).err().unwrap_or_default() {
            assert!(file.get(error.span.clone()).is_some(), "{error:?} in {file:?}");
            assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
    }
}

/// The slowest files that fit are refused in reasonable time.
#[test]
fn large_files_are_refused_quickly() {
    for piece in ["= ", "a\n", "\"", "[a]\n", "[[a]]\n", "a=1\n", "[[", "{", "x = 'y' z\n", "block = [\"\"]\n"] {
        let file = piece.repeat(parole_policy::MAX_FILE / piece.len());
        let start = std::time::Instant::now();
        assert!(common::parse(&file).is_err());
        assert!(start.elapsed().as_secs() < 20, "{piece:?} took {:?}", start.elapsed());
    }
}
