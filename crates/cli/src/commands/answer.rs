//! `parole answer`

use std::collections::BTreeSet;

use parole_durable::PromiseState;
use parole_runtime::{Error, ExecutionId, Listed, PromiseFilter, ResumeOptions, Wait};

use crate::ask::{self, Prompt, Reply};
use crate::commands::run::finish;
use crate::console::{Console, Show};
use crate::fail::{Failure, Result};
use crate::output;
use crate::policy_flags::promise_of;
use crate::session::{self, Answers, Driven, Session, Signals, block_on};
use crate::shell;
use crate::state::{StateArgs, execution};
use crate::watch::Changes;

/// Walk through what is pending, at the terminal
///
/// Asks you one promise after the other, the oldest first, and then resumes what your answers
/// have unblocked. `s` skips a question, Ctrl-D ends the walk.
///
/// A guest asks through `input`, `approve` and `review`. `ask`: a rule of its policy wants a person
/// to allow one call, which you see exactly as it would be made. `doubt`: a call was under way when
/// its process died, and only you can find out whether it happened.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole answer
  parole answer --capability ask         only calls that wait for your leave")]
pub struct Args {
    /// Only what this execution waits for
    #[arg(value_name = "EXECUTION", value_parser = execution)]
    execution: Option<ExecutionId>,

    /// Only promises of this capability, `ask` or `doubt`
    #[arg(long, value_name = "CAP", value_parser = promise_of())]
    capability: Option<String>,

    #[command(flatten)]
    state: StateArgs,
}

/// What came of one question.
enum Asked {
    Answered,
    Skipped,
    End,
}

pub fn run(args: Args) -> Result<u8> {
    if !output::is_terminal() {
        let (list, resolve) = (shell::command("promises --pending"), shell::command("promise resolve ID"));
        return Err(Failure::usage("`parole answer` needs a terminal: stdin and stderr must be one")
            .hint(format!("without one: {list}, then {resolve} --data TEXT | --value JSON")));
    }
    let (console, notes) = Console::new(Show::default());
    let runtime = args.state.open(console.sink(), None)?;
    block_on(async {
        let mut session = Session {
            runtime,
            console,
            notes,
            answers: Answers::Terminal,
            signals: Signals::new()?,
            changes: Changes::of(args.state.dir()?),
            asker: None,
        };
        walk(&mut session, &args).await
    })
}

async fn walk(session: &mut Session, args: &Args) -> Result<u8> {
    if let Some(id) = args.execution {
        session.runtime.show(id)?;
    }
    let filter = PromiseFilter { pending: true, execution: args.execution, capability: args.capability.clone() };
    let mut pending = session.runtime.promises().list(&filter)?;
    pending.retain(|promise| session::is_for_a_person(&promise.record));
    if pending.is_empty() {
        output::err("parole: nothing waits for a person");
        return Ok(0);
    }
    let mut unblocked = BTreeSet::new();
    for promise in pending {
        match put(session, &promise).await? {
            Asked::Answered => unblocked.extend(promise.record.execution()),
            Asked::Skipped => {}
            Asked::End => break,
        }
    }
    let mut code = 0;
    let ready = session.runtime.ready()?;
    for id in unblocked {
        if !ready.contains(&id) {
            output::err(&format!("parole: {id} goes on in the process that runs it, or waits for more"));
            continue;
        }
        let runtime = session.runtime.clone();
        let work = runtime.resume(id, ResumeOptions { wait: Wait::All, pinned: false });
        let went = match session.drive(id, false, work).await {
            Ok(went) => went,
            Err(failure) => {
                output::err(&format!("parole: {id}:"));
                code = failure.report(false);
                continue;
            }
        };
        let interrupted = matches!(went, Driven::Interrupted(_) | Driven::Stopped(_));
        let ended = finish(session, went, false).await?;
        code = if code == 0 { ended } else { code };
        if interrupted {
            break;
        }
    }
    Ok(code)
}

/// Puts one question; it is withdrawn when it is settled elsewhere.
async fn put(session: &mut Session, promise: &Listed) -> Result<Asked> {
    let asker = session::asker_of(&session.runtime, &promise.record);
    let question = Prompt { asker, record: promise.record.clone(), may_skip: true };
    if !still_pending(session, promise)? {
        return Ok(Asked::Skipped);
    }
    let mut asking = ask::ask(question).map_err(Failure::internal)?;
    let mut tick = tokio::time::interval(session::TICK);
    let reply = loop {
        tokio::select! {
            biased;
            () = session.signals.next() => {
                asking.open = None;
                let _ = asking.reply.await;
                return Ok(Asked::End);
            }
            reply = &mut asking.reply => break reply.unwrap_or(Reply::End),
            _ = tick.tick() => {
                let deadline = Some(promise.record.timeout_at);
                if asking.open.is_some() && session.changes.seen(deadline) && !still_pending(session, promise)? {
                    asking.open = None;
                }
            }
        }
    };
    match reply {
        Reply::Answer(value) => {
            session::settle(&session.runtime, &promise.record, &value).await?;
            Ok(Asked::Answered)
        }
        Reply::Withdrawn => {
            output::withdraw_prompt();
            Ok(Asked::Skipped)
        }
        Reply::Skip => Ok(Asked::Skipped),
        Reply::End => Ok(Asked::End),
        Reply::Failed(error) => Err(Failure::internal(format!("the terminal failed: {error}"))),
    }
}

fn still_pending(session: &Session, promise: &Listed) -> Result<bool> {
    match session.runtime.promises().get(promise.record.id.as_str()) {
        Ok(now) => Ok(now.record.state == PromiseState::Pending),
        Err(Error::NoPromise(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
