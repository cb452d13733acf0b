//! `websocket`: a connection to a granted origin.
//!
//! A received message is recorded before the guest may act on it: whatever it does next begins with a
//! barrier. An open connection does not outlive its process: after a resume every call on it answers
//! `closed`, and what it had received comes from the journal.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use parole_durable::{Digest, EffectClass};
use parole_policy::{
    DEFAULT_ANSWER_BYTES, Definition, Fact, Facts, Flag, Function as Declared, GrantKey, HOST_TIMEOUT, Key, Level,
    Looks, Resource, ScopeKind, Target, Type, field,
};
use serde::{Deserialize, Serialize};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource as Handle, ResourceType};

use crate::backends::Outside;
use crate::backends::net::{self, websocket};
use crate::call::act;
use crate::call::door::plain;
use crate::call::effect::{Answer, Attempt, Effect, Failure, Form, Formless, Function, Unformed};
use crate::call::permit::{Open as Held, Origin, Permit, Release};
use crate::call::slot::Slot;
use crate::error::{base64_text, json};
use crate::{Entry, Error, Payload, StoreData};

/// Connections that an execution may have open at once.
pub const SOCKETS_MAX: usize = 16;
/// Bytes of a message if the grant names none.
pub const MESSAGE_MAX_BYTES: u64 = 1 << 20;
/// What a call may take when its grant says that it never expires: who listens may do so for years.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const CONNECT: &str = "websocket.connect";
const SEND: &str = "websocket.send";
const RECEIVE: &str = "websocket.receive";
const CLOSE: &str = "websocket.close";

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    // What becomes of a message that was being sent nobody can repeat: its connection is gone.
    classes: &[EffectClass::Read, EffectClass::Once, EffectClass::Read, EffectClass::Read],
    wit: include_str!("../../../../wit/websocket.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: |_, _| Err("a connection cannot be told by a person: have it done again, or fail".into()),
    sweep: None,
});

fn definition() -> Definition {
    let message = Type::variant([("text", Some(Type::TEXT)), ("binary", Some(Type::Bytes))]);
    Definition {
        level: Level::Trusted,
        scope: ScopeKind::SocketUrl,
        keys: vec![
            GrantKey::Origins.into(),
            GrantKey::Private.into(),
            Key::number(GrantKey::MaxBytes, DEFAULT_ANSWER_BYTES),
            GrantKey::TimeoutMs.into(),
            GrantKey::Ca.into(),
        ],
        flag: Some(Flag::AllowNet),
        functions: vec![
            Declared::new("[static]socket.connect", CONNECT, [field("url", Type::Url)], Some(Type::Handle)),
            Declared::new(
                "[method]socket.send",
                SEND,
                [field("self", Type::Handle), field("message", message.clone())],
                None,
            ),
            Declared::new(
                "[method]socket.receive",
                RECEIVE,
                [field("self", Type::Handle)],
                Some(Type::option(message)),
            ),
            Declared::infallible("[method]socket.close", CLOSE, [field("self", Type::Handle)], None),
        ],
        timeout: HOST_TIMEOUT,
        summary: "opens a WebSocket to a granted origin".into(),
        shown: "{url}".into(),
        ..Definition::new("websocket", "parole:capabilities/websocket@0.1.0")
    }
}

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
struct Sockets(Mutex<Table>);

#[derive(Default)]
struct Table {
    made: u32,
    open: HashMap<u32, Open>,
}

struct Open {
    url: Target,
    socket: websocket::Socket,
}

/// An open connection would be lost with the memory.
impl Slot for Sockets {
    fn holds(&self) -> bool {
        self.with(|table| !table.open.is_empty())
    }
}

