//! `fetch`: one HTTP request to a granted origin.
//!
//! Each request, and each hop of a redirect, goes through the one decision, in the one form that it has ([`Target`],
//! [`Headers`]): that is what is sent, and [`Client::resolve`](crate::backends::net::Client::resolve) gives the addresses that may be dialled; nothing else
//! is.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use parole_durable::{Digest, EffectClass};
use parole_policy::{
    Arguments, Capability, DEFAULT_ANSWER_BYTES, Denial, FETCH_ARGUMENTS, FetchArguments, Grant, GrantEffect, GrantKey,
    Headers, Kind, Level, Looks, ScopeKind, Target, Timeout, Url, may_dial,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::backends::net::{self, Failure};
use crate::call::door::plain;
use crate::call::retry::Retries;
use crate::call::{Begin, CallRequest, Form, Formless, Gate, Leave, PermittedCall};
use crate::clock;
use crate::error::{Refused, base64, json as bytes_of};
use crate::{Entry, Error, Execution, Payload, Stop, StoreData};

/// Hops of redirects that one call follows.
pub const REDIRECTS_MAX: u32 = 10;
/// What a call may take when its grant says that it never expires.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "fetch",
        interface: "parole:capabilities/fetch@0.1.0",
        level: Level::Standard,
        kind: Kind::Host,
        scope: ScopeKind::Url,
        grant_keys: &[
            GrantKey::Origins,
            GrantKey::Methods,
            GrantKey::Private,
            GrantKey::MaxBytes,
            GrantKey::Effect,
            GrantKey::Retry,
            GrantKey::TimeoutMs,
            GrantKey::Ca,
        ],
        default_timeout: Timeout::After(10_000),
        summary: "sends an HTTP request to a granted origin",
        arguments: FETCH_ARGUMENTS,
    },
    // GET and HEAD are read.
    functions: &[("fetch", EffectClass::Once)],
    wit: include_str!("../../../../wit/fetch.wit"),
    link,
    payload: Payload::Json,
    summary,
    answer: None,
    done: |_, value| {
        let response = Response::deserialize(value).map_err(|error| {
            format!("a response is {{\"status\": 200, \"headers\": [], \"body\": \"BASE64\"}}: {error}")
        })?;
        Ok(bytes_of(&response))
    },
};

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

fn summary(arguments: &Value) -> String {
    let part = |name: &str| arguments["request"][name].as_str().unwrap_or_default().to_owned();
    format!("{} {}", part("method"), part("url"))
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("fetch", |store: StoreContextMut<'_, StoreData>, (request,): (Request,)| {
        plain(&store, |execution| async move { Ok((fetch(&execution, &request).await?,)) })
    })
}

async fn fetch(execution: &Execution, request: &Request) -> wasmtime::Result<Result<Response, Error>> {
    let body = request.body.as_deref().map(Body::of);
    let given = pairs(&request.headers);
    let arguments = recorded(&request.method, &request.url, given.clone(), body);
    let effect = if is_read(&request.method) { EffectClass::Read } else { EffectClass::Once };
    let answer = match execution.with(|state| state.begin("fetch", effect, &arguments))? {
        Begin::Answered(answer) => answer,
        Begin::Open(open) => {
            let read = read(&request.url, given, execution.with(|state| state.looks(&ENTRY)));
            let read = read.map_err(|denial| Formless { argument: request.url.clone(), denial });
            let fetched = read.as_ref().map(|(url, headers)| FetchArguments {
                method: &request.method,
                url,
                headers,
                body: request.body.as_deref(),
            });
            let typed = fetched.as_ref().map(Arguments::Fetch);
            let form = fetched.as_ref().map_or_else(|_| Form::given(&arguments), |fetched| form(fetched, body));
            let shown = || fetched.as_ref().map_or(Value::Null, |fetched| shown(request, fetched));
            let typed = typed.as_ref().map_err(|formless| **formless);
            let call = CallRequest { entry: &ENTRY, typed, arguments: &form, shown: Some(&shown) };
            match (execution.authorize(open, &call).await?, &fetched) {
                (Gate::Done(answer), _) => answer,
                (Gate::Go(permitted), Ok(fetched)) => Box::pin(perform(execution, permitted, &call, fetched)).await?,
                (Gate::Go(permitted), Err(formless)) => {
                    let refused = Refused::of(&ENTRY, Some(formless.argument.clone()), formless.denial.clone());
                    Err(execution.with(|state| state.refuse(permitted.open, refused))?)
                }
            }
        }
    };
    execution.read_back(answer)
}

/// Where a request goes and what it says, in their one form.
fn read<'h>(
    url: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    looks: Looks,
) -> Result<(Target, Headers), Denial> {
    Ok((Target::read(url, looks)?, Headers::read(headers, looks)?))
}

