//! Two waits, each followed by an effect: what a host must get right when it is killed between.

use parole_guest::{Error, input, print, write_file};

fn run() -> Result<(), Error> {
    let first = input("first?")?;
    write_file("/out/first.txt", first.as_bytes())?;

    // Killed here, the host answers the two calls above from its journal, and asks only this one.
    let second = input("second?")?;
    write_file("/out/second.txt", second.as_bytes())?;

    print(&first);
    print(&second);
    Ok(())
}

parole_guest::export!(run);
