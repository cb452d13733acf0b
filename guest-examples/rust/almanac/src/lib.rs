//! Asks for the time, for random bytes, and for the next time of a cron pattern. It has exports beside `run`:
//!
//!     parole run almanac.wasm --level restricted --invoke 'wait("* * * * *", "Europe/Berlin")'

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parole_guest::{now, print, random_bytes, schedule, sleep};

#[allow(missing_docs, reason = "generated")]
mod exports {
    // Only what comes on top: imports and `run` are those of parole-guest.
    wit_bindgen::generate!({
        inline: "
            package example:almanac;

            world almanac {
                /// Asks for the time again and again, and says how many times it has seen.
                export times: func(calls: u32) -> result<u32, string>;
                /// Prints so many random bytes, in hexadecimal.
                export bytes: func(length: u32);
                /// Waits for the next time of a cron pattern, and says how long that was, in ms.
                export wait: func(pattern: string, zone: string) -> result<u64, string>;
                /// Prints the time and a token, again after a sleep of so many ms, and so on.
                export again: func(ms: u64, rounds: u32) -> result<_, string>;
            }
        ",
    });
}

struct Almanac;

impl exports::Guest for Almanac {
    fn times(calls: u32) -> Result<u32, String> {
        let (mut seen, mut last) = (0, UNIX_EPOCH);
        for _ in 0..calls {
            let now = now();
            if now < last {
                return Err("the clock went back".to_owned());
            }
            seen += u32::from(now > last);
            last = now;
        }
        Ok(seen)
    }

    fn bytes(length: u32) {
        print(&hex(&random_bytes(length)));
    }

    fn wait(pattern: String, zone: String) -> Result<u64, String> {
        let before = now();
        let due = schedule(&pattern, &zone).map_err(|error| error.to_string())?;
        if now() < due {
            return Err("it came too early".to_owned());
        }
        Ok(milliseconds(due) - milliseconds(before))
    }

    fn again(ms: u64, rounds: u32) -> Result<(), String> {
        for _ in 0..rounds {
            print(&format!("{} {}", milliseconds(now()), hex(&random_bytes(8))));
            sleep(Duration::from_millis(ms)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

exports::export!(Almanac with_types_in exports);

fn run() -> Result<(), String> {
    print(&format!("It is {} ms after 1970.", milliseconds(now())));
    print(&format!("Nobody can guess {}.", hex(&random_bytes(16))));
    Ok(())
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

parole_guest::export!(run);
