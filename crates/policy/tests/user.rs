//! Capabilities that a policy defines: the keys of their tables, their WIT, and how their calls are decided.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::path::Path;

use common::CATALOGUE;
use parole_policy::{
    Definition, Files, Level, Link, MAX_FUNCTIONS, MAX_TYPE_DEPTH, MAX_TYPES, MAX_WIT, Mistyped, SecurityPolicy, Then,
    Timeout, Typed, UserCapability, WorkEffect,
};

const CRM: &str = "acme:crm/customers@1.0.0";

const WIT: &str = "package acme:crm@1.0.0;
interface customers {
  record customer { id: string, name: string, email: option<string>, orders: u32 }
  variant reach { nobody, one(string), many(list<string>) }
  lookup: func(id: string) -> result<customer, string>;
  update: func(customer: customer, id: string) -> result<_, string>;
  tell: func(whom: reach, id: string, urgent: bool);
}
interface other { ping: func(); }
interface things { resource thing { constructor(); } make: func() -> thing; }
interface types { record point { x: u32 } }
interface later { wait: async func(); }
interface flow { take: func(input: stream<u8>); }
";

fn read(toml: &str) -> Result<SecurityPolicy, Vec<String>> {
    let authority = |_: &Path| Err("no".to_owned());
    let wit = |file: &Path| match file.to_str() {
        Some("/srv/policies/crm.wit") => Ok(WIT.to_owned()),
        Some("/srv/policies/bad.wit") => Ok("package a:b;\ninterface c {\n  f: func(\n}".to_owned()),
        Some("/srv/policies/long.wit") => {
            Ok(format!("package a:b; // {}\ninterface c {{ f: func(); }}", "x".repeat(MAX_WIT)))
        }
        _ => Err("the file cannot be read".to_owned()),
    };
    let files = Files { authority: &authority, wit: &wit };
    SecurityPolicy::parse_with(toml, Path::new("/srv/policies"), &CATALOGUE, &files).map_err(|errors| {
        let help = |help: Option<String>| help.map(|help| format!(" | {help}")).unwrap_or_default();
        errors.into_iter().map(|error| format!("{} {}{}", error.line, error.message, help(error.help))).collect()
    })
}

fn faults(toml: &str) -> Vec<String> {
    read(toml).err().unwrap_or_default()
}

fn table(rest: &str) -> String {
    format!("[capability.\"{CRM}\"]\nwit = \"crm.wit\"\nvia = \"worker\"\nlevel = \"standard\"\n{rest}")
}

#[test]
fn every_key_has_its_wrong_value() {
    assert_eq!(faults(&table("")), [""; 0]);
    let one = |fault: &str| vec![fault.to_owned()];
    let crm = |keys: &str| faults(&format!("[capability.\"{CRM}\"]\n{keys}"));
    assert_eq!(crm("via = \"worker\""), one("1 capability `acme:crm/customers@1.0.0` has no `wit` | wit = \"FILE\""));
    assert_eq!(
        crm("wit = \"crm.wit\""),
        one("1 capability `acme:crm/customers@1.0.0` has no `via` | via = \"worker\"")
    );
    let place = format!("capability.{CRM}");
    assert_eq!(
        crm("wit = \"crm.wit\"\nvia = \"component\""),
        one(&format!("3 {place}.via: `component` is not known to this version of Parole yet"))
    );
    assert_eq!(
        crm("wit = \"crm.wit\"\nvia = \"wroker\""),
        one(&format!("3 {place}.via: unknown word `wroker` | did you mean `worker`?"))
    );
    assert_eq!(crm("wit = \"gone.wit\"\nvia = \"worker\""), one(&format!("2 {place}.wit: the file cannot be read")));
    assert_eq!(faults(&table("level_ = 1")), one(&format!("5 unknown key `{place}.level_` | did you mean `level`?")));
    assert_eq!(
        faults(&table("timeout_ms = 0")),
        one(&format!("5 `{place}.timeout_ms` is too small: 1 ms at least | 1 ms to 315360000000 ms"))
    );
    assert_eq!(
        faults(&table("func.lookup.effect = \"twice\"")),
        one(&format!("5 {place}.func.lookup.effect: unknown effect `twice` | valid: read, idempotent, once"))
    );
    assert_eq!(
        faults(&table("func.lokup.effect = \"read\"")),
        one(&format!("1 capability `{CRM}`: its WIT has no function `lokup`; did you mean `lookup`?"))
    );
    let key = faults(&table("func.lookup.timeout_ms = 5"));
    assert!(key[0].starts_with(&format!("5 unknown key `{place}.func.lookup.timeout_ms`")), "{key:?}");
}

