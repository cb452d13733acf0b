//! The figures of Parole, each beside a baseline that is measured in the same run.
//!
//! `cargo run --release -p parole-bench -- [NAME…]` or `cargo bench -p parole-bench`; without
//! names all of them, in a few minutes. The machine should have nothing else to do: the
//! ratios stand a busy one, the absolute figures do not.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that measures")]

mod bare;
mod counted;
mod guests;
mod host;
mod rows {
    pub mod calls;
    pub mod cold;
    pub mod many;
    pub mod others;
    pub mod outside;
    pub mod own;
    pub mod waits;
}
mod table;

use table::Row;

type Measure = fn() -> Vec<Row>;

/// Names, and what measures them.
const ALL: [(&str, Measure); 17] = [
    ("cold", rows::cold::cold),
    ("send", rows::calls::send),
    ("decide", rows::calls::decide),
    ("read", rows::calls::read),
    ("cycle", rows::waits::cycle),
    ("cycles", rows::waits::cycles),
    ("never", rows::many::never),
    ("memory", rows::many::memory),
    ("many", rows::many::many),
    ("replay", rows::calls::replay),
    ("other", rows::others::other),
    ("killed", rows::others::killed),
    ("fetch", rows::outside::fetch),
    ("query", rows::outside::query),
    ("ask", rows::outside::ask),
    ("closure", rows::own::closure),
    ("work", rows::own::work),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["child", name, rest @ ..] = arguments.as_slice() {
        return match *name {
            "cycles" => rows::waits::cycles_child(rest),
            "memory" => rows::many::memory_child(rest),
            "many" => rows::many::many_child(rest),
            "settle" => rows::others::settle_child(rest),
            "killed" => rows::others::killed_child(rest),
            "fetch" => rows::outside::fetch_child(rest),
            "work" => rows::own::work_child(rest),
            "serve" => rows::outside::serve_child(),
            _ => panic!("no child {name}"),
        };
    }
    if let Some(unknown) = arguments.iter().find(|name| ALL.iter().all(|(known, _)| known != *name)) {
        println!("no figure `{unknown}`; there are: {}", ALL.map(|(name, _)| name).join(" "));
        std::process::exit(2);
    }
    table::head();
    for (name, measure) in ALL {
        if arguments.is_empty() || arguments.contains(&name) {
            for row in measure() {
                row.print();
            }
        }
    }
}
