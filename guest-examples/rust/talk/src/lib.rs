//! Says something over a WebSocket, line by line, and prints the answer to each.

use parole_guest::websocket::{Message, Socket};
use parole_guest::{Error, input, print};

fn run() -> Result<(), Error> {
    let url = input("URL?")?;
    let mut socket = Socket::connect(&url)?;
    loop {
        let line = input("Say?")?;
        if line.is_empty() {
            socket.close();
            return Ok(());
        }
        // Killed while it waited for the line, the host has no connection any more.
        if socket.send(line.as_str()) == Err(Error::Closed) {
            print("connected again");
            socket = Socket::connect(&url)?;
            socket.send(line)?;
        }
        match socket.receive()? {
            Some(Message::Text(text)) => print(&text),
            Some(Message::Binary(bytes)) => print(&format!("{} bytes", bytes.len())),
            None => return Err(Error::Closed),
        }
    }
}

parole_guest::export!(run);
