//! Flags: a policy of their own, or a file narrowed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::path::Path;

use common::{CATALOGUE, parse, policy};
use parole_policy::{FlagError, Flags, Level, Limits, SecurityPolicy, Timeout};

/// Flags from words: `level=X block=X read=X write=X timeout=X`.
fn flags(words: &str) -> Flags {
    let mut flags = Flags::default();
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        let value = value.to_owned();
        match name {
            "level" => flags.level = Some(value.parse().unwrap()),
            "block" => flags.block.push(value),
            "read" => flags.allow_read.push(value),
            "write" => flags.allow_write.push(value),
            "timeout" => flags.timeouts.push(value),
            _ => panic!("{name}"),
        }
    }
    flags
}

fn say(result: Result<SecurityPolicy, FlagError>) -> String {
    match result {
        Err(error) => error.to_string(),
        Ok(policy) => {
            let dirs = policy.grants.iter().flat_map(|(name, grant)| {
                grant.dirs.iter().map(move |dir| format!(" {name}:{}={}", dir.guest, dir.host.display()))
            });
            format!("{}{}", policy.level, dirs.collect::<String>())
        }
    }
}

fn alone(words: &str) -> String {
    say(SecurityPolicy::from_flags(&flags(words), Path::new("/cwd"), &CATALOGUE))
}

#[test]
fn flags_are_the_policy() {
    let rows = [
        ("", "standard"),
        ("level=sandbox", "sandbox"),
        ("read=data", "standard read_file:/data=/cwd/data"),
        ("read=.", "standard read_file:/=/cwd"),
        ("read=./x/", "standard read_file:/x=/cwd/x"),
        ("read=/srv/d", "standard read_file:/srv/d=/srv/d"),
        ("read=/data=../up", "standard read_file:/data=/up"),
        ("read=/data=/srv/a=b", "standard read_file:/data=/srv/a=b"),
        ("read=/=.", "standard read_file:/=/cwd"),
        ("read=b read=a write=a", "standard read_file:/a=/cwd/a read_file:/b=/cwd/b write_file:/a=/cwd/a"),
        ("read=a,b", "standard read_file:/a,b=/cwd/a,b"),
        ("read=..x", "standard read_file:/..x=/cwd/..x"),
        ("read=../x", "--allow-read ../x: guest path `/../x` holds `..`, so its place for the guest is not clear"),
        (
            "read=a/../b",
            "--allow-read a/../b: guest path `/a/../b` holds `..`, so its place for the guest is not clear",
        ),
        ("read=data=./x", "--allow-read data=./x: guest path `data` must start with `/`"),
        ("read=/d=", "--allow-read /d=: the host path is empty"),
        ("read=", "--allow-read : the host path is empty"),
        ("read=/a/../b=x", "--allow-read /a/../b=x: guest path `/a/../b` holds `..`"),
        ("read=a read=./a", "--allow-read ./a: guest path `/a` is granted twice"),
        (
            "level=restricted write=a",
            "--allow-write a: `write_file` needs level `standard`; this policy has `restricted`",
        ),
        ("level=standard write=a", "standard write_file:/a=/cwd/a"),
        ("block=read_file read=a", "--allow-read a: `read_file` is in the block list of this policy"),
        ("block=write_file read=a", "standard read_file:/a=/cwd/a"),
        ("block=raed_file", "--block raed_file: unknown capability `raed_file`"),
        ("block=print,", "--block : unknown capability ``"),
        ("block=print,display", "standard"),
        ("timeout=input=5m", "standard"),
        ("timeout=input=never", "standard"),
        ("timeout=input", "--timeout input: there is no `=` in it"),
        ("timeout=inptu=5m", "--timeout inptu=5m: unknown capability `inptu`"),
        ("timeout=print=5m", "--timeout print=5m: `print` makes no promises, so it has no timeout"),
        ("timeout=dial=5m", "--timeout dial=5m: `dial` needs level `trusted`; this policy has `standard`"),
    ];
    for (words, expect) in rows {
        assert_eq!(alone(words), expect, "{words}");
    }
    for wrong in
        ["5", "5 m", "m", "", "-5m", "1.5h", "0s", "5M", "Never", "3651d", "99999999999999999999d", "5m ", "\u{665}m"]
    {
        let flags = Flags { timeouts: vec![format!("input={wrong}")], ..Flags::default() };
        let error = say(SecurityPolicy::from_flags(&flags, Path::new("/cwd"), &CATALOGUE));
        assert!(error.contains("is not a duration"), "{wrong}: {error}");
    }
    let policy = SecurityPolicy::from_flags(
        &flags("level=trusted timeout=input=2h block=print,display"),
        Path::new("/cwd"),
        &CATALOGUE,
    )
    .unwrap();
    assert_eq!(policy.limits, Limits::of(Level::Trusted));
    assert_eq!(policy.timeout_of(common::capability("input")), Timeout::After(7_200_000));
    assert_eq!(policy.block.iter().collect::<Vec<_>>(), ["display", "print"]);
}

