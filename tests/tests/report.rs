//! The example for newcomers does what its README says: every command in it is run for real, with the
//! program that was built, an API on loopback, and persons at pseudo-terminals.

use std::net::TcpListener;

use parole_tests::readme::{Place, Step, Terminal, answered, compare, plain, read, root};

/// The port in the README, which another program may have here.
const PORT: &str = "8391";
const ASKED: &str = "once, execution or deny";

#[test]
fn a_newcomer_can_follow_the_readme() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
    let text = std::fs::read_to_string(root().join("examples/report/README.md")).unwrap().replace(PORT, &port);
    let (steps, other) = read(&text);
    let other: Vec<Vec<String>> = other.into_iter().map(|(_, block)| block).collect();
    let place = Place::new(&["examples/report", "guest-examples/prebuilt/report.wasm"], (PORT, &port));
    let mut steps = steps.iter();
    let mut next = |begins: &str| {
        let step = steps.next().unwrap();
        assert!(step.command.starts_with(begins), "{} comes here, not {begins}", step.command);
        step
    };

    let compile = other[0].iter().find(|line| line.starts_with("rustc ")).unwrap();
    assert!(place.shell(compile).status().unwrap().success());

    for _ in 0..3 {
        answered(&place, next("parole policy explain"), &[], 0);
    }

    // The shell is replaced, so that the API ends with the test.
    let step = next("target/report-api");
    let api = Terminal::new(&mut place.shell(&format!("exec {} 2>&1", step.command)));
    api.wait_for("listening");
    compare(step, &api.shown());

    let run = next("parole run");
    let waiting = place.terminal(&run.command);
    waiting.wait_for(ASKED);
    assert!(!api.shown().contains("POST"), "nothing may be sent before the answer: {}", api.shown());
    compare(run, &waiting.shown());
    answered(&place, next("parole promises --pending"), &[], 0);
    answered(&place, next("parole answer"), &[(ASKED, "once")], 0);
    let (code, shown) = waiting.end();
    assert_eq!(code, Some(0), "{shown}");
    let (_, goes_on) = shown.rsplit_once("deny>").unwrap();
    compare(&Step { command: "(it goes on)".to_owned(), expected: other[1].clone() }, goes_on);

    answered(&place, next("timeout --foreground -s KILL"), &[], 137);
    let list = next("parole ps");
    let listed = place.shell(&list.command).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    compare(list, &listed);
    let id = listed.lines().nth(1).unwrap().split(' ').next().unwrap();
    let resume = next("parole resume ");
    let command = format!("parole resume {id}");
    assert_eq!(plain(&command), plain(&resume.command));
    answered(&place, &Step { command, expected: resume.expected.clone() }, &[(ASKED, "once")], 0);

    answered(&place, next("parole run"), &[], 75);
    answered(&place, next("parole answer"), &[(ASKED, "deny"), ("why, for the guest", "not before Friday")], 0);

    answered(&place, next("parole run"), &[], 0);
    assert!(steps.next().is_none(), "the README goes on");
    compare(&Step { command: "(the API)".to_owned(), expected: other[2].clone() }, &api.shown());
}
