//! `fetch`: one HTTP request to a granted origin.
//!
//! Each request, and each hop of a redirect, goes through the one decision, in the one form that it has ([`Target`],
//! [`Headers`]): that is what is sent, to addresses that the permit lets be dialled; nothing else is.

use std::borrow::Cow;
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use parole_durable::{Digest, EffectClass};
use parole_policy::{
    DEFAULT_ANSWER_BYTES, Definition, Fact, Facts, Fields, Flag, Function as Declared, GrantEffect, GrantKey,
    HOST_TIMEOUT, Headers, Int, Key, Level, Looks, Resource, ScopeKind, Target, Type, field,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::backends::Outside;
use crate::backends::net::{self, Connections};
use crate::call::act;
use crate::call::door::plain;
use crate::call::effect::{Answer, Attempt, Effect, Form, Formless, Function, Unformed};
use crate::call::permit::{AllowedUrl, Origin, Permit};
use crate::call::slot::Slot;
use crate::error::{base64, json as bytes_of};
use crate::{Entry, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    // GET and HEAD are read.
    classes: &[EffectClass::Once],
    wit: include_str!("../../../../wit/fetch.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: |_, value| {
        let response = Response::deserialize(value).map_err(|error| {
            format!("a response is {{\"status\": 200, \"headers\": [], \"body\": \"BASE64\"}}: {error}")
        })?;
        Ok(bytes_of(&response))
    },
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Standard,
        scope: ScopeKind::Url,
        keys: vec![
            GrantKey::Origins.into(),
            GrantKey::Methods.into(),
            GrantKey::Private.into(),
            Key::number(GrantKey::MaxBytes, DEFAULT_ANSWER_BYTES),
            GrantKey::Effect.into(),
            GrantKey::Retry.into(),
            GrantKey::TimeoutMs.into(),
            GrantKey::Ca.into(),
        ],
        flag: Some(Flag::AllowNet),
        functions: vec![Declared::new(
            "fetch",
            "fetch",
            [field(
                "request",
                Type::record([
                    field("method", Type::Method),
                    field("url", Type::Url),
                    field("headers", Type::Headers),
                    field("body", Type::option(Type::Bytes)),
                ]),
            )],
            Some(Type::record([
                field("status", Type::Int(Int::U16)),
                field("headers", Type::Headers),
                field("body", Type::Bytes),
            ])),
        )],
        timeout: HOST_TIMEOUT,
        summary: "sends an HTTP request to a granted origin".into(),
        shown: "{request.method} {request.url}".into(),
        ..Definition::new("fetch", "parole:capabilities/fetch@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("fetch", |store: StoreContextMut<'_, StoreData>, (request,): (Request,)| {
        plain(&store, |execution| async move {
            let body = request.body.as_deref().map(Body::of);
            Ok((act(&execution, Fetch, Args { request, body }).await?,))
        })
    })
}

/// `parole:capabilities/fetch.header`.
#[derive(Clone, ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

/// `parole:capabilities/fetch.request`.
#[derive(Clone, ComponentType, Lift, Lower)]
#[component(record)]
struct Request {
    method: String,
    url: String,
    headers: Vec<Header>,
    body: Option<Vec<u8>>,
}

/// `parole:capabilities/fetch.response`.
#[derive(ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
struct Response {
    status: u16,
    headers: Vec<Header>,
    #[serde(with = "crate::error::base64_text")]
    body: Vec<u8>,
}

struct Fetch;

struct Args {
    request: Request,
    body: Option<Body>,
}

/// A request in its one form.
struct Called {
    method: String,
    url: Target,
    headers: Headers,
    body: Option<Bytes>,
    digest: Option<Body>,
    /// For which looks it was read: a redirect is read for the same.
    looks: Looks,
    /// The URL as the guest wrote it.
    written: String,
    /// Whether all of it is spelt as the guest spelt it.
    is_as_written: bool,
}

