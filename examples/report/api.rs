//! The API of the example: gives sales, takes reports, and says at stderr what it was asked. Nothing
//! but the standard library, so that whoever could build Parole can run it:
//!
//!     rustc -O examples/report/api.rs -o target/report-api && target/report-api 8391

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

const SALES: &str = "1,rope,120\n2,tea,75\n1,paint,40\n3,tea,210\n2,cake,35\n";
/// The longest body that is taken.
const BODY_MAX: usize = 1 << 20;

/// How many reports there are. They are counted and not kept.
static REPORTS: AtomicU32 = AtomicU32::new(0);

fn main() -> Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8391);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    eprintln!("api: listening on http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        // One that breaks off is no concern of the others.
        std::thread::spawn(move || serve(&stream));
    }
    Ok(())
}

/// Answers one request after the other until the client has no more.
fn serve(mut stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(8192).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let body = body(&mut reader)?;
        let (status, location, answer) = match (method, path) {
            ("GET", "/sales.csv") => ("200 OK", String::new(), SALES),
            ("POST", "/reports") => {
                let number = REPORTS.fetch_add(1, Ordering::SeqCst) + 1;
                ("201 Created", format!("location: /reports/{number}\r\n"), "")
            }
            _ => ("404 Not Found", String::new(), "there is no such thing\n"),
        };
        eprintln!("api: {method} {path}, {} bytes: {status}", body.len());
        let length = answer.len();
        write!(stream, "HTTP/1.1 {status}\r\n{location}content-length: {length}\r\n\r\n{answer}")?;
    }
}

/// Reads the headers and what follows them.
fn body(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(8192).read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(Error::other)?;
        }
    }
    if length > BODY_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}