/// Columns: the name of an interface, what is said of defining it.
#[test]
fn what_nobody_may_define() {
    for (name, said) in [
        ("parole:capabilities/fetch@0.1.0", "interfaces of `parole:` are not for others to define"),
        ("parole:mine/x", "interfaces of `parole:` are not for others to define"),
        ("wasi:cli/stdin@0.2.0", "interfaces of `wasi:` are not for others to define"),
        ("customers", "it is not the name of an interface, such as acme:crm/customers@1.0.0"),
        ("acme:crm/", "it is not the name of an interface, such as acme:crm/customers@1.0.0"),
        ("acme:crm/a b", "it is not the name of an interface, such as acme:crm/customers@1.0.0"),
        ("acme:crm/x@", "it is not the name of an interface, such as acme:crm/customers@1.0.0"),
    ] {
        let all = faults(&format!("[capability.\"{name}\"]\nwit = \"crm.wit\"\nvia = \"worker\""));
        assert_eq!(all, [format!("1 capability `{name}`: {said}")], "{name}");
    }
    // The same through Rust, where no file is read.
    let mut policy = SecurityPolicy::new(Level::Standard).define("wasi:cli/x@1.0.0", UserCapability::new(WIT));
    assert!(policy.resolve(&CATALOGUE).unwrap_err()[0].contains("interfaces of `wasi:`"));
}

/// Columns: an interface of the text, what is said of it.
#[test]
fn what_a_promise_cannot_carry() {
    for (name, said) in [
        ("acme:crm/nothing@1.0.0", "its WIT has no interface `acme:crm/nothing@1.0.0`; "),
        ("acme:crm/things@1.0.0", "it has the resource `thing`: a promise cannot hold one"),
        ("acme:crm/types@1.0.0", "it has no functions; an interface of types only is linked without being defined"),
        ("acme:crm/later@1.0.0", "`wait`: an `async func` is not known to this version of Parole yet: write `func`"),
        ("acme:crm/flow@1.0.0", "`take`: `input`: a `stream` lives in one process, and a promise does not"),
    ] {
        let all = faults(&format!("[capability.\"{name}\"]\nwit = \"crm.wit\"\nvia = \"worker\""));
        assert!(all[0].contains(said), "{name}: {all:?}");
    }
    let bad = faults("[capability.\"a:b/c\"]\nwit = \"bad.wit\"\nvia = \"worker\"");
    assert!(bad[0].starts_with("1 capability `a:b/c`: its WIT, line 4, column 1: expected"), "{bad:?}");
    let long = faults("[capability.\"a:b/c\"]\nwit = \"long.wit\"\nvia = \"worker\"");
    assert!(long[0].ends_with(&format!("its WIT is over {MAX_WIT} bytes")), "{long:?}");
}

fn of(body: &str) -> Result<Definition, String> {
    UserCapability::new(&format!("package a:b;\ninterface c {{\n{body}\n}}")).definition("a:b/c")
}

