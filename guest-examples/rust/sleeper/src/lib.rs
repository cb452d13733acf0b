//! Sleeps between two lines. The timer is the host's, and goes on while the host is not running.

use std::time::Duration;

use parole_guest::{Error, print, sleep};

fn run() -> Result<(), Error> {
    print("before");
    sleep(Duration::from_millis(300))?;
    print("after");
    Ok(())
}

parole_guest::export!(run);
