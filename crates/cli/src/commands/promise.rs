//! `parole promise get|resolve|reject|cancel`

use std::path::{Path, PathBuf};

use clap::Subcommand;
use parole_durable::hub::now;
use parole_durable::{PromiseRecord, PromiseState};
use parole_runtime::{Listed, Question, Runtime, Settled};
use serde_json::Value;

use crate::commands::promises;
use crate::fail::{Failure, Result};
use crate::state::{StateArgs, promise};
use crate::{json, output, question, shell, texts, times, who};

/// The longest answer that is read, in bytes of JSON.
const ANSWER_MAX: usize = parole_runtime::promises::ANSWER_MAX;
/// Another settlement stands.
const STANDS: u8 = 1;

/// Look at one promise, or settle it
///
/// The first settlement counts. A later one changes nothing: it prints the record that stands
/// and exits with 1.
///
/// A promise `ask:…` asks whether a call may be made, `doubt:…` what came of one; `promise get` shows
/// the call and the values that settle it. The digest in them says that this very call was seen.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole promise resolve input:0192…:7f3c… --data Ada
  parole promise resolve approve:0192…:1b22… --value true
  parole promise reject approve:0192…:1b22… --data 'not on a Friday'
  parole promise resolve sleep:0192…:66d0…
  parole promise get ask:0192…:55ae…
  parole promise resolve ask:0192…:55ae… --value '{\"decision\": \"once\", \"digest\": \"sha256:…\"}'
  parole promise resolve doubt:0192…:91c0… --value '\"again\"'")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Show a promise
    Get(Which),
    /// Answer it: the guest's call returns the value
    ///
    /// The value must be one that the call can return, else nothing is settled. A timer (`sleep:…`) needs none: the
    /// guest sees its time as passed.
    Resolve(Resolve),
    /// Say no: the guest gets `denied` with the reason
    ///
    /// A timer asks nothing that could be refused. Of an `ask` that is the decision `deny`; of a `doubt` it is `fail`, with the reason as its text.
    Reject(Reject),
    /// Take the question back, or end a timer: the guest gets `canceled`
    Cancel(Which),
}

#[derive(clap::Args, Debug)]
struct Which {
    /// The id, as `parole promises` lists it
    #[arg(value_parser = promise)]
    id: String,

    #[command(flatten)]
    state: StateArgs,

    /// Print the record as one object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct Resolve {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    answer: Answer,
}

#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct Answer {
    /// A text: short for --value '"TEXT"'
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,

    /// A value in JSON
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    value: Option<String>,

    /// A file that holds a value in JSON
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct Reject {
    #[command(flatten)]
    which: Which,

    /// Why, for the guest
    #[arg(long, value_name = "REASON", allow_hyphen_values = true)]
    data: Option<String>,
}

pub fn run(args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Get(which) => {
            say(&open(which)?.promises().get(&which.id)?, which.json);
            Ok(0)
        }
        Verb::Resolve(Resolve { which, answer }) => {
            let value = match answer.read()? {
                Some(value) => value,
                None if open(which)?.promises().get(&which.id)?.record.is_timer() => Value::Null,
                None => return Err(Failure::usage("expected --data <TEXT>, --value <JSON> or --file <FILE>")),
            };
            Ok(settled(&open(which)?.blocking().resolve(&which.id, &value, &who::who())?, which))
        }
        Verb::Reject(Reject { which, data }) => {
            Ok(settled(&open(which)?.blocking().reject(&which.id, data.as_deref(), &who::who())?, which))
        }
        Verb::Cancel(which) => Ok(settled(&open(which)?.blocking().cancel_promise(&which.id, &who::who())?, which)),
    }
}

fn open(which: &Which) -> Result<Runtime> {
    which.state.look()
}

impl Answer {
    /// What was given, if anything was.
    fn read(&self) -> Result<Option<Value>> {
        if let Some(text) = &self.data {
            return Ok(Some(Value::from(text.as_str())));
        }
        let (from, text) = match (&self.value, &self.file) {
            (Some(text), _) => ("--value".to_owned(), text.clone()),
            (None, Some(file)) => (format!("--file {}", file.display()), read(file)?),
            (None, None) => return Ok(None),
        };
        json::strict(&text).map(Some).map_err(|error| {
            Failure::usage(format!("{from} is not JSON: {error}"))
                .hint("a text needs quotes in JSON: --value '\"Ada\"', or use --data Ada")
        })
    }
}

fn read(path: &Path) -> Result<String> {
    texts::read(path, &format!("--file {}", path.display()), ANSWER_MAX)
        .map_err(|error| Failure::usage(format!("{error}; expected a file with JSON")))
}

/// Says what a settlement came to.
fn settled(settled: &Settled, which: &Which) -> u8 {
    if settled.won && !which.json {
        output::err(&format!("parole: {} is {}", which.id, promises::state(&settled.promise)));
        if let Some(execution) = settled.promise.record.execution() {
            let resume = shell::command(&format!("resume {execution}"));
            output::err(&format!("  go on, unless a process waits for it: {resume}"));
        }
        return 0;
    }
    say(&settled.promise, which.json);
    if settled.won {
        return 0;
    }
    let what = match settled.promise.record.state {
        PromiseState::RejectedTimedout => "has expired",
        _ => "was settled before",
    };
    output::err(&format!("parole: {} {what}: what is shown stands", which.id));
    STANDS
}

fn say(promise: &Listed, json: bool) {
    if json {
        output::json(promise);
        return;
    }
    let record = &promise.record;
    let line = |name: &str, text: &str| output::out(&format!("{name:<10} {text}"));
    line("promise", &output::cell(record.id.as_str()));
    line("state", &promises::state(promise));
    line("capability", &output::cell(&promise.capability));
    line("execution", &promise.execution);
    line("created", &times::point(record.created_at));
    line(times::at_deadline(&promise.capability), &times::deadline(record.timeout_at, now()));
    if let Some(at) = record.settled_at {
        line("settled", &times::point(at));
    }
    if let Some(by) = record.value.headers.get("parole:by") {
        line("by", &output::cell(by));
    }
    let call = Question::of(record);
    let asks = if call.is_some() { &None } else { &record.param.data };
    for (name, data) in [("asks", asks), ("value", &record.value.data)] {
        if let Some(data) = data {
            line(name, &output::cell(data));
        }
    }
    if let Some(call) = call {
        about(&call, record);
    }
}

/// The whole of a call that a person decides about, and how.
fn about(call: &Question, record: &PromiseRecord) {
    let line = |name: &str, text: &str| output::out(&format!("{name:<10} {}", output::cell(text)));
    line("component", &call.component);
    line("call", &format!("{} (call {} of the execution)", call.function, call.step));
    if let Some(rule) = &call.rule {
        line("rule", rule);
    }
    line("digest", &call.digest);
    line("asks", &call.text);
    for part in question::parts(call) {
        output::out(&format!("├ {}", output::cell(&part.heading)));
        for text in part.text.split('\n').filter(|_| !part.text.is_empty()) {
            output::out(&format!("│ {}", output::cell(text)));
        }
    }
    if record.state == PromiseState::Pending {
        let resolve = shell::command(&format!("promise resolve {}", record.id.as_str()));
        output::out(&format!("└ to settle it: {}, or one of", shell::command("answer")));
        for (value, means) in question::answers(call, record.capability()) {
            output::out(&format!("    {means}:"));
            output::out(&format!("      {} --value '{value}'", output::cell(&resolve)));
        }
    }
}
