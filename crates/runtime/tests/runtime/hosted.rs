//! Capabilities that the embedding program answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parole_policy::{Then, Timeout, WorkEffect};
use parole_runtime::{
    Answered, CallError, Capability, Error, Level, Outcome, Reply, Report, Request, ResumeOptions, RunOptions, Runtime,
    SecurityPolicy, wire,
};
use serde_json::{Value, json};

use super::{at, guest};

const CRM: &str = "acme:crm/customers@1.0.0";
const WIT: &str = include_str!("../../../../examples/crm/crm.wit");

fn ada() -> Value {
    json!({ "id": "1", "name": "Ada", "email": null, "orders": 1 })
}

fn nothing(_: Request) -> Answered {
    Ok(().into())
}

/// A CRM whose `lookup` is this.
fn crm(lookup: impl Fn(Request) -> Answered + Send + Sync + 'static) -> Capability {
    Capability::from_wit(CRM, WIT)
        .level(Level::Standard)
        .func_blocking("lookup", WorkEffect::Read, lookup)
        .func_blocking("update", WorkEffect::Idempotent, nothing)
        .func_blocking("delete", WorkEffect::Once, nothing)
}

fn invoke(runtime: &Runtime, policy: SecurityPolicy, call: &str) -> Report {
    let options = RunOptions { invoke: Some(call.to_owned()), ..RunOptions::default() };
    runtime.blocking().run(guest("prebuilt/crm.wasm"), policy, options).unwrap()
}

fn with(capability: Capability) -> Runtime {
    Runtime::builder().capability(capability).open().unwrap()
}

#[test]
fn a_closure_answers_with_json_or_values() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let json = with(crm(move |call| {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(call.arguments, json!({ "id": "1" }));
        assert!(call.key.is_none() && call.values().len() == 1);
        Ok(ada().into())
    }));
    let report = invoke(&json, at(Level::Standard), "name-of(\"1\")");
    assert_eq!((report.outcome, report.result.as_deref()), (Outcome::Completed, Some("\"Ada\"")));
    // From its journal alone it comes to the same, and nobody is asked.
    assert_eq!(json.blocking().replay(report.execution).unwrap().outcome, Some(Outcome::Completed));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    let customer = parole_policy::UserCapability::new(WIT).definition(CRM).unwrap();
    let of = customer.function("lookup").unwrap().result.clone().unwrap();
    let values = with(crm(move |_| Ok(Reply::Val(wire::read(&ada(), &of).unwrap()))));
    assert_eq!(invoke(&values, at(Level::Standard), "name-of(\"1\")").result.as_deref(), Some("\"Ada\""));
}

/// Columns: what the closure gives, what the guest is told.
#[test]
fn what_goes_wrong_is_told_in_the_error_of_the_function() {
    let rows: [(Answered, &str); 6] = [
        (Err(CallError::Own(json!({ "unknown": "1" }))), "there is no customer 1"),
        (Err(CallError::Own(json!({ "other": "1" }))), "failed: its error is none that the function has"),
        (Err(CallError::Failed("gone".into())), "failed: gone"),
        (Err(CallError::Denied("not you".into())), "denied: not you"),
        (Ok(json!({ "id": 1 }).into()), "failed: its answer does not fit: `id`: expected a JSON string"),
        (Ok(Reply::Val(wasmtime::component::Val::Bool(true))), "failed: its answer is no record"),
    ];
    for (answered, told) in rows {
        let own = answered.clone();
        let report = invoke(&with(crm(move |_| own.clone())), at(Level::Standard), "name-of(\"1\")");
        let error = report.error.unwrap_or_default();
        assert!(report.outcome == Outcome::Failed && error.starts_with(told), "{answered:?}: {error}");
    }
    // One that panics fails; so does one that takes too long.
    let report = invoke(&with(crm(|_| panic!("no"))), at(Level::Standard), "name-of(\"1\")");
    assert_eq!(report.error.as_deref(), Some("failed: whoever answers it failed"));
    let slow = Capability::from_wit(CRM, WIT)
        .level(Level::Standard)
        .timeout(Timeout::After(50))
        .func("lookup", WorkEffect::Read, |_| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(().into())
        })
        .func_blocking("update", WorkEffect::Idempotent, nothing)
        .func_blocking("delete", WorkEffect::Once, nothing);
    let report = invoke(&with(slow), at(Level::Standard), "name-of(\"1\")");
    assert_eq!(report.error.as_deref(), Some("failed: nobody answered in time"));
}

