//! `websocket`: a connection to a granted origin.
//!
//! A received message is recorded before the guest may act on it: whatever it does next begins with a
//! barrier. An open connection does not outlive its process: after a resume every call on it answers
//! `closed`, and what it had received comes from the journal.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parole_durable::store::Lease;
use parole_durable::{Digest, EffectClass};
use parole_policy::{
    Arguments, Capability, GrantKey, Kind, Level, ScopeKind, Target, Timeout, Url, WEBSOCKET_ARGUMENTS, may_dial,
};
use serde::{Deserialize, Serialize};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};

use crate::backends::net::{self, Failure};
use crate::call::door::plain;
use crate::call::{Begin, CallRequest, Form, Formless, Gate, PermittedCall};
use crate::capability::fetch::dialled;
use crate::capability::person;
use crate::clock;
use crate::error::{Refused, base64_text, json};
use crate::{Entry, Error, Execution, Payload, Stop, StoreData};

/// Connections that an execution may have open at once.
pub const SOCKETS_MAX: usize = 16;
/// Bytes of a message if the grant names none.
pub const MESSAGE_MAX_BYTES: u64 = 1 << 20;
/// What a call may take when its grant says that it never expires.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const CONNECT: &str = "websocket.connect";
const SEND: &str = "websocket.send";
const RECEIVE: &str = "websocket.receive";
const CLOSE: &str = "websocket.close";

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "websocket",
        interface: "parole:capabilities/websocket@0.1.0",
        level: Level::Trusted,
        kind: Kind::Host,
        scope: ScopeKind::SocketUrl,
        grant_keys: &[GrantKey::Origins, GrantKey::Private, GrantKey::MaxBytes, GrantKey::TimeoutMs, GrantKey::Ca],
        default_timeout: Timeout::After(10_000),
        summary: "opens a WebSocket to a granted origin",
        arguments: WEBSOCKET_ARGUMENTS,
    },
    // What becomes of a message that was being sent nobody can repeat: its connection is gone.
    functions: &[
        (CONNECT, EffectClass::Read),
        (SEND, EffectClass::Once),
        (RECEIVE, EffectClass::Read),
        (CLOSE, EffectClass::Read),
    ],
    wit: include_str!("../../../../wit/websocket.wit"),
    link,
    payload: Payload::Json,
    summary: |arguments| person::field(arguments, "url"),
    answer: None,
    done: |_, _| Err("a connection cannot be told by a person: have it done again, or fail".into()),
};

/// `parole:capabilities/websocket.message`.
#[derive(Clone, ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(variant)]
#[serde(rename_all = "lowercase")]
enum Message {
    #[component(name = "text")]
    Text(String),
    #[component(name = "binary")]
    Binary(#[serde(with = "base64_text")] Vec<u8>),
}

/// The type of the guest's handles; the number is that of the connect among those of the execution.
struct Socket;

/// The connections of an execution, by number.
#[derive(Default)]
pub(crate) struct Sockets {
    made: u32,
    open: HashMap<u32, Open>,
}

struct Open {
    url: Target,
    socket: net::websocket::Socket,
}

impl Sockets {
    /// Whether any is open: then the guest is not parked while it waits.
    pub(crate) fn any(&self) -> bool {
        !self.open.is_empty()
    }
}

#[derive(Serialize)]
struct Connecting<'a> {
    url: &'a str,
}

#[derive(Serialize)]
struct On {
    socket: u32,
}