#[test]
fn durations() {
    for (text, ms) in [
        ("250ms", 250),
        ("10s", 10_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("3650d", 315_360_000_000),
    ] {
        assert_eq!(text.parse(), Ok(Timeout::After(ms)));
        assert_eq!(Timeout::After(ms).to_string(), text);
    }
    assert_eq!("never".parse(), Ok(Timeout::Never));
    assert_eq!(Timeout::Never.to_string(), "never");
    assert_eq!(Timeout::After(90_000).to_string(), "90s");
    assert!(Timeout::After(u64::MAX) < Timeout::Never);
}

const FILE: &str = "level = \"standard\"
[limits]
memory = \"128MiB\"
[grant.read_file]
dirs = { \"/data\" = \"data\", \"/srv\" = \"/srv\" }
max_bytes = 5
[grant.write_file]
dirs = { \"/out\" = \"out\" }
[grant.input]
timeout_ms = 60_000
[grant.sleep]
timeout_ms = \"never\"
";

/// [`FILE`], in `/p`, narrowed by flags that were typed in `/p`.
fn narrow(words: &str) -> Result<SecurityPolicy, FlagError> {
    policy(FILE).narrow(&flags(words), Path::new("/p"), &CATALOGUE)
}

#[test]
fn flags_narrow_a_file() {
    let all = "standard read_file:/data=/p/data read_file:/srv=/srv write_file:/out=/p/out";
    let rows = [
        ("", all),
        ("level=standard", all),
        ("level=restricted", "restricted read_file:/data=/p/data read_file:/srv=/srv"),
        ("level=sandbox", "sandbox"),
        ("level=trusted", "--level trusted: the policy file has level `standard`"),
        ("level=unrestricted", "--level unrestricted: the policy file has level `standard`"),
        ("block=read_file", "standard write_file:/out=/p/out"),
        ("block=nothing", "--block nothing: unknown capability `nothing`"),
        ("read=data", "standard read_file:/data=/p/data write_file:/out=/p/out"),
        ("read=data/in", "standard read_file:/data/in=/p/data/in write_file:/out=/p/out"),
        ("read=/x=data/in", "standard read_file:/x=/p/data/in write_file:/out=/p/out"),
        ("read=/x=data/a/../in", "standard read_file:/x=/p/data/in write_file:/out=/p/out"),
        ("read=/srv/d", "standard read_file:/srv/d=/srv/d write_file:/out=/p/out"),
        ("read=data write=out", "standard read_file:/data=/p/data write_file:/out=/p/out"),
        ("read=data2", "--allow-read /p/data2: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("read=.", "--allow-read /p: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("read=/", "--allow-read /: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("read=/x=data/../out", "--allow-read /p/out: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("read=/srv2", "--allow-read /srv2: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("read=data read=out", "--allow-read /p/out: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("read=out", "--allow-read /p/out: the policy file has `/p/data`, `/srv` for `read_file`"),
        ("write=data", "--allow-write /p/data: the policy file has `/p/out` for `write_file`"),
        (
            "level=restricted write=out",
            "--allow-write out: `write_file` needs level `standard`; this policy has `restricted`",
        ),
        ("block=write_file write=out", "--allow-write out: `write_file` is in the block list of this policy"),
        ("timeout=input=60s", all),
        ("timeout=input=10s", all),
        ("timeout=input=61s", "--timeout input=61s: the policy file has 1m for `input`"),
        ("timeout=input=never", "--timeout input=never: the policy file has 1m for `input`"),
        ("timeout=sleep=never", all),
        ("timeout=sleep=1d", all),
        ("timeout=read_file=10s", all),
        ("timeout=read_file=11s", "--timeout read_file=11s: the policy file has 10s for `read_file`"),
        ("timeout=approve=7d", all),
        ("timeout=approve=8d", "--timeout approve=8d: the policy file has 7d for `approve`"),
        (
            "level=sandbox timeout=input=1s",
            "--timeout input=1s: `input` needs level `restricted`; this policy has `sandbox`",
        ),
    ];
    for (words, expect) in rows {
        assert_eq!(say(narrow(words)), expect, "{words}");
    }
    assert_eq!(narrow("").unwrap(), policy(FILE));
    let narrowed = narrow("read=data timeout=input=10s block=print").unwrap();
    assert_eq!(narrowed.grants["read_file"].max_bytes, Some(5));
    assert_eq!(narrowed.grants["input"].timeout, Timeout::After(10_000));
    assert!(narrowed.block.contains("print"));
    // Nothing is granted where the file grants nothing.
    let empty = parse("").unwrap().narrow(&flags("read=data"), Path::new("/p"), &CATALOGUE);
    assert_eq!(say(empty), "--allow-read /p/data: the policy file has no directories for `read_file`");
}

#[test]
fn limits_when_a_file_is_narrowed() {
    assert_eq!(narrow("").unwrap().limits, policy(FILE).limits);
    let sandbox = narrow("level=sandbox").unwrap().limits;
    assert_eq!(sandbox, Limits { memory: 128 << 20, ..Limits::of(Level::Sandbox) });
    let all = policy("level = \"unrestricted\"").narrow(&flags("level=restricted"), Path::new("/p"), &CATALOGUE);
    assert_eq!(all.unwrap().limits, Limits::of(Level::Restricted));
    // A bound that goes by the size of the guest is no number that could be compared.
    let limit = |toml: &str, limit: &str| {
        let flags = Flags { limits: vec![limit.to_owned()], ..Flags::default() };
        policy(toml).narrow(&flags, Path::new("/p"), &CATALOGUE)
    };
    let named = "[limits]\ncompile_cpu_ms = 20_000";
    assert_eq!(limit(named, "compile_cpu_ms=10000").unwrap().limits.compile_cpu_ms, 10_000);
    assert!(say(limit(named, "compile_cpu_ms=20001")).starts_with("--limit compile_cpu_ms=20001: "));
    for own in ["compile_cpu_ms=10000", "compile_memory=64GiB"] {
        assert!(say(limit("", own)).contains("to the size of the guest"), "{own}");
    }
}

/// A link below a granted directory can lead out of it: text can't show that, canonical paths do.
#[test]
fn canonical_paths_are_compared_again() {
    let (file, mut narrowed) = (policy(FILE), narrow("read=data/link").unwrap());
    assert!(narrowed.stays_within(&file, &CATALOGUE).is_ok());
    narrowed.grants.get_mut("read_file").unwrap().dirs[0].host = "/etc".into();
    assert_eq!(narrowed.stays_within(&file, &CATALOGUE).unwrap_err().asked, "/etc");
}

/// Trust in one's own authority is for all servers that the flags reach, and no flag adds it to a file.
#[test]
fn an_authority_of_ones_own() {
    let cwd = Path::new("/home/me");
    let of = |net: &[&str], databases: &[&str], ca: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let level = Some(Level::Trusted);
        let flags =
            Flags { level, allow_net: words(net), databases: words(databases), ca: words(ca), ..Flags::default() };
        SecurityPolicy::from_flags(&flags, cwd, &CATALOGUE)
    };
    let all = ["https://a.test", "wss://a.test"];
    let policy = of(&all, &["pg=env:PG", "lite=sqlite:a.db"], &["ca.pem", "/etc/b.pem"]).unwrap();
    let files =
        |list: &[parole_policy::Authority]| list.iter().map(|one| one.file.display().to_string()).collect::<Vec<_>>();
    let both = ["/home/me/ca.pem", "/etc/b.pem"];
    assert_eq!(
        (files(&policy.grants["fetch"].ca), files(&policy.grants["websocket"].ca)),
        (both.map(str::to_owned).to_vec(), both.map(str::to_owned).to_vec())
    );
    let query = &policy.grants["query"];
    assert_eq!(files(&query.database_ca["pg"]), both);
    assert_eq!((query.ca.len(), query.database_ca.len()), (0, 1));
    assert!(policy.grants["fetch"].ca[0].read.is_none());
    assert_eq!(policy.validate(&CATALOGUE), Ok(()));

    for (result, expect) in [
        (of(&[], &["lite=sqlite:a.db"], &["ca.pem"]), "--ca ca.pem: there is no server that it could be for"),
        (of(&["https://a.test"], &[], &["a", "./a"]), "--ca ./a: the file `/home/me/a` stands twice"),
        (of(&["https://a.test"], &[], &[""]), "--ca : the host path is empty"),
    ] {
        assert_eq!(result.unwrap_err().to_string(), expect);
    }
    let flags = Flags { ca: vec!["ca.pem".to_owned()], ..Flags::default() };
    let error = policy.clone().narrow(&flags, cwd, &CATALOGUE).unwrap_err().to_string();
    assert_eq!(error, "--ca ca.pem: the policy file has the authorities that it trusts");
    assert!(policy.granted(&flags, &[], cwd, &CATALOGUE).unwrap_err().to_string().contains("cannot be changed"));
    // What a flag leaves of a file keeps the trust of the file.
    let flags = Flags { databases: vec!["pg=env:PG".to_owned()], ..Flags::default() };
    let narrowed = policy.clone().narrow(&flags, cwd, &CATALOGUE).unwrap();
    assert_eq!(narrowed.grants["query"].database_ca, query.database_ca);
    let flags = Flags { databases: vec!["pg".to_owned()], ..Flags::default() };
    let revoked = policy.revoked_by(&flags, &[], cwd, &CATALOGUE).unwrap();
    assert_eq!(revoked.grants["query"].database_ca.len(), 0);
}
