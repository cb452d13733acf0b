//! Reads one small file 1,000 times: what a host call costs, checks and journal included.

use parole_guest::{Error, print, read_file};

const PATH: &str = "/data/small.bin";
const TIMES: u32 = 1_000;

fn run() -> Result<(), Error> {
    let mut total = 0_u64;
    for _ in 0..TIMES {
        total += read_file(PATH)?.len() as u64;
    }
    print(&format!("read {total} bytes in {TIMES} reads"));
    Ok(())
}

parole_guest::export!(run);