#[derive(Serialize)]
struct Sending {
    socket: u32,
    kind: &'static str,
    bytes: usize,
    digest: Digest,
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.resource(
        "socket",
        ResourceType::host::<Socket>(),
        |mut store: StoreContextMut<'_, StoreData>, number| {
            store.data_mut().execution.with(|state| state.links.sockets.open.remove(&number));
            Ok(())
        },
    )?;
    instance.func_wrap_async(
        "[static]socket.connect",
        |store: StoreContextMut<'_, StoreData>, (url,): (String,)| {
            plain(&store, |execution| async move {
                let connected = connect(&execution, &url).await?;
                Ok((connected.map(Resource::<Socket>::new_own),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]socket.send",
        |store: StoreContextMut<'_, StoreData>, (socket, message): (Resource<Socket>, Message)| {
            plain(&store, |execution| async move { Ok((send(&execution, socket.rep(), message).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]socket.receive",
        |store: StoreContextMut<'_, StoreData>, (socket,): (Resource<Socket>,)| {
            plain(&store, |execution| async move { Ok((receive(&execution, socket.rep()).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]socket.close",
        |store: StoreContextMut<'_, StoreData>, (socket,): (Resource<Socket>,)| {
            plain(&store, |execution| async move { close(&execution, socket.rep()).await })
        },
    )
}

async fn connect(execution: &Execution, text: &str) -> wasmtime::Result<Result<u32, Error>> {
    let arguments = json(&Connecting { url: text });
    let (number, begun) = execution.with(|state| {
        let number = state.links.sockets.made;
        state.links.sockets.made = number.saturating_add(1);
        (number, state.begin(CONNECT, EffectClass::Read, &arguments))
    });
    let answer = match begun? {
        Begin::Answered(answer) => answer,
        Begin::Open(open) => {
            let url = Target::read(text, execution.with(|state| state.looks(&ENTRY)))
                .map_err(|denial| Formless { argument: text.to_owned(), denial });
            let typed = url.as_ref().map(|url| Arguments::Connect { url });
            let form = url.as_ref().map_or_else(
                |_| Form::given(&arguments),
                |url| Form::of(json(&Connecting { url: url.url().as_str() })),
            );
            let typed = typed.as_ref().map_err(|formless| *formless);
            let call = CallRequest { entry: &ENTRY, typed, arguments: &form, shown: None };
            match (execution.authorize(open, &call).await?, url) {
                (Gate::Done(answer), _) => answer,
                (Gate::Go(permitted), Ok(url)) => open_socket(execution, permitted, number, url).await?,
                (Gate::Go(permitted), Err(formless)) => {
                    let refused = Refused::of(&ENTRY, Some(formless.argument), formless.denial);
                    Err(execution.with(|state| state.refuse(permitted.open, refused))?)
                }
            }
        }
    };
    Ok(answer.map(|_| number))
}

/// Opens a connection that may be opened, and records how that went.
async fn open_socket(
    execution: &Execution,
    permitted: PermittedCall,
    number: u32,
    url: Target,
) -> Result<Result<Vec<u8>, Error>, Stop> {
    let result = if execution.with(|state| state.links.sockets.open.len()) >= SOCKETS_MAX {
        Err(Error::Exhausted(format!("websocket: {SOCKETS_MAX} may be open at once")))
    } else {
        let grant = permitted.grant(ENTRY.capability.name);
        let may = |address: IpAddr| match (grant, permitted.leave.origin) {
            (Some(grant), Some(origin)) => may_dial(grant, origin, address).map_err(|denial| denial.reason),
            _ => Err("no origin is granted".to_owned()),
        };
        let most = grant.and_then(|grant| grant.max_bytes);
        let timeout = grant.and_then(|grant| grant.timeout.as_millis());
        execution.commit_creation().await?;
        let client = execution.outside().client_for(grant.map_or(&[][..], |grant| &grant.ca));
        let dialled = async { dial(&client?, url.url(), deadline(timeout), most, &may).await };
        let dialled = execution.unless_left(permitted.open.effect, dialled).await?;
        match dialled {
            Ok(socket) => {
                execution.with(|state| state.links.sockets.open.insert(number, Open { url, socket }));
                Ok(json(&number))
            }
            Err(Failure::Denied(reason)) => {
                let refused = Refused::of_address(&ENTRY, url.url(), reason);
                return Ok(Err(execution.with(|state| state.refuse(permitted.open, refused))?));
            }
            Err(Failure::Lack(what)) => return Err(execution.withdraw(&permitted.open, Stop::Lack(what)).await),
            Err(failure) => Err(failure.into_guest_error(EffectClass::Read)),
        }
    };
    execution.conclude(permitted.open, &result).await?;
    Ok(result)
}

async fn dial(
    client: &net::Client,
    url: &Url,
    deadline: Instant,
    most: Option<u64>,
    may: &(dyn Fn(IpAddr) -> Result<(), String> + Sync),
) -> Result<net::websocket::Socket, Failure> {
    let addresses = dialled(client, url, deadline, may).await?;
    net::websocket::connect(client, url, &addresses, most.unwrap_or(MESSAGE_MAX_BYTES), deadline).await
}

fn deadline(timeout_ms: Option<u64>) -> Instant {
    clock::now() + timeout_ms.map_or(LONGEST, Duration::from_millis).min(LONGEST)
}

/// Takes a call on a connection up to where it may be performed: the policy is asked again, so that a grant
/// that was taken back is. A person is not: that was for the connecting.
async fn admitted(
    execution: &Execution,
    function: &'static str,
    number: u32,
    arguments: &[u8],
) -> Result<
    Result<(parole_durable::journal::Open, Option<(net::websocket::Socket, Target)>, Instant), Result<Vec<u8>, Error>>,
    Stop,
> {
    let effect = if function == SEND { EffectClass::Once } else { EffectClass::Read };
    let open = match execution.with(|state| state.begin(function, effect, arguments))? {
        Begin::Answered(answer) => return Ok(Err(answer)),
        Begin::Open(open) => open,
    };
    let Some(Open { url, socket }) = execution.with(|state| state.links.sockets.open.remove(&number)) else {
        return Ok(Ok((open, None, clock::now())));
    };
    let (typed, form) = (Arguments::Connect { url: &url }, Form::given(arguments));
    let call = CallRequest { entry: &ENTRY, typed: Ok(&typed), arguments: &form, shown: None };
    match execution.with(|state| state.recheck(open, &call))? {
        // The connection is dropped with the right to it.
        Err(error) => Ok(Err(Err(error))),
        Ok((open, grant)) => {
            let until = deadline(grant.and_then(|grant| grant.timeout.as_millis()));
            Ok(Ok((open, Some((socket, url)), until)))
        }
    }
}

async fn send(execution: &Execution, number: u32, message: Message) -> wasmtime::Result<Result<(), Error>> {
    let (kind, bytes): (_, &[u8]) = match &message {
        Message::Text(text) => ("text", text.as_bytes()),
        Message::Binary(bytes) => ("binary", bytes),
    };
    let arguments = json(&Sending { socket: number, kind, bytes: bytes.len(), digest: Digest::of(bytes) });
    let (open, live, until) = match admitted(execution, SEND, number, &arguments).await? {
        Ok(there) => there,
        Err(answer) => return Ok(answer.map(drop)),
    };
    let result = match live {
        None => Err(Error::Closed),
        Some((mut socket, url)) => {
            // What the guest acts upon is durable before the outside sees that it acts.
            execution.commit(Lease::Keep).await?;
            let message = match message {
                Message::Text(text) => net::websocket::Message::Text(text),
                Message::Binary(bytes) => net::websocket::Message::Binary(bytes),
            };
            match execution.unless_left(EffectClass::Once, socket.send(message, until)).await? {
                Ok(()) => {
                    execution.with(|state| state.links.sockets.open.insert(number, Open { url, socket }));
                    Ok(Vec::new())
                }
                // Nothing of it was sent.
                Err(failure @ (Failure::TooLarge(_) | Failure::Invalid(_))) => {
                    execution.with(|state| state.links.sockets.open.insert(number, Open { url, socket }));
                    Err(gone(failure))
                }
                Err(failure) => Err(gone(failure)),
            }
        }
    };
    execution.with(|state| state.finish(open, None, &result))?;
    Ok(result.map(drop))
}

async fn receive(execution: &Execution, number: u32) -> wasmtime::Result<Result<Option<Message>, Error>> {
    let arguments = json(&On { socket: number });
    let (open, live, until) = match admitted(execution, RECEIVE, number, &arguments).await? {
        Ok(there) => there,
        Err(answer) => return execution.read_back(answer),
    };
    let result = match live {
        None => Err(Error::Closed),
        Some((mut socket, url)) => {
            if execution.with(|state| state.journal().unsaved_steps()) > 0 {
                // It may wait for long: what was put out before is shown.
                execution.commit(Lease::Keep).await?;
            }
            let received = execution.unless_left(EffectClass::Read, socket.receive(until)).await?;
            let keep = matches!(received, Ok(Some(_)) | Err(Failure::Expired { .. }));
            if keep {
                execution.with(|state| state.links.sockets.open.insert(number, Open { url, socket }));
            }
            match received {
                Ok(message) => Ok(json(&message.map(|message| match message {
                    net::websocket::Message::Text(text) => Message::Text(text),
                    net::websocket::Message::Binary(bytes) => Message::Binary(bytes),
                }))),
                Err(failure) => Err(gone(failure)),
            }
        }
    };
    execution.with(|state| state.finish(open, None, &result))?;
    execution.read_back(result)
}

/// What a failure on a connection comes to: but for time and size, it is gone.
fn gone(failure: Failure) -> Error {
    match failure {
        Failure::Expired { .. } => Error::Expired,
        Failure::TooLarge(limit) => Error::TooLarge(limit),
        Failure::Invalid(reason) => Error::Invalid(reason),
        Failure::Denied(_) | Failure::Lack(_) | Failure::Closed | Failure::Failed { .. } => Error::Closed,
    }
}

async fn close(execution: &Execution, number: u32) -> wasmtime::Result<()> {
    let arguments = json(&On { socket: number });
    if let Begin::Open(open) = execution.with(|state| state.begin(CLOSE, EffectClass::Read, &arguments))? {
        if let Some(mut there) = execution.with(|state| state.links.sockets.open.remove(&number)) {
            execution.commit(Lease::Keep).await?;
            there.socket.close().await;
        }
        execution.with(|state| state.finish(open, None, &Ok(Vec::new())))?;
    }
    Ok(())
}
