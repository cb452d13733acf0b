//! Makes a report of what an API and a directory say, and publishes it: see `examples/report`.
//!
//! Nobody has to trust it. What it may reach is in the policy beside that example, and when it
//! publishes, a person is asked first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parole_guest::fetch::{self, Request, Response};
use parole_guest::{Error, print, read_file};

#[allow(missing_docs, reason = "generated")]
mod exports {
    wit_bindgen::generate!({
        inline: "
            package example:report;

            world report {
                /// Tries what its policy does not grant, and prints what came of it.
                export misbehave: func();
            }
        ",
    });
}

/// Where the API is. It says nothing about whether the guest may go there.
const API: &str = "/data/api.txt";
/// Numbers of stores and their names.
const STORES: &str = "/data/stores.csv";

fn run() -> Result<(), Error> {
    let api = text(API)?;
    let api = api.trim();

    let stores = text(STORES)?;
    let names: BTreeMap<&str, &str> = stores.lines().filter_map(|line| line.split_once(',')).collect();

    let sales = fetch::get(format!("{api}/sales.csv"))?.success()?;
    let report = report(&names, sales.text()?)?;
    print(&report);

    // The policy has a person asked about this one. It may return in a second or in a week, and in
    // another process than it began in.
    match publish(api, &report) {
        Ok(answer) => {
            let place = answer.header("location").unwrap_or("somewhere");
            print(&format!("published: {place}"));
            Ok(())
        }
        Err(Error::Denied(why)) => {
            print(&format!("not published: {why}"));
            Ok(())
        }
        Err(Error::Expired) => {
            print("not published: nobody decided in time");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn publish(api: &str, report: &str) -> Result<Response, Error> {
    Request::post(format!("{api}/reports")).header("content-type", "text/markdown").body(report).send()?.success()
}

/// Sums up lines of `store,product,amount`.
fn report(names: &BTreeMap<&str, &str>, sales: &str) -> Result<String, Error> {
    let mut sums = BTreeMap::<&str, u64>::new();
    for line in sales.lines() {
        let amount = line.rsplit_once(',').and_then(|(_, amount)| amount.trim().parse::<u64>().ok());
        let (Some((store, _)), Some(amount)) = (line.split_once(','), amount) else {
            return Err(Error::Failed(format!("not a sale: {line}")));
        };
        *sums.entry(names.get(store).copied().unwrap_or("unknown")).or_default() += amount;
    }
    let mut report = "# Sales by store\n".to_owned();
    for (name, sum) in &sums {
        // Writing to a String does not fail.
        let _ = write!(report, "\n- {name}: {sum}");
    }
    let _ = write!(report, "\n\nTotal: {}", sums.values().sum::<u64>());
    Ok(report)
}

fn text(path: &str) -> Result<String, Error> {
    String::from_utf8(read_file(path)?).map_err(|_| Error::Failed(format!("{path} is not UTF-8")))
}

struct Report;

impl exports::Guest for Report {
    fn misbehave() {
        let api = text(API).unwrap_or_default();
        let api = api.trim();
        for path in ["/etc/passwd", "/data/../secret.txt"] {
            tried(&format!("read {path}"), read_file(path).map(drop));
        }
        let elsewhere = ["http://169.254.169.254/latest/meta-data/", "http://localhost/", "https://example.com/"];
        for url in elsewhere {
            tried(&format!("GET {url}"), fetch::get(url).map(drop));
        }
        tried("DELETE /reports", Request::delete(format!("{api}/reports")).send().map(drop));
    }
}

fn tried(what: &str, went: Result<(), Error>) {
    match went {
        Ok(()) => print(&format!("{what}: done")),
        Err(error) => print(&format!("{what}: {error}")),
    }
}

exports::export!(Report with_types_in exports);
parole_guest::export!(run);