/// Each limit, and one past it.
#[test]
fn what_is_too_much_is_said() {
    let functions = |count: usize| (0..count).map(|n| format!("f-n{n}: func();\n")).collect::<String>();
    assert!(of(&functions(MAX_FUNCTIONS)).is_ok());
    assert!(of(&functions(MAX_FUNCTIONS + 1)).unwrap_err().contains("over 128 functions"));
    let nested = |depth: usize| format!("f: func(a: {}u32{});", "list<".repeat(depth - 1), ">".repeat(depth - 1));
    assert!(of(&nested(MAX_TYPE_DEPTH)).is_ok());
    assert!(of(&nested(MAX_TYPE_DEPTH + 1)).unwrap_err().contains("over 32 deep"));
    // Each of twelve records holds the one before it twice.
    let doubled = |depth: usize| {
        let each = (1..=depth).map(|n| format!("record r{n} {{ a: r{0}, b: r{0} }}\n", n - 1));
        format!("record r0 {{ x: u8 }}\n{}f: func(a: r{depth});", each.collect::<String>())
    };
    assert!(of(&doubled(9)).is_ok());
    assert!(of(&doubled(12)).unwrap_err().contains(&format!("over {MAX_TYPES} types")));
}

#[test]
fn the_shared_types_may_be_used() {
    let definition = of("use parole:capabilities/types@0.1.0.{error};\nf: func() -> result<u32, error>;").unwrap();
    assert!(definition.functions[0].to_string().contains("denied(string)"), "{}", definition.functions[0]);
}

fn crm(rest: &str) -> SecurityPolicy {
    read(&format!("level = \"standard\"\n{}", table(rest))).unwrap()
}

fn says(policy: &SecurityPolicy, name: &str, given: &[&str]) -> String {
    let catalogue = policy.catalogue(&CATALOGUE);
    let (definition, function) = catalogue.named(name).unwrap();
    match Typed::read(definition, function, given, policy.looks(definition)) {
        Ok(call) => policy.explain(definition, &call).text,
        Err(Mistyped::Usage(usage)) => usage,
        Err(Mistyped::Formless(denial)) => denial.reason,
    }
}

#[test]
fn a_rule_is_about_the_capability_or_one_function() {
    let policy = crm(
        "func.lookup.effect = \"read\"\n\n[[rule]]\nname = \"mail\"\ncapability = \"acme:crm/customers.update\"\nwhen = 'customer.email != null && customer.orders > 3'\nthen = \"ask\"\n\
         [[rule]]\nname = \"urgent\"\ncapability = \"acme:crm/customers@1.0.0.tell\"\nwhen = 'urgent && whom.case == \"many\" && size(whom.many) > 2'\nthen = \"deny\"\n\
         [[rule]]\nname = \"root\"\ncapability = \"acme:crm/customers\"\nwhen = 'id == \"0\"'\nthen = \"deny\"\n",
    );
    let ada = |email: &str, orders: u32| {
        format!("{{\"id\": \"1\", \"name\": \"Ada\", \"email\": {email}, \"orders\": {orders}}}")
    };
    let update = |email, orders, id| says(&policy, "acme:crm/customers.update", &[&ada(email, orders), id]);
    assert!(update("\"a@b.c\"", 4, "1").starts_with("ask acme:crm/customers@1.0.0: rule `mail` says ask"));
    assert!(update("\"a@b.c\"", 3, "1").starts_with("allow"));
    assert!(update("null", 4, "1").starts_with("allow"));
    assert!(update("null", 4, "0").starts_with("deny"), "what is about all functions is about this one");
    assert!(update("1", 4, "0").starts_with("`customer.email`: expected a JSON string"));
    let tell = |whom, urgent| says(&policy, "acme:crm/customers.tell", &[whom, "1", urgent]);
    assert!(tell("{\"many\": [\"a\", \"b\", \"c\"]}", "true").starts_with("deny"));
    assert!(tell("{\"many\": [\"a\", \"b\"]}", "true").starts_with("allow"));
    assert!(tell("{\"one\": \"a\"}", "true").starts_with("allow"));
    assert!(tell("nobody", "false").starts_with("allow"));
    assert!(says(&policy, CRM, &["1"]).starts_with("expected: acme:crm/customers@1.0.0.lookup ID, or "));
}