impl Sockets {
    fn with<R>(&self, section: impl FnOnce(&mut Table) -> R) -> R {
        section(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a connection for a call on it, which puts it back if it goes on.
    fn take(&self, number: u32) -> Option<Open> {
        self.with(|table| table.open.remove(&number))
    }

    fn put(&self, number: u32, open: Open) {
        self.with(|table| table.open.insert(number, open));
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.resource("socket", ResourceType::host::<Socket>(), |store: StoreContextMut<'_, StoreData>, number| {
        drop(store.data().execution.slot::<Sockets>().take(number));
        Ok(())
    })?;
    instance.func_wrap_async(
        "[static]socket.connect",
        |store: StoreContextMut<'_, StoreData>, (url,): (String,)| {
            plain(&store, |execution| async move {
                let connected = act(&execution, Connect, url).await?;
                Ok((connected.map(|Number(number)| Handle::<Socket>::new_own(number)),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]socket.send",
        |store: StoreContextMut<'_, StoreData>, (socket, message): (Handle<Socket>, Message)| {
            plain(&store, |execution| async move {
                let args = Sending { socket: socket.rep(), digest: Digest::of(message.bytes()), message };
                Ok((act(&execution, Send, args).await?,))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]socket.receive",
        |store: StoreContextMut<'_, StoreData>, (socket,): (Handle<Socket>,)| {
            plain(&store, |execution| async move {
                let received = act(&execution, Receive, socket.rep()).await?;
                Ok((received.map(|Received(message)| message),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]socket.close",
        |store: StoreContextMut<'_, StoreData>, (socket,): (Handle<Socket>,)| {
            plain(&store, |execution| async move {
                // It has no error for its guest.
                drop(act(&execution, Close, socket.rep()).await?);
                Ok(())
            })
        },
    )
}

#[derive(Serialize)]
struct On {
    socket: u32,
}

struct Connect;

struct Connecting {
    url: Target,
}

/// The number of a connection.
#[derive(Serialize, Deserialize)]
struct Number(u32);

impl Answer for Number {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        serde_json::from_slice(&bytes).ok()
    }
}

fn url_of(url: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Recorded<'a> {
        url: &'a str,
    }
    json(&Recorded { url })
}

impl Function for Connect {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        CONNECT.into()
    }

    type Args = String;
    type Form = Connecting;
    type Answer = Number;
    type Slot = Sockets;

    fn recorded(&self, url: &String) -> Vec<u8> {
        url_of(url)
    }

    fn class(&self, _: &String) -> EffectClass {
        EffectClass::Read
    }

    fn form(&self, url: String, looks: Looks, _: &Sockets) -> Result<Connecting, Unformed<Number>> {
        Ok(Connecting { url: Target::read(&url, looks).map_err(Formless::of(&url))? })
    }
}

impl Facts for Connecting {
    fn resource(&self) -> Resource<'_> {
        Resource::Url { method: None, url: &self.url }
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        fact(&self.url, name)
    }
}

fn fact<'u>(url: &'u Target, name: &str) -> Option<Fact<'u>> {
    match name {
        "url" => Some(Fact::Text(url.sent())),
        "target" => Some(Fact::Record(url)),
        _ => None,
    }
}

impl Form for Connecting {
    fn canonical(&self) -> Option<Vec<u8>> {
        Some(url_of(self.url.url().as_str()))
    }

    fn argument(&self) -> Option<String> {
        Some(self.url.url().to_string())
    }
}

impl Effect for Connect {
    type Scope = Origin;
    const OUTSIDE: bool = true;
    const LONGEST: Duration = FAR;

    fn before(&self, sockets: &Sockets, _: &Permit<Origin>, _: &Connecting) -> Result<(), Error> {
        match sockets.with(|table| table.open.len()) {
            SOCKETS_MAX.. => Err(Error::Exhausted(format!("websocket: {SOCKETS_MAX} may be open at once"))),
            _ => Ok(()),
        }
    }

    fn act(
        &self,
        permit: &Permit<Origin>,
        form: &Connecting,
        outside: &Outside,
        sockets: &Sockets,
    ) -> impl Future<Output = Attempt<Number, Connecting>> + std::marker::Send {
        Box::pin(async move {
            match dial(permit, outside).await {
                Ok(socket) => {
                    let number = sockets.with(|table| table.made);
                    sockets.put(number, Open { url: form.url.clone(), socket });
                    Attempt::Done(Number(number))
                }
                // One that is not open has done nothing that anybody could ask about.
                Err(failure) => Attempt::Failed(match failure.at(permit.reach()) {
                    Failure::Expired { .. } => Failure::Expired { sent: false },
                    Failure::Failed { text, .. } => Failure::Failed { text, sent: false },
                    failure => failure,
                }),
            }
        })
    }

    /// The number of a connection is that of the call among those that wanted one.
    fn count(&self, sockets: &Sockets, _: u64, _: &Result<Number, Error>) {
        sockets.with(|table| table.made = table.made.saturating_add(1));
    }
}

async fn dial(permit: &Permit<Origin>, outside: &Outside) -> Result<websocket::Socket, net::Failure> {
    let client = outside.client_for(permit.reach().authorities())?;
    let addresses = client.addresses(permit).await?;
    let most = permit.number(GrantKey::MaxBytes).unwrap_or(MESSAGE_MAX_BYTES);
    websocket::connect(&client, permit.reach().url(), &addresses, most, permit.deadline()).await
}

/// A call on an open connection: the policy is asked again, so that a grant that was taken back is.
struct Live<T> {
    socket: u32,
    url: Target,
    open: Mutex<Option<websocket::Socket>>,
    what: T,
}

impl<T> Live<T> {
    /// Of one that is gone there is nothing to decide.
    fn of<A>(sockets: &Sockets, socket: u32, what: T) -> Result<Self, Unformed<A>> {
        let Open { url, socket: open } = sockets.take(socket).ok_or(Unformed::Ended(Err(Error::Closed)))?;
        Ok(Self { socket, url, open: Mutex::new(Some(open)), what })
    }

    fn take(&self) -> Result<websocket::Socket, Failure> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        open.ok_or(Failure::Ended(Error::Closed))
    }
}

impl<T: Sync> Facts for Live<T> {
    fn resource(&self) -> Resource<'_> {
        Resource::Url { method: None, url: &self.url }
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        fact(&self.url, name)
    }
}

