//! Sends HTTP requests and prints what came of each. It has three exports beside `run`:
//!
//!     parole run web.wasm --allow-net http://127.0.0.1:8391 --invoke 'get("http://127.0.0.1:8391/")'

use parole_guest::fetch::{self, Request, Response};
use parole_guest::{Error, input, print};

#[allow(missing_docs, reason = "generated")]
mod exports {
    // Only what comes on top: imports and `run` are those of parole-guest.
    wit_bindgen::generate!({
        inline: "
            package example:web;

            world web {
                /// Prints the status and the length of the answer.
                export get: func(url: string) -> result<_, string>;
                /// Sends a request with a body and prints what came of it, a refusal too.
                export send: func(method: string, url: string, body: string);
                /// Gets the same thing again and again, and says how many bytes came.
                export many: func(url: string, n: u32) -> result<u64, string>;
            }
        ",
    });
}

struct Web;

impl exports::Guest for Web {
    fn get(url: String) -> Result<(), String> {
        let answer = fetch::get(url).map_err(|error| error.to_string())?;
        print(&shown(&answer));
        Ok(())
    }

    fn send(method: String, url: String, body: String) {
        let went = Request::new(method, url).header("content-type", "text/plain").body(body).send();
        print(&told(went));
    }

    fn many(url: String, n: u32) -> Result<u64, String> {
        let mut bytes = 0;
        for _ in 0..n {
            let answer = fetch::get(url.as_str()).and_then(Response::success);
            bytes += answer.map_err(|error| error.to_string())?.body.len() as u64;
        }
        Ok(bytes)
    }
}

/// Gets URL after URL, as long as somebody names one.
fn run() -> Result<(), Error> {
    loop {
        let url = input("URL?")?;
        if url.is_empty() {
            return Ok(());
        }
        print(&told(fetch::get(url)));
    }
}

fn shown(answer: &Response) -> String {
    format!("{} {} bytes", answer.status, answer.body.len())
}

/// To a guest these are different: it may try another way, ask again, or give up.
fn told(went: Result<Response, Error>) -> String {
    match went {
        Ok(answer) => format!("done: {}", shown(&answer)),
        Err(error) => error.to_string(),
    }
}

exports::export!(Web with_types_in exports);
parole_guest::export!(run);
