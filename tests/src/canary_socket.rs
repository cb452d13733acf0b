//! The other end of a guest's websocket.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use crate::canary::{Hit, put};

/// Whether a request wants to be a websocket.
pub fn is_asked(hit: &Hit) -> bool {
    hit.header("upgrade").eq_ignore_ascii_case("websocket") && !hit.target.starts_with("/http/")
}

/// Says what was dialled, then gives back whatever comes. Other paths: `/bytes/N` begins with so many,
/// `/text/N` too, `/endless` never stops, `/bye` says goodbye at once, `/drop` ends without one, `/silent` says nothing,
/// `/ping` pings without end, `/redirect/…` and `/status/…` answer in HTTP.
pub(crate) fn serve(mut stream: TcpStream, hit: &Hit) -> std::io::Result<()> {
    let (path, query) = hit.target.split_once('?').unwrap_or((&hit.target, ""));
    let mut parts = path.trim_start_matches('/').split('/');
    let (page, detail) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let length = detail.parse::<usize>().unwrap_or(0);
    if matches!(page, "redirect" | "status") {
        let head = format!("HTTP/1.1 {detail} Status\r\nLocation: {query}\r\nContent-Length: 0\r\n\r\n");
        return put(&mut stream, head.as_bytes());
    }
    let key = derive_accept_key(hit.header("sec-websocket-key").as_bytes());
    let key = if page == "wrong-key" { "d3Jvbmc=".to_owned() } else { key };
    let more = if page == "extension" { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\n{more}\r\n"
    );
    put(&mut stream, head.as_bytes())?;
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    // Whoever goes away does so: that is no fault of the server.
    drop(talk(&mut socket, hit, page, length));
    Ok(())
}

fn talk(socket: &mut WebSocket<TcpStream>, hit: &Hit, page: &str, length: usize) -> Result<(), Error> {
    match page {
        "bytes" => socket.send(Message::binary(vec![b'b'; length]))?,
        "text" => socket.send(Message::text("t".repeat(length)))?,
        "frames" => {
            for _ in 0..length {
                socket.send(Message::text("frame"))?;
            }
        }
        "endless" => loop {
            socket.send(Message::text("again ".repeat(2_000)))?;
        },
        "ping" => loop {
            socket.send(Message::Ping(b"p".as_slice().into()))?;
        },
        "bye" => socket.close(None)?,
        "drop" => return Ok(()),
        "silent" | "echo" | "slow-echo" => {}
        "late" => {
            thread::sleep(Duration::from_millis(u64::try_from(length).unwrap_or(0)));
            socket.send(Message::text("late"))?;
        }
        _ => socket.send(Message::text(format!("{} {} {}", hit.local, hit.header("host"), hit.target)))?,
    }
    loop {
        let message = socket.read()?;
        if page == "slow-echo" {
            thread::sleep(Duration::from_millis(u64::try_from(length).unwrap_or(0)));
        }
        if page != "silent" && (message.is_text() || message.is_binary()) {
            socket.send(message)?;
        }
    }
}
