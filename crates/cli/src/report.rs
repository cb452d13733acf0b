//! What a run came to, in words.

use parole_durable::hub::now;
use parole_policy::{Kind, LimitKey, Type};
use parole_runtime::{At, CATALOGUE, Denied, Outcome, Report, question};

use crate::console::Console;
use crate::{output, shell, times};

/// Denied calls beyond this many are counted, not listed.
const DENIED_SHOWN: usize = 20;

/// Says how a run ended: its result on stdout, everything else on stderr.
pub fn say(report: &Report, console: &Console, json: bool) {
    if let (Some(result), false) = (&report.result, json) {
        let _ = output::guest(&format!("{result}\n"));
    }
    let fatal = matches!(report.outcome, Outcome::Denied);
    let tell = |text: &str| if fatal { output::err(text) } else { console.notice(text) };
    for denied in report.denied.iter().take(DENIED_SHOWN) {
        tell(&refusal(denied));
    }
    if report.denied.len() > DENIED_SHOWN {
        tell(&format!("parole: and {} more denied calls", report.denied.len() - DENIED_SHOWN));
    }
    let id = report.execution;
    let error = output::block(report.error.as_deref().unwrap_or("it does not say why"));
    match report.outcome {
        Outcome::Completed => {}
        Outcome::Failed => output::err(&format!("parole: the guest failed: {error}")),
        Outcome::Denied if report.denied.iter().all(|denied| denied.at == At::Link) => {
            output::err("parole: denied: the guest was not started");
        }
        Outcome::Denied => output::err(&format!("parole: denied: {error}")),
        Outcome::Canceled => output::err(&format!("parole: execution {id} was canceled")),
        Outcome::Trapped => output::err(&format!("parole: the guest trapped: {error}")),
        Outcome::Exhausted => {
            output::err(&format!("parole: {error}"));
            // Some limits are no policy's.
            if let Some(limit) =
                report.limit.as_ref().filter(|limit| LimitKey::ALL.iter().any(|key| key.name == **limit))
            {
                let limit = output::cell(limit);
                output::err(&format!("  allow more: --limit {limit}=…, or in a policy file [limits] {limit} = …"));
            }
        }
        Outcome::Suspended => suspended(report, console),
    }
}

/// A refusal with its remedy.
pub fn refusal(denied: &Denied) -> String {
    let what = match (&denied.import, &denied.argument) {
        (Some(import), _) => format!("import {}", output::cell(import)),
        (None, Some(argument)) => format!("{} {}", denied.capability, crate::table::cut(argument)),
        (None, None) => denied.capability.clone(),
    };
    let mut text = format!("parole: denied: {what}\n    {}", output::cell(&denied.reason));
    if !denied.remedy.is_empty() {
        text.push_str(&format!("\n    to allow it: {}", output::cell(&denied.remedy)));
    }
    text
}

fn suspended(report: &Report, console: &Console) {
    let id = report.execution;
    console.notice(&format!("parole: execution {id} is suspended"));
    for pending in &report.pending {
        let deadline = times::deadline(pending.timeout_at, now());
        let asks = crate::table::cut(&pending.summary);
        let ends = times::at_deadline(&pending.capability);
        console.notice(&format!("  waits for {} “{asks}”, {ends} {deadline}", output::cell(&pending.capability)));
        let promise = |verb| shell::command(&format!("promise {verb} {}", output::cell(&pending.id)));
        match how_to_answer(&pending.capability).as_deref() {
            Some("") => console.notice(&format!("    see and answer it: {}", promise("get"))),
            Some(how) => console.notice(&format!("    answer: {} {how}", promise("resolve"))),
            None if pending.capability.contains(':') => {
                let work = shell::command(&format!("work {} -- COMMAND", output::cell(&pending.capability)));
                console.notice(&format!("    answer: {work}"));
            }
            None => {}
        }
    }
    if report.pending.iter().any(|pending| how_to_answer(&pending.capability).is_some()) {
        console.notice(&format!("    or at a terminal: {}", shell::command("answer")));
    }
    console.notice(&format!("  go on: {}", shell::command(&format!("resume {id}"))));
}

/// What to write behind `promise resolve ID`; nothing where the call has to be seen first.
fn how_to_answer(capability: &str) -> Option<String> {
    if matches!(capability, question::ASK | question::DOUBT) {
        return Some(String::new());
    }
    let asked = CATALOGUE.by_name(capability).filter(|own| own.kind == Kind::Person)?;
    Some(match asked.answer()? {
        Type::Text(_) => "--data TEXT".to_owned(),
        Type::Bool => "--value true".to_owned(),
        of => format!("--value '{}'", of.example()),
    })
}
