//! `fetch`: one HTTP request to a granted origin.
//!
//! Each request, and each hop of a redirect, goes through the one decision: it gives the parsed URL, and
//! [`Client::resolve`](crate::net::Client::resolve) the addresses that may be dialled; nothing else is.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use parole_durable::{Digest, Effect};
use parole_policy::{
    Arguments, Capability, DEFAULT_ANSWER_BYTES, FETCH_ARGUMENTS, FetchArguments, Grant, GrantEffect, GrantKey, Kind,
    Level, Timeout, Url, may_dial, parse_url,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::clock;
use crate::execution::{Begin, Calling, Gate, Leave, Passage};
use crate::net::{self, Failure};
use crate::retry::Retries;
use crate::types::{Refused, base64, json as bytes_of};
use crate::{Entry, Error, Execution, Payload, Stop};

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
    functions: &[("fetch", Effect::Once)],
    wit: include_str!("../../../wit/fetch.wit"),
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
    #[serde(with = "crate::types::base64_text")]
    body: Vec<u8>,
}

/// The body is recorded by size and digest: at a repetition the guest brings it again.
#[derive(Serialize)]
struct Question<'a> {
    request: Recorded<'a>,
}

#[derive(Serialize)]
struct Recorded<'a> {
    method: &'a str,
    url: &'a str,
    headers: &'a [Header],
    body: Option<Body>,
}

#[derive(Serialize)]
struct Body {
    bytes: usize,
    digest: Digest,
}

fn summary(arguments: &Value) -> String {
    let part = |name: &str| arguments["request"][name].as_str().unwrap_or_default().to_owned();
    format!("{} {}", part("method"), part("url"))
}

fn link(instance: &mut LinkerInstance<'_, Execution>) -> wasmtime::Result<()> {
    instance.func_wrap_async("fetch", |mut store: StoreContextMut<'_, Execution>, (request,): (Request,)| {
        Box::new(async move { Ok((fetch(store.data_mut(), &request).await?,)) })
    })
}

async fn fetch(execution: &mut Execution, request: &Request) -> wasmtime::Result<Result<Response, Error>> {
    let body = request.body.as_ref().map(|body| Body { bytes: body.len(), digest: Digest::of(body) });
    let recorded = Recorded { method: &request.method, url: &request.url, headers: &request.headers, body };
    let arguments = bytes_of(&Question { request: recorded });
    let effect = if is_read(&request.method) { Effect::Read } else { Effect::Once };
    let answer = match execution.begin("fetch", effect, &arguments)? {
        Begin::Answered(answer) => answer,
        Begin::Open(open) => match parse_url(&request.url) {
            Err(denial) => {
                let refused = Refused::of(&ENTRY, Some(request.url.clone()), denial);
                Err(execution.turn_away(open, ENTRY.capability.name, &arguments, refused)?)
            }
            Ok(url) => {
                let headers = pairs(&request.headers);
                let fetched = FetchArguments {
                    method: &request.method,
                    url: &url,
                    text: &request.url,
                    headers: &headers,
                    body: request.body.as_deref(),
                };
                let typed = Arguments::Fetch(&fetched);
                let shown = || shown(request, &url);
                let calling = Calling { entry: &ENTRY, typed: &typed, arguments: &arguments, shown: Some(&shown) };
                match execution.pass(open, &calling).await? {
                    Gate::Done(answer) => answer,
                    Gate::Go(passage) => Box::pin(perform(execution, passage, &calling, &fetched)).await?,
                }
            }
        },
    };
    execution.read_back(answer)
}