/// What the journal has of a request.
fn recorded<'h>(
    method: &str,
    url: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: Option<Body>,
) -> Vec<u8> {
    let headers = headers.into_iter().map(|(name, value)| Name { name, value }).collect();
    bytes_of(&RecordedArguments { request: Recorded { method, url, headers, body } })
}

fn form(request: &FetchArguments<'_>, body: Option<Body>) -> Form<'static> {
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Form::of(recorded(request.method, request.url.url().as_str(), headers, body))
}

impl Body {
    fn of(body: &[u8]) -> Self {
        Self { bytes: body.len(), digest: Digest::of(body) }
    }
}

/// What goes out, and the URL as the guest wrote it where that is another spelling.
fn shown(request: &Request, fetched: &FetchArguments<'_>) -> Value {
    let url = fetched.url.url().as_str();
    let headers = fetched.headers.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    let mut shown = json!({
        "method": fetched.method,
        "url": url,
        "headers": headers.collect::<Vec<_>>(),
        "body": fetched.body.map(base64),
    });
    if url != request.url {
        shown["written"] = request.url.as_str().into();
    }
    json!({ "request": shown })
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

fn pairs(headers: &[Header]) -> Vec<(&str, &str)> {
    headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect()
}

/// Sends it, as often as the grant's `retry` allows, and records how it went.
async fn perform(
    execution: &Execution,
    mut permitted: PermittedCall,
    call: &CallRequest<'_>,
    request: &FetchArguments<'_>,
) -> Result<Result<Vec<u8>, Error>, Stop> {
    let Some(grant) = permitted.grant(ENTRY.capability.name).cloned() else {
        let error = Error::Denied("nothing is granted".into());
        execution.with(|state| state.finish(permitted.open, None, &Err(error.clone())))?;
        return Ok(Err(error));
    };
    let mut headers = request.headers.to_vec();
    let repeats = grant.effect == GrantEffect::Idempotent || permitted.open.effect == EffectClass::Idempotent;
    if !is_read(request.method) && !permitted.admitted && repeats {
        permitted.open.effect = EffectClass::Idempotent;
        let key = execution.with(|state| state.key(&permitted.open, ENTRY.capability.name));
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("idempotency-key"));
        headers.push(("idempotency-key".into(), key.as_str().into()));
    }
    let effect = permitted.open.effect;
    if effect != EffectClass::Read && !permitted.admitted {
        permitted = match execution.admit(permitted, call).await? {
            Ok(permitted) => permitted,
            Err(gate) => return afresh(execution, gate, call, request).await,
        };
    }
    execution.commit_creation().await?;
    let mut retries = Retries::of(grant.retry.as_ref());
    let result = loop {
        let (headers, body) = (headers.clone(), request.body);
        let sent = Hops { request, headers, body, effect, grant: &grant };
        let went = execution.unless_left(effect, sent.follow(execution, &mut permitted)).await?;
        let again = match &went {
            AttemptOutcome::Answer(response) => {
                effect != EffectClass::Once && matches!(response.status, 429 | 502 | 503 | 504)
            }
            AttemptOutcome::Failure(failure) => failure.may_repeat(effect),
            AttemptOutcome::Refused(_) => false,
        };
        match went {
            _ if again && retries.left() => {
                execution.with(|state| state.note_retry(&mut permitted.open, call, retries.attempt()));
                if effect != EffectClass::Read {
                    permitted = match execution.admit(permitted, call).await? {
                        Ok(permitted) => permitted,
                        Err(gate) => return afresh(execution, gate, call, request).await,
                    };
                }
                execution.back_off(&mut retries, &permitted.open).await?;
            }
            AttemptOutcome::Answer(response) => break Ok(bytes_of(&response)),
            AttemptOutcome::Failure(Failure::Lack(what)) => {
                return Err(execution.withdraw(&permitted.open, Stop::Lack(what)).await);
            }
            AttemptOutcome::Failure(failure) => break Err(failure.into_guest_error(effect)),
            AttemptOutcome::Refused(refused) => {
                return Ok(Err(execution.with(|state| state.refuse(permitted.open, refused))?));
            }
        }
    };
    execution.conclude(permitted.open, &result).await?;
    Ok(result)
}

/// Goes on with a call that was decided again.
async fn afresh(
    execution: &Execution,
    gate: Gate,
    call: &CallRequest<'_>,
    request: &FetchArguments<'_>,
) -> Result<Result<Vec<u8>, Error>, Stop> {
    match gate {
        Gate::Go(permitted) => Box::pin(perform(execution, permitted, call, request)).await,
        Gate::Done(answer) => Ok(answer),
    }
}

/// How one attempt went.
enum AttemptOutcome {
    Answer(Response),
    Failure(Failure),
    Refused(Refused),
}

/// One attempt: the request, and the redirects after it.
struct Hops<'h> {
    request: &'h FetchArguments<'h>,
    headers: Vec<(String, String)>,
    body: Option<&'h [u8]>,
    effect: EffectClass,
    grant: &'h Grant,
}