impl<T: std::marker::Send + Sync + 'static> Form for Live<T> {
    fn argument(&self) -> Option<String> {
        Some(self.url.url().to_string())
    }
}

/// What a failure on a connection comes to: but for time and size, it is gone.
fn gone(failure: net::Failure) -> Failure {
    Failure::Ended(match failure {
        net::Failure::Expired { .. } => Error::Expired,
        net::Failure::TooLarge(limit) => Error::TooLarge(limit),
        net::Failure::Invalid(reason) => Error::Invalid(reason),
        net::Failure::Denied(_) | net::Failure::Lack(_) | net::Failure::Closed | net::Failure::Failed { .. } => {
            Error::Closed
        }
    })
}

struct Send;

struct Sending {
    socket: u32,
    message: Message,
    digest: Digest,
}

impl Message {
    fn bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

impl Function for Send {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        SEND.into()
    }

    type Args = Sending;
    type Form = Live<Message>;
    type Answer = ();
    type Slot = Sockets;

    fn recorded(&self, args: &Sending) -> Vec<u8> {
        #[derive(Serialize)]
        struct Recorded {
            socket: u32,
            kind: &'static str,
            bytes: usize,
            digest: Digest,
        }
        let kind = if matches!(args.message, Message::Text(_)) { "text" } else { "binary" };
        json(&Recorded { socket: args.socket, kind, bytes: args.message.bytes().len(), digest: args.digest })
    }

    fn class(&self, _: &Sending) -> EffectClass {
        EffectClass::Once
    }

    fn form(&self, args: Sending, _: Looks, sockets: &Sockets) -> Result<Live<Message>, Unformed<()>> {
        Live::of(sockets, args.socket, args.message)
    }
}

impl Effect for Send {
    type Scope = Held;
    const OUTSIDE: bool = true;
    const LONGEST: Duration = FAR;

