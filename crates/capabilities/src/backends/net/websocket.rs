//! Websockets, over streams that were dialled here.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::dial::{Stream, Traffic, dial};
use super::request::{USUAL, authority, target};
use super::{Client, Failure};
use crate::clock::{self, timeout_at};

/// What the library reads at once. Small, because it looks at all of the frames that it finds in a turn's
/// worth of reads before others get theirs, and empty ones are many.
const BUFFER: usize = 4 * 1024;
/// The longest payload of a ping, pong or close.
const CONTROL_MAX: usize = 125;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// So many control frames in a row, and the next have to wait for a moment: a flood of them costs the other side
/// more than it does us.
const CONTROLS_A_TURN: u32 = 32;
/// That moment.
const MOMENT: Duration = Duration::from_millis(1);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// An open websocket. Pings are answered while somebody receives. Dropping it closes the
/// connection without a goodbye.
pub struct Socket {
    state: State,
    traffic: Arc<Traffic>,
    max_bytes: usize,
}

enum State {
    Open(Box<WebSocketStream<Stream>>),
    /// The server said goodbye.
    Ended,
    /// It was closed here, or broke.
    Gone,
}

/// Opens a websocket to `url` (`ws` or `wss`) at one of `addresses`; messages, both ways, are of
/// `max_bytes` at most. Any answer but a switch of protocols is a failure: no redirect is followed.
pub async fn connect(
    client: &Client,
    url: &Url,
    addresses: &[SocketAddr],
    max_bytes: u64,
    deadline: Instant,
) -> Result<Socket, Failure> {
    let request = request(url)?;
    if clock::now() >= deadline {
        return Err(Failure::Expired { sent: false });
    }
    let dialled = timeout_at(deadline, dial(client, url, url.scheme() == "wss", addresses)).await;
    let (stream, _) = dialled.map_err(|_| Failure::Expired { sent: false })??;
    let traffic = stream.traffic();
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_bytes))
        .max_frame_size(Some(max_bytes.max(CONTROL_MAX)));
    let handshake = timeout_at(deadline, client_async_with_config(request, stream, Some(config))).await;
    let sent = traffic.sent();
    let (socket, response) = handshake.map_err(|_| Failure::Expired { sent })?.map_err(|error| {
        let text = match error {
            Error::Http(response) => format!("the server answered with status {}", response.status().as_u16()),
            Error::Io(_) | Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
                "the connection ended before the websocket was open".into()
            }
            _ => "the server's answer does not open a websocket".into(),
        };
        Failure::Failed { text, sent }
    })?;
    if response.headers().contains_key("sec-websocket-extensions") {
        return Err(Failure::after("the server uses a websocket extension that nobody asked for"));
    }
    Ok(Socket { state: State::Open(Box::new(socket)), traffic, max_bytes })
}

fn request(url: &Url) -> Result<Request, Failure> {
    let host = authority(url, ["ws", "wss"])?;
    let mut parts = target(url)?.into_parts();
    let wrong = || Failure::Invalid("the URL cannot be sent".into());
    parts.scheme = Some(url.scheme().parse().map_err(|_| wrong())?);
    parts.authority = Some(host.parse().map_err(|_| wrong())?);
    let usual = Request::builder().uri(Uri::from_parts(parts).map_err(|_| wrong())?).header("Host", host);
    let usual = USUAL.into_iter().fold(usual, |request, (name, value)| request.header(name, value));
    usual
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .body(())
        .map_err(|_| wrong())
}

impl Socket {
    /// Sends one message. After a failure other than [`Failure::TooLarge`] the socket is gone: a
    /// part of the message may have been sent.
    pub async fn send(&mut self, message: Message, deadline: Instant) -> Result<(), Failure> {
        let length = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        };
        if length > self.max_bytes {
            return Err(Failure::TooLarge(self.max_bytes as u64));
        }
        // Taken out: if this future is dropped in the middle of a frame, the socket is gone.
        let State::Open(mut socket) = std::mem::replace(&mut self.state, State::Gone) else {
            return Err(Failure::Closed);
        };
        self.traffic.reset();
        let frame = match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(bytes) => Frame::binary(bytes),
        };
        match timeout_at(deadline, socket.send(frame)).await {
            Ok(Ok(())) => {
                self.state = State::Open(socket);
                Ok(())
            }
            Ok(Err(_)) => Err(Failure::Closed),
            Err(_) => Err(Failure::Expired { sent: self.traffic.sent() }),
        }
    }

    /// The next message; `None` once the server has said goodbye. After [`Failure::Expired`], and
    /// after the future was dropped, it may be asked again and nothing is lost.
    pub async fn receive(&mut self, deadline: Instant) -> Result<Option<Message>, Failure> {
        let mut controls = 0_u32;
        loop {
            let socket = match &mut self.state {
                State::Open(socket) => socket,
                State::Ended => return Ok(None),
                State::Gone => return Err(Failure::Closed),
            };
            if clock::now() >= deadline {
                return Err(Failure::Expired { sent: false });
            }
            let next = timeout_at(deadline, socket.next()).await;
            match next.map_err(|_| Failure::Expired { sent: false })? {
                Some(Ok(Frame::Text(text))) => return Ok(Some(Message::Text(text.as_str().to_owned()))),
                Some(Ok(Frame::Binary(bytes))) => return Ok(Some(Message::Binary(bytes.into()))),
                Some(Ok(Frame::Close(_))) => {
                    // The reply is a courtesy.
                    let _ = timeout(GOODBYE, socket.flush()).await;
                    self.state = State::Ended;
                }
                Some(Ok(_)) => {
                    controls = controls.wrapping_add(1);
                    if controls.is_multiple_of(CONTROLS_A_TURN) {
                        tokio::time::sleep(MOMENT).await;
                    }
                }
                Some(Err(error)) => {
                    self.state = State::Gone;
                    return Err(self.broken(&error));
                }
                None => self.state = State::Gone,
            }
        }
    }

    /// Says goodbye, waits a moment for the server's, and closes the connection. A connection that is
    /// closed while something unread lies in it would take what was sent last with it.
    pub async fn close(&mut self) {
        if let State::Open(mut socket) = std::mem::replace(&mut self.state, State::Gone) {
            let goodbye = async {
                if socket.close(None).await.is_ok() {
                    while let Some(Ok(_)) = socket.next().await {}
                }
            };
            let _ = timeout(GOODBYE, goodbye).await;
        }
    }

    fn broken(&self, error: &Error) -> Failure {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Failure::TooLarge(self.max_bytes as u64),
            Error::Io(_)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Failure::Closed,
            Error::Utf8(_) => Failure::after("the server sent text that is not UTF-8"),
            _ => Failure::after("the server broke the websocket protocol"),
        }
    }
}