#[test]
fn the_policy_decides_about_it_as_about_any_other() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let runtime = with(crm(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(ada().into())
    }));
    let low = invoke(&runtime, at(Level::Restricted), "name-of(\"1\")");
    assert_eq!(low.outcome, Outcome::Denied);
    assert!(low.denied[0].remedy.contains("standard"), "{:?}", low.denied);
    let ruled = |then| at(Level::Standard).rule("r", "acme:crm/customers.lookup", Some("id == \"1\""), then);
    let denied = invoke(&runtime, ruled(Then::Deny), "name-of(\"1\")");
    assert!(denied.error.as_deref().unwrap_or_default().starts_with("denied: a rule of the policy refuses"));
    assert_eq!(called.load(Ordering::SeqCst), 0);
    assert_eq!(invoke(&runtime, ruled(Then::Deny), "name-of(\"2\")").outcome, Outcome::Completed);
    let asked = invoke(&runtime, ruled(Then::Ask), "name-of(\"1\")");
    assert_eq!((asked.outcome, called.load(Ordering::SeqCst)), (Outcome::Suspended, 1));
    let question = runtime.promises().get(&asked.pending[0].id).unwrap();
    let data: Value = serde_json::from_str(question.record.param.data.as_deref().unwrap()).unwrap();
    assert_eq!(data["function"], "acme:crm/customers@1.0.0.lookup");
    let yes = json!({ "decision": "once", "digest": data["digest"] });
    runtime.blocking().resolve(&asked.pending[0].id, &yes, "test").unwrap();
    let report = runtime.blocking().resume(asked.execution, ResumeOptions::default()).unwrap();
    assert_eq!((report.outcome, called.load(Ordering::SeqCst)), (Outcome::Completed, 2));
}

#[test]
fn what_is_wrong_with_one_is_said_when_the_runtime_is_opened() {
    let fault = |capability: Capability| match Runtime::builder().capability(capability).open() {
        Err(Error::Usage(text)) => text,
        other => panic!("{:?}", other.err()),
    };
    let half = Capability::from_wit(CRM, WIT).func_blocking("lookup", WorkEffect::Read, nothing);
    assert!(fault(half).contains("nothing answers `update`"));
    assert!(fault(crm(nothing).func_blocking("lookup", WorkEffect::Read, nothing)).contains("two closures answer"));
    assert!(fault(crm(nothing).func_blocking("look", WorkEffect::Read, nothing)).contains("no function `look`"));
    assert!(fault(Capability::from_wit("wasi:cli/x@1.0.0", WIT)).contains("not for others to define"));
    let twice = Runtime::builder().capability(crm(nothing)).capability(crm(nothing)).open();
    assert!(twice.is_err_and(|error| error.to_string().contains("defines it already")));
}

/// A process that lacks the capability does not go on with an execution that needs it.
#[test]
fn a_program_without_it_does_not_resume() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let on = |capability: Option<Capability>| {
        let builder = Runtime::builder().state_dir(&state);
        capability.into_iter().fold(builder, parole_runtime::Builder::capability).open().unwrap()
    };
    let policy = at(Level::Standard).rule("r", CRM, None, Then::Ask);
    let first = on(Some(crm(|_| Ok(ada().into()))));
    let asked = invoke(&first, policy, "name-of(\"1\")");
    assert_eq!(asked.outcome, Outcome::Suspended);
    drop(first);
    let bare = on(None);
    let refused = bare.blocking().resume(asked.execution, ResumeOptions::default());
    assert!(matches!(refused, Err(Error::NotResumed(_))), "{refused:?}");
    drop(bare);
    let again = on(Some(crm(|_| Ok(ada().into()))));
    let question = again.promises().get(&asked.pending[0].id).unwrap();
    let data: Value = serde_json::from_str(question.record.param.data.as_deref().unwrap()).unwrap();
    let yes = json!({ "decision": "once", "digest": data["digest"] });
    again.blocking().resolve(&asked.pending[0].id, &yes, "test").unwrap();
    let report = again.blocking().resume(asked.execution, ResumeOptions::default()).unwrap();
    assert_eq!(report.outcome, Outcome::Completed, "{report:?}");
}
