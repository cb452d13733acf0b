//! Functions that a guest exports, called with values: WIT values or JSON beside the text form.
//!
//! What is pinned of a call is its text. So a call that was made from values is stored, scheduled and resumed as any other.

use parole_capabilities::call::wire;
use parole_durable::ExecutionId;
use parole_policy::{Function, Level, Limits, Type};
use serde_json::Value as Json;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{self, Val};

use crate::compiler::Bounds;
use crate::error::Error;
use crate::guest::Guest;
use crate::invoke;
use crate::report::Report;
use crate::runtime::{Runtime, unreadable};
use crate::surface::Kind;

/// A function that a guest exports, with its types.
///
/// ```no_run
/// # use parole_runtime::{Guest, Level, RunOptions, Runtime, SecurityPolicy};
/// # use serde_json::json;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (runtime, guest) = (Runtime::builder().open()?, Guest::from_file("add.wasm".as_ref())?);
/// let add = runtime.blocking().exported(&guest, "add")?;
/// let options = RunOptions { invoke: Some(add.call(&json!({ "a": 1, "b": 2 }))?), ..RunOptions::default() };
/// let report = runtime.blocking().run(guest, SecurityPolicy::new(Level::Sandbox), options)?;
/// assert_eq!(add.result(&report)?, Some(json!(3)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Exported {
    /// As it is called.
    name: String,
    declared: Function,
    types: ComponentFunc,
}

impl Runtime {
    /// A function that a guest exports: `add`, or `acme:crm/api@1.0.0.add` where several of its interfaces have one.
    ///
    /// # Errors
    /// The guest has none of that name, or is none; it has types that no text stands for.
    pub async fn exported(&self, guest: &Guest, name: &str) -> Result<Exported, Error> {
        let (this, guest, name) = (self.inside(), guest.clone(), name.to_owned());
        self.on_workers(Box::pin(async move {
            let (id, limits) = (ExecutionId::generate(), Limits::of(Level::default()));
            let surface = this.surface_or_fault(&guest, id, &limits).await?;
            let component = this.component(&guest, id, Bounds::of(&limits, surface.code)).await?;
            let invoke::Found { interface, function: types, .. } = invoke::exported(&component, &name)?;
            let (_, own) = invoke::qualified(&name);
            let members = surface.exports.iter().flat_map(|item| match &item.kind {
                Kind::Function(member) if interface.is_none() => std::slice::from_ref(&**member),
                Kind::Interface(members) if interface.as_deref() == Some(&*item.name) => members,
                _ => &[],
            });
            let member = { members }.find(|member| member.name == own).ok_or_else(unreadable)?;
            let odd = |why: &String| Error::Usage(format!("`{own}` cannot be called with values: {why}"));
            let declared = member.function.as_ref().map_err(odd)?.clone();
            let name = interface.map_or_else(|| own.to_owned(), |interface| format!("{interface}.{own}"));
            Ok(Exported { name, declared, types })
        }))
        .await
    }
}

impl Exported {
    /// The text of a call with these arguments: JSON by parameter name, for [`RunOptions`](crate::RunOptions) and
    /// schedules.
    ///
    /// # Errors
    /// What is no argument of it, with its place and what is expected there.
    pub fn call(&self, arguments: &Json) -> Result<String, Error> {
        let of = Type::Record(self.declared.params.clone());
        of.check(arguments, "").map_err(|why| Error::Usage(format!("{}: {why}", self.declared)))?;
        match wire::read(arguments, &of) {
            Some(Val::Record(fields)) => self.call_of(&fields.into_iter().map(|(_, value)| value).collect::<Vec<_>>()),
            _ => Err(Error::Internal(format!("{}: arguments that were checked cannot be read", self.declared))),
        }
    }

    /// The same, of WIT values in the order of the parameters.
    ///
    /// # Errors
    /// They are not those of its parameters.
    pub fn call_of(&self, arguments: &[Val]) -> Result<String, Error> {
        let unfit = || Error::Usage(format!("{}: the arguments are of other types", self.declared));
        // What has other types is not made text: a resource has none.
        wire::arguments(arguments, &self.declared.params).ok_or_else(unfit)?;
        let texts = arguments.iter().map(invoke::wave).collect::<Result<Vec<_>, _>>().map_err(|_| unfit())?;
        Ok(format!("{}({})", self.name, texts.join(", ")))
    }

    /// What an execution has returned, as JSON: of a `result` its ok value. `None`: nothing, or it has not come to that.
    ///
    /// # Errors
    /// It is no result of this function.
    pub fn result(&self, report: &Report) -> Result<Option<Json>, Error> {
        let Some(value) = self.result_of(report)? else { return Ok(None) };
        let of = self.declared.result.as_ref().ok_or_else(|| self.foreign())?;
        let mut json = Vec::new();
        wire::write(&value, of, &mut json).ok_or_else(|| self.foreign())?;
        serde_json::from_slice(&json).map(Some).map_err(|_| self.foreign())
    }

    /// The same, as a WIT value.
    ///
    /// # Errors
    /// It is no result of this function.
    pub fn result_of(&self, report: &Report) -> Result<Option<Val>, Error> {
        let Some(text) = report.result.as_deref() else { return Ok(None) };
        let of = match self.types.results().next() {
            Some(component::Type::Result(of)) => of.ok(),
            of => of,
        };
        let of = of.ok_or_else(|| self.foreign())?;
        wasm_wave::from_str(&of, text).map(Some).map_err(|_| self.foreign())
    }

    fn foreign(&self) -> Error {
        Error::Usage(format!("{}: the execution has called another function", self.declared))
    }
}