/// Columns: a rule about all functions, what is said of it.
#[test]
fn a_rule_about_all_functions_has_what_all_take() {
    let rule = |name: &str, when: &str| {
        faults(&table(&format!("[[rule]]\nname = \"r\"\ncapability = \"{name}\"\nwhen = '{when}'\nthen = \"deny\"")))
    };
    assert_eq!(rule("acme:crm/customers", "id == \"0\""), [""; 0]);
    assert_eq!(rule("acme:crm/customers", "urgent"), ["8 rule.when: unknown variable `urgent` | valid: id"]);
    assert_eq!(rule("acme:crm/customers.tell", "urgent"), [""; 0]);
    assert!(rule("acme:crm/customers.tel", "urgent")[0].contains("unknown capability `acme:crm/customers.tel`"));
    assert!(rule("acme:crm/customers@2.0.0", "true")[0].contains("unknown capability"));
}

#[test]
fn a_function_can_be_blocked_and_revoked() {
    let blocked =
        read(&format!("level = \"standard\"\nblock = [\"acme:crm/customers.update\"]\n{}", table(""))).unwrap();
    assert!(blocked.block.contains("acme:crm/customers@1.0.0.update"));
    assert!(says(&blocked, "acme:crm/customers.lookup", &["1"]).starts_with("allow"));
    let ada = "{\"id\": \"1\", \"name\": \"Ada\", \"email\": null, \"orders\": 1}";
    assert!(says(&blocked, "acme:crm/customers.update", &[ada, "1"]).starts_with("deny"));
    let policy = crm("");
    let flags = parole_policy::Flags::default();
    let names = ["acme:crm/customers.update".to_owned()];
    let revoked = policy.revoked_by(&flags, &names, Path::new("/"), &CATALOGUE).unwrap();
    assert!(says(&revoked, "acme:crm/customers.lookup", &["1"]).starts_with("allow"));
    assert!(says(&revoked, "acme:crm/customers.update", &[ada, "1"]).contains("was revoked"));
    let again = revoked.granted(&flags, &["acme:crm/customers".to_owned()], Path::new("/"), &CATALOGUE).unwrap();
    assert!(says(&again, "acme:crm/customers.update", &[ada, "1"]).starts_with("allow"));
}

/// Of a capability that is revoked as a whole one function is given back, and no other.
#[test]
fn one_function_is_given_back() {
    let flags = parole_policy::Flags::default();
    let (all, one) = (["acme:crm/customers".to_owned()], ["acme:crm/customers.lookup".to_owned()]);
    let revoked = crm("").revoked_by(&flags, &all, Path::new("/"), &CATALOGUE).unwrap();
    assert!(says(&revoked, "acme:crm/customers.lookup", &["1"]).contains("was revoked"));
    let some = revoked.granted(&flags, &one, Path::new("/"), &CATALOGUE).unwrap();
    let ada = "{\"id\": \"1\", \"name\": \"Ada\", \"email\": null, \"orders\": 1}";
    assert!(says(&some, "acme:crm/customers.lookup", &["1"]).starts_with("allow"));
    assert!(says(&some, "acme:crm/customers.update", &[ada, "1"]).contains("was revoked"));
    let rest = some.granted(&flags, &all, Path::new("/"), &CATALOGUE).unwrap();
    assert!(says(&rest, "acme:crm/customers.update", &[ada, "1"]).starts_with("allow"));
}