    async fn act(
        &self,
        permit: &Permit<Held>,
        form: &Live<Message>,
        _: &Outside,
        sockets: &Sockets,
    ) -> Attempt<(), Live<Message>> {
        let mut socket = match form.take() {
            Ok(socket) => socket,
            Err(failure) => return Attempt::Failed(failure),
        };
        let message = match form.what.clone() {
            Message::Text(text) => websocket::Message::Text(text),
            Message::Binary(bytes) => websocket::Message::Binary(bytes),
        };
        let sent = socket.send(message, permit.deadline()).await;
        // Of what is too large or cannot be right nothing was sent.
        if matches!(sent, Ok(()) | Err(net::Failure::TooLarge(_) | net::Failure::Invalid(_))) {
            sockets.put(form.socket, Open { url: form.url.clone(), socket });
        }
        sent.map_or_else(|failure| Attempt::Failed(gone(failure)), Attempt::Done)
    }
}

struct Receive;

/// A message; none: the other side has closed.
#[derive(Serialize, Deserialize)]
struct Received(Option<Message>);

impl Answer for Received {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        serde_json::from_slice(&bytes).ok()
    }
}

impl Function for Receive {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        RECEIVE.into()
    }

    type Args = u32;
    type Form = Live<()>;
    type Answer = Received;
    type Slot = Sockets;

    fn recorded(&self, socket: &u32) -> Vec<u8> {
        json(&On { socket: *socket })
    }

    fn class(&self, _: &u32) -> EffectClass {
        EffectClass::Read
    }

    fn form(&self, socket: u32, _: Looks, sockets: &Sockets) -> Result<Live<()>, Unformed<Received>> {
        Live::of(sockets, socket, ())
    }
}

impl Effect for Receive {
    type Scope = Held;
    const OUTSIDE: bool = true;
    const LONGEST: Duration = FAR;

    async fn act(
        &self,
        permit: &Permit<Held>,
        form: &Live<()>,
        _: &Outside,
        sockets: &Sockets,
    ) -> Attempt<Received, Live<()>> {
        let mut socket = match form.take() {
            Ok(socket) => socket,
            Err(failure) => return Attempt::Failed(failure),
        };
        let received = socket.receive(permit.deadline()).await;
        if matches!(received, Ok(Some(_)) | Err(net::Failure::Expired { .. })) {
            sockets.put(form.socket, Open { url: form.url.clone(), socket });
        }
        match received {
            Ok(message) => Attempt::Done(Received(message.map(|message| match message {
                websocket::Message::Text(text) => Message::Text(text),
                websocket::Message::Binary(bytes) => Message::Binary(bytes),
            }))),
            Err(failure) => Attempt::Failed(gone(failure)),
        }
    }
}

struct Close;

/// A connection that is given up.
struct Closing(Mutex<Option<websocket::Socket>>);

impl Facts for Closing {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, _: &str) -> Option<Fact<'_>> {
        None
    }
}

impl Form for Closing {}

impl Function for Close {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        CLOSE.into()
    }

    type Args = u32;
    type Form = Closing;
    type Answer = ();
    type Slot = Sockets;

    fn recorded(&self, socket: &u32) -> Vec<u8> {
        json(&On { socket: *socket })
    }

    fn class(&self, _: &u32) -> EffectClass {
        EffectClass::Read
    }

    fn form(&self, socket: u32, _: Looks, sockets: &Sockets) -> Result<Closing, Unformed<()>> {
        match sockets.take(socket) {
            Some(open) => Ok(Closing(Mutex::new(Some(open.socket)))),
            None => Err(Unformed::Ended(Ok(()))),
        }
    }
}

impl Effect for Close {
    type Scope = Release;
    // What was sent last arrives: it is not left half way.
    const OUTSIDE: bool = false;

    async fn act(&self, _: &Permit<Release>, form: &Closing, _: &Outside, _: &Sockets) -> Attempt<(), Closing> {
        let socket = form.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut socket) = socket {
            socket.close().await;
        }
        Attempt::Done(())
    }
}