/// What goes out: the URL as it is understood, and as the guest wrote it where that is another spelling.
fn shown(request: &Request, url: &Url) -> Value {
    let mut shown = json!({
        "method": request.method,
        "url": url.as_str(),
        "headers": request.headers,
        "body": request.body.as_deref().map(base64),
    });
    if url.as_str() != request.url {
        shown["written"] = request.url.as_str().into();
    }
    json!({ "request": shown })
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

fn pairs(headers: &[Header]) -> Vec<(String, String)> {
    headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect()
}

/// Sends it, as often as the grant's `retry` allows, and records how it went.
async fn perform(
    execution: &mut Execution,
    mut passage: Passage,
    calling: &Calling<'_>,
    request: &FetchArguments<'_>,
) -> Result<Result<Vec<u8>, Error>, Stop> {
    let Some(grant) = passage.grant(ENTRY.capability.name).cloned() else {
        let error = Error::Denied("nothing is granted".into());
        execution.finish(passage.open, None, &Err(error.clone()))?;
        return Ok(Err(error));
    };
    let mut headers = request.headers.to_vec();
    let repeats = grant.effect == GrantEffect::Idempotent || passage.open.effect == Effect::Idempotent;
    if !is_read(request.method) && !passage.admitted && repeats {
        passage.open.effect = Effect::Idempotent;
        let key = execution.key(&passage.open, ENTRY.capability.name);
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("idempotency-key"));
        headers.push(("idempotency-key".into(), key.as_str().into()));
    }
    let effect = passage.open.effect;
    if effect != Effect::Read && !passage.admitted {
        execution.admit(&passage.open).await?;
    }
    execution.be_known().await?;
    let mut retries = Retries::of(grant.retry.as_ref());
    let result = loop {
        let (headers, body) = (headers.clone(), request.body);
        let sent = Hops { request, headers, body, effect, grant: &grant, calling };
        let left = execution.left(effect);
        execution.pause();
        let went = tokio::select! {
            went = sent.follow(execution, &mut passage) => went,
            stop = left => return Err(stop),
        };
        execution.resume();
        let again = match &went {
            Went::Answer(response) => effect != Effect::Once && matches!(response.status, 429 | 502 | 503 | 504),
            Went::Failure(failure) => failure.may_repeat(effect),
            Went::Refused(_) => false,
        };
        match went {
            _ if again && retries.left() => {
                execution.note_retry(&mut passage.open, calling, retries.attempt());
                if effect != Effect::Read {
                    execution.admit(&passage.open).await?;
                }
                execution.back_off(&mut retries, &passage.open).await?;
            }
            Went::Answer(response) => break Ok(bytes_of(&response)),
            Went::Failure(Failure::Lack(what)) => {
                return Err(execution.withdraw(&passage.open, Stop::Lack(what)).await);
            }
            Went::Failure(failure) => break Err(failure.told(effect)),
            Went::Refused(refused) => {
                return Ok(Err(execution.refuse(passage.open, refused)?));
            }
        }
    };
    execution.conclude(passage.open, &result).await?;
    Ok(result)
}

/// How one attempt went.
enum Went {
    Answer(Response),
    Failure(Failure),
    Refused(Refused),
}

/// One attempt: the request, and the redirects after it.
struct Hops<'h> {
    request: &'h FetchArguments<'h>,
    headers: Vec<(String, String)>,
    body: Option<&'h [u8]>,
    effect: Effect,
    grant: &'h Grant,
    calling: &'h Calling<'h>,
}

impl Hops<'_> {
    async fn follow(mut self, execution: &mut Execution, passage: &mut Passage) -> Went {
        let timeout = self.grant.timeout.as_millis().map_or(LONGEST, Duration::from_millis).min(LONGEST);
        let deadline = clock::now() + timeout;
        let (mut url, mut leave) = (self.request.url.clone(), passage.leave);
        for hop in 0.. {
            let response = match self.send(execution, &url, leave, deadline).await {
                Ok(response) => response,
                Err(Failure::Denied(reason)) => return Went::Refused(Refused::of_address(&ENTRY, &url, reason)),
                // What is repeated is the whole of it, so the first hop counts.
                Err(failure) if hop > 0 => return Went::Failure(failure.after_something()),
                Err(failure) => return Went::Failure(failure),
            };
            // A person who allowed a call allowed what was shown, and nowhere else.
            let follows = is_read(self.request.method) && self.effect == Effect::Read;
            let next = match net::redirect(&url, self.request.method, &response).filter(|_| follows) {
                None => return Went::Answer(answer(response)),
                Some(_) if hop == REDIRECTS_MAX => {
                    let text = format!("more than {REDIRECTS_MAX} redirects");
                    return Went::Failure(Failure::Failed { text, sent: true });
                }
                Some(Err(failure)) => return Went::Failure(failure),
                Some(Ok(next)) => next,
            };
            match self.hop(execution, passage, &url, &next.url) {
                Ok(granted) => (url, leave) = granted,
                Err(refused) => return Went::Refused(refused),
            }
        }
        Went::Failure(Failure::Failed { text: "too many redirects".into(), sent: true })
    }

    async fn send(
        &self,
        execution: &mut Execution,
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
            repeatable: self.effect == Effect::Read,
        };
        let limits = net::Limits::new(self.grant.max_bytes.unwrap_or(DEFAULT_ANSWER_BYTES), deadline);
        net::exchange(&client, &mut execution.links.http, request, limits).await
    }

    /// Where a redirect leads is decided like any request, on exactly what will be sent there.
    fn hop(
        &mut self,
        execution: &Execution,
        passage: &mut Passage,
        here: &Url,
        next: &str,
    ) -> Result<(Url, Leave), Refused> {
        let there = parse_url(next).map_err(|denial| Refused::of(&ENTRY, Some(next.to_owned()), denial))?;
        if !net::same_origin(here, &there) {
            net::strip_credentials(&mut self.headers);
            self.body = None;
        }
        let fetched =
            FetchArguments { url: &there, text: next, headers: &self.headers, body: self.body, ..*self.request };
        let typed = Arguments::Fetch(&fetched);
        let leave = execution.hop(passage, &Calling { typed: &typed, ..*self.calling })?;
        Ok((there, leave))
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