/// `link.denied` is compared as imports are: by the track of the version.
#[test]
fn an_interface_is_denied_under_every_version_that_links() {
    let denied = |name: &str| read(&format!("level = \"standard\"\n[link]\ndenied = [{name:?}]\n{}", table("")));
    for name in ["acme:crm/customers", CRM, "acme:crm/customers@1.7.2"] {
        let policy = denied(name).unwrap();
        for import in [CRM, "acme:crm/customers@1.3.0"] {
            assert!(matches!(policy.link(import, &CATALOGUE), Link::AllDenied(own) if *own.name == *CRM), "{name}");
        }
    }
    for (name, fault) in [
        ("acme:crm/customers@2.0.0", "this host has it as `acme:crm/customers@1.0.0`"),
        ("acme:crm/customers@1.0", "this host has it as `acme:crm/customers@1.0.0`"),
        ("acme:crm/customers.lookup", "it names one function"),
        ("acme:other/thing@1.x", "it is not the name of an interface"),
        ("parole:capabilities/types@0.1.0", "it carries no authority"),
    ] {
        let faults = denied(name).unwrap_err();
        assert!(faults[0].contains(fault), "{name}: {faults:?}");
        let rust = SecurityPolicy::new(Level::Standard).define(CRM, UserCapability::new(WIT)).link_denied(name);
        let faults = rust.clone().resolve(&CATALOGUE).unwrap_err();
        assert!(faults.iter().any(|own| own.contains(fault)), "{name}: {faults:?}");
    }
}

#[test]
fn level_and_block_list_decide_at_the_link() {
    let link = |toml: &str, import: &str| match read(toml).unwrap().link(import, &CATALOGUE) {
        Link::Denied(denial) => denial.reason,
        Link::Granted(own) => own.name.to_string(),
        Link::AllDenied(own) => format!("{} all denied", own.name),
        Link::Types => "types".into(),
    };
    assert_eq!(link(&format!("level = \"standard\"\n{}", table("")), CRM), CRM);
    assert_eq!(link(&format!("level = \"standard\"\n{}", table("")), "acme:crm/customers@1.3.0"), CRM);
    assert!(
        link(&format!("level = \"standard\"\n{}", table("")), "acme:crm/customers@2.0.0").contains("does not match")
    );
    assert!(link(&format!("level = \"restricted\"\n{}", table("")), CRM).contains("needs level `standard` or higher"));
    assert!(link(&format!("block = [\"acme:crm/customers\"]\n{}", table("")), CRM).contains("in the block list"));
    assert!(link("", CRM).contains("no capability is defined"));
    let unrestricted = table("").replace("level = \"standard\"\n", "");
    assert!(link(&format!("level = \"trusted\"\n{unrestricted}"), CRM).contains("needs level `unrestricted`"));
}

/// What an execution pins is read again as the same policy, with what it defines.
#[test]
fn it_is_pinned_with_its_wit() {
    let policy = crm(
        "timeout_ms = 5_000\nfunc.lookup.effect = \"read\"\n[[rule]]\nname = \"r\"\ncapability = \"acme:crm/customers.tell\"\nwhen = 'urgent'\nthen = \"deny\"",
    );
    let json = policy.to_json().unwrap();
    let mut again = SecurityPolicy::from_json(&json).unwrap();
    again.resolve(&CATALOGUE).unwrap();
    assert_eq!(again, policy);
    assert_eq!(again.to_json().unwrap(), json);
    let catalogue = again.catalogue(&CATALOGUE);
    let own = catalogue.by_name(CRM).unwrap();
    assert_eq!(again.timeout_of(own), Timeout::After(5_000));
    assert_eq!(own.effects, [WorkEffect::Read, WorkEffect::Idempotent, WorkEffect::Idempotent]);
    assert_eq!(own.function("lookup").unwrap().name.as_ref(), "acme:crm/customers@1.0.0.lookup");
    assert!(says(&again, "acme:crm/customers.tell", &["nobody", "1", "true"]).starts_with("deny"));
    // Put together in Rust it comes to the same.
    let mut rust = SecurityPolicy::new(Level::Standard)
        .define(
            CRM,
            UserCapability { level: Level::Standard, timeout: Timeout::After(5_000), ..UserCapability::new(WIT) },
        )
        .rule("r", "acme:crm/customers.tell", Some("urgent"), Then::Deny);
    rust.capabilities.get_mut(CRM).unwrap().effects.insert("lookup".into(), WorkEffect::Read);
    rust.resolve(&CATALOGUE).unwrap();
    assert_eq!(rust.to_json().unwrap(), json);
}