/// The body is recorded by size and digest: at a repetition the guest brings it again.
#[derive(Serialize)]
struct RecordedArguments<'a> {
    request: Recorded<'a>,
}

#[derive(Serialize)]
struct Recorded<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<Name<'a>>,
    body: Option<Body>,
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Clone, Copy, Serialize)]
struct Body {
    bytes: usize,
    digest: Digest,
}

impl Body {
    fn of(body: &[u8]) -> Self {
        Self { bytes: body.len(), digest: Digest::of(body) }
    }
}

/// What the journal has of a request.
fn recorded<'h>(
    method: &str,
    url: &str,
    headers: impl Iterator<Item = (&'h str, &'h str)>,
    body: Option<Body>,
) -> Vec<u8> {
    let headers = headers.map(|(name, value)| Name { name, value }).collect();
    bytes_of(&RecordedArguments { request: Recorded { method, url, headers, body } })
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

impl Request {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()))
    }
}

impl Function for Fetch {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        "fetch".into()
    }

    type Args = Args;
    type Form = Called;
    type Answer = Response;
    type Slot = Kept;

    fn recorded(&self, Args { request, body }: &Args) -> Vec<u8> {
        recorded(&request.method, &request.url, request.pairs(), *body)
    }

    fn class(&self, args: &Args) -> EffectClass {
        if is_read(&args.request.method) { EffectClass::Read } else { EffectClass::Once }
    }

    fn form(&self, args: Args, looks: Looks, _: &Kept) -> Result<Called, Unformed<Response>> {
        let written = &args.request.url;
        let url = Target::read(written, looks).map_err(Formless::of(written))?;
        let headers = Headers::read(args.request.pairs(), looks).map_err(Formless::of(written))?;
        let own = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let is_as_written = url.url().as_str() == written && own.eq(args.request.pairs());
        let Request { method, url: written, body, .. } = args.request;
        Ok(Called {
            method,
            url,
            headers,
            body: body.map(Bytes::from),
            digest: args.body,
            looks,
            written,
            is_as_written,
        })
    }
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Url { method: Some(&self.method), url: &self.url }
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        match name {
            "request" => Some(Fact::Record(self)),
            "target" => Some(Fact::Record(&self.url)),
            _ => None,
        }
    }

    fn read_for(&self) -> Looks {
        self.headers.looks()
    }
}

/// The request.
impl Fields for Called {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        Some(match name {
            "method" => Fact::Text(&self.method),
            "url" => Fact::Text(self.url.sent()),
            "headers" => Fact::List(self.headers.iter().map(|header| Fact::Record(header)).collect()),
            "body" => self.body.as_deref().map_or(Fact::Null, Fact::Bytes),
            _ => return None,
        })
    }
}

impl Form for Called {
    fn canonical(&self) -> Option<Vec<u8>> {
        if self.is_as_written {
            return None;
        }
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Some(recorded(&self.method, self.url.url().as_str(), headers, self.digest))
    }

    /// What goes out, and the URL as the guest wrote it where that is another spelling.
    fn shown(&self) -> Option<Value> {
        let url = self.url.url().as_str();
        let headers = self.headers.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        let mut shown = json!({
            "method": self.method,
            "url": url,
            "headers": headers.collect::<Vec<_>>(),
            "body": self.body.as_deref().map(base64),
        });
        if url != self.written {
            shown["written"] = self.written.as_str().into();
        }
        Some(json!({ "request": shown }))
    }

    fn argument(&self) -> Option<String> {
        Some(format!("{} {}", self.method, self.url.url()))
    }
}