impl Hops<'_> {
    async fn follow(mut self, execution: &Execution, permitted: &mut PermittedCall) -> AttemptOutcome {
        let timeout = self.grant.timeout.as_millis().map_or(LONGEST, Duration::from_millis).min(LONGEST);
        let deadline = clock::now() + timeout;
        let (mut url, mut leave) = (self.request.url.url().clone(), permitted.leave);
        for hop in 0.. {
            let response = match self.send(execution, &url, leave, deadline).await {
                Ok(response) => response,
                Err(Failure::Denied(reason)) => {
                    return AttemptOutcome::Refused(Refused::of_address(&ENTRY, &url, reason));
                }
                // What is repeated is the whole of it, so the first hop counts.
                Err(failure) if hop > 0 => return AttemptOutcome::Failure(failure.after_something()),
                Err(failure) => return AttemptOutcome::Failure(failure),
            };
            // A person who allowed a call allowed what was shown, and nowhere else.
            let follows = is_read(self.request.method) && self.effect == EffectClass::Read;
            let next = match net::redirect(&url, self.request.method, &response).filter(|_| follows) {
                None => return AttemptOutcome::Answer(answer(response)),
                Some(_) if hop == REDIRECTS_MAX => {
                    let text = format!("more than {REDIRECTS_MAX} redirects");
                    return AttemptOutcome::Failure(Failure::Failed { text, sent: true });
                }
                Some(Err(failure)) => return AttemptOutcome::Failure(failure),
                Some(Ok(next)) => next,
            };
            match self.hop(execution, permitted, &url, &next.url) {
                Ok(granted) => (url, leave) = granted,
                Err(refused) => return AttemptOutcome::Refused(refused),
            }
        }
        AttemptOutcome::Failure(Failure::Failed { text: "too many redirects".into(), sent: true })
    }

    async fn send(
        &self,
        execution: &Execution,
        url: &Url,
        leave: Leave,
        deadline: Instant,
    ) -> Result<net::Response, Failure> {
        let may = |address: IpAddr| match leave.origin {
            Some(origin) => may_dial(self.grant, origin, address).map_err(|denial| denial.reason),
            None => Err("no origin is granted".to_owned()),
        };
        let client = execution.outside().client_for(&self.grant.ca)?;
        let addresses = dialled(&client, url, deadline, &may).await?;
        let request = net::Request {
            method: self.request.method,
            url,
            addresses: &addresses,
            headers: &self.headers,
            body: self.body.map(|body| body.to_vec().into()),
            repeatable: self.effect == EffectClass::Read,
        };
        let limits = net::Limits::new(self.grant.max_bytes.unwrap_or(DEFAULT_ANSWER_BYTES), deadline);
        // Taken out for the request: nothing of the execution is held across it.
        let mut connections = execution.with(|state| std::mem::take(&mut state.links.http));
        let answer = net::exchange(&client, &mut connections, request, limits).await;
        execution.with(|state| state.links.http = connections);
        answer
    }

    /// Where a redirect leads is decided like any request, on exactly what will be sent there.
    fn hop(
        &mut self,
        execution: &Execution,
        permitted: &mut PermittedCall,
        here: &Url,
        next: &str,
    ) -> Result<(Url, Leave), Refused> {
        let refused = |denial| Refused::of(&ENTRY, Some(next.to_owned()), denial);
        let looks = permitted.scope.looks(ENTRY.capability.name);
        let there = Target::read(next, looks).map_err(refused)?;
        if !net::same_origin(here, there.url()) {
            net::strip_credentials(&mut self.headers);
            self.body = None;
        }
        let pairs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers = Headers::read(pairs, looks).map_err(refused)?;
        let fetched = FetchArguments { url: &there, headers: &headers, body: self.body, ..*self.request };
        let typed = Arguments::Fetch(&fetched);
        let form = form(&fetched, self.body.map(Body::of));
        let call = CallRequest { entry: &ENTRY, typed: Ok(&typed), arguments: &form, shown: None };
        let leave = execution.with(|state| state.hop(permitted, &call))?;
        Ok((there.url().clone(), leave))
    }
}

/// The addresses of a decided URL that may be dialled.
pub(crate) async fn dialled(
    client: &net::Client,
    url: &Url,
    deadline: Instant,
    may: &(dyn Fn(IpAddr) -> Result<(), String> + Sync),
) -> Result<Vec<SocketAddr>, Failure> {
    let missing = || Failure::Invalid("a URL names a host and a port".into());
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(missing)?;
    client.resolve(host, port, deadline, may).await
}

fn answer(response: net::Response) -> Response {
    let headers = response.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    Response { status: response.status, headers, body: response.body }
}
