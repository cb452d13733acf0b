//! Copies a file in upper case. Paths are the guest's own: the policy says what is behind them.

use parole_guest::{print, read_file, write_file};

const FROM: &str = "/data/in.txt";
const TO: &str = "/out/out.txt";

// A `String` as error: what it says is what the execution ends with.
fn run() -> Result<(), String> {
    let bytes = read_file(FROM).map_err(|error| format!("cannot read {FROM}: {error}"))?;
    print(&format!("read {} bytes from {FROM}", bytes.len()));

    let text = String::from_utf8(bytes).map_err(|_| format!("{FROM} is not UTF-8"))?;
    let upper = text.to_uppercase();

    write_file(TO, upper.as_bytes()).map_err(|error| format!("cannot write {TO}: {error}"))?;
    print(&format!("wrote {} bytes to {TO}", upper.len()));
    Ok(())
}

parole_guest::export!(run);