impl Answer for Response {
    fn encode(&self) -> Vec<u8> {
        bytes_of(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        serde_json::from_slice(&bytes).ok()
    }
}

/// The connections of an execution; they are never shared.
#[derive(Default)]
struct Kept(Mutex<Connections>);

impl Slot for Kept {
    fn rest(&self) {
        self.with(Connections::clear);
    }
}

impl Kept {
    fn with<R>(&self, section: impl FnOnce(&mut Connections) -> R) -> R {
        section(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Effect for Fetch {
    type Scope = Origin;
    const OUTSIDE: bool = true;

    fn class_under(&self, form: &Called, begun: EffectClass, _: &AllowedUrl, granted: GrantEffect) -> EffectClass {
        match (begun, granted) {
            _ if is_read(&form.method) => EffectClass::Read,
            (_, GrantEffect::Idempotent) => EffectClass::Idempotent,
            (begun, GrantEffect::Once) => begun,
        }
    }

    fn act(
        &self,
        permit: &Permit<Origin>,
        form: &Called,
        outside: &Outside,
        kept: &Kept,
    ) -> impl Future<Output = Attempt<Response, Called>> + Send {
        // Few calls are as large as this, and all are as large as the largest.
        Box::pin(async move {
            match exchange(permit, form, outside, kept).await {
                Ok(response) => went(permit, form, response),
                Err(failure) => Attempt::Failed(failure.at(permit.reach())),
            }
        })
    }
}

async fn exchange(
    permit: &Permit<Origin>,
    form: &Called,
    outside: &Outside,
    kept: &Kept,
) -> Result<net::Response, net::Failure> {
    let client = outside.client_for(permit.reach().authorities())?;
    let addresses = client.addresses(permit).await?;
    let mut headers = form.headers.to_vec();
    if let (EffectClass::Idempotent, Some(key)) = (permit.class(), permit.key()) {
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("idempotency-key"));
        headers.push(("idempotency-key".into(), key.as_str().into()));
    }
    let request = net::Request {
        method: &form.method,
        url: permit.reach().url(),
        addresses: &addresses,
        headers: &headers,
        body: form.body.clone(),
        repeatable: permit.class() == EffectClass::Read,
    };
    let most = permit.number(GrantKey::MaxBytes).unwrap_or(DEFAULT_ANSWER_BYTES);
    let limits = net::Limits::new(most, permit.deadline());
    // Taken out for the request: nothing is held across it.
    let mut connections = kept.with(mem::take);
    let answer = net::exchange(&client, &mut connections, request, limits).await;
    kept.with(|kept| *kept = connections);
    answer
}

/// What an answer comes to.
fn went(permit: &Permit<Origin>, form: &Called, response: net::Response) -> Attempt<Response, Called> {
    // A person who allowed a call allowed what was shown, and nowhere else.
    let follows = permit.class() == EffectClass::Read && is_read(&form.method);
    let here = permit.reach().url();
    match net::redirect(here, &form.method, &response).filter(|_| follows) {
        Some(Ok(next)) => Attempt::Redirect(redirected(here, form, next.url)),
        Some(Err(failure)) => Attempt::Failed(failure.at(permit.reach())),
        None => {
            let later = matches!(response.status, 429 | 502 | 503 | 504);
            let headers = response.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
            let response = Response { status: response.status, headers, body: response.body };
            if later { Attempt::Later(response) } else { Attempt::Done(response) }
        }
    }
}

/// The request that follows a redirect.
fn redirected(here: &parole_policy::Url, form: &Called, next: String) -> Result<Called, Formless> {
    let formless = |denial| Formless { argument: next.clone(), denial };
    let url = Target::read(&next, form.looks).map_err(formless)?;
    let (mut headers, mut body, mut digest) = (form.headers.to_vec(), form.body.clone(), form.digest);
    if !net::same_origin(here, url.url()) {
        net::strip_credentials(&mut headers);
        (body, digest) = (None, None);
    }
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = Headers::read(pairs, form.looks).map_err(formless)?;
    Ok(Called {
        method: form.method.clone(),
        url,
        headers,
        body,
        digest,
        looks: form.looks,
        written: next,
        is_as_written: false,
    })
}
