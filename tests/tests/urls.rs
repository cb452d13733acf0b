//! The URL corpus (cases N02 to N06, N14, N15, P06, C08): every row of `tests/urls/*.tsv`, tried by a guest of the real
//! program in a network of its own, where every address of the internet and every name is ours.
//!
//! A row says what comes of a URL: an error, or the address that is dialled, the host that is named and the path that
//! is asked for. What else is dialled, by whichever row, is an escape.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use parole_tests::ensure;
use parole_tests::fixture::{Failure, because};
use parole_tests::netns_world::{Internet, Redirects, file};

/// The policies, each with its rows.
const POLICIES: [&str; 6] = ["public", "names", "redirects", "private", "sockets", "nothing"];
/// The name in every URL that nothing may ever look up.
const EVIL: &str = "evil";

#[derive(Debug)]
struct Row {
    policy: &'static str,
    line: usize,
    /// An error, a status, or `ADDRESS HOST PATH`.
    wanted: String,
    url: String,
    redirect: Option<(u16, String)>,
}

impl Row {
    /// What is dialled, for whom, and which path is asked for.
    fn arrives(&self) -> Option<(SocketAddr, &str, &str)> {
        let mut words = self.wanted.splitn(3, ' ');
        let address = words.next()?.parse().ok()?;
        Some((address, words.next()?, words.next()?))
    }

    fn is_right(&self, line: &str) -> bool {
        let status = self.wanted.len() == 3 && self.wanted.bytes().all(|byte| byte.is_ascii_digit());
        match self.arrives() {
            Some(_) if self.policy == "sockets" => line == self.wanted,
            Some(_) => line.strip_prefix("200 ") == Some(&self.wanted),
            None if status => line.split(' ').next() == Some(&self.wanted),
            None => line == self.wanted,
        }
    }
}

fn rows() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for policy in POLICIES {
        let text = file(&format!("{policy}.tsv"))?;
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.starts_with('#')) {
            let columns: Vec<&str> = text.split('\t').collect();
            let read = |text: &str| serde_json::from_str::<String>(text).map_err(because(format!("{policy}:{line}")));
            let (wanted, url, redirect) = match columns[..] {
                [wanted, url] => (wanted, read(url)?, None),
                [wanted, url, status, location] => {
                    let status = status.parse().map_err(because(format!("{policy}:{line}")))?;
                    let url = format!("{}/{}", read(url)?, rows.len());
                    (wanted, url, Some((status, read(location)?)))
                }
                _ => return Err(format!("{policy}:{line}: two or four columns").into()),
            };
            rows.push(Row { policy, line, wanted: wanted.to_owned(), url, redirect });
        }
    }
    Ok(rows)
}

#[test]
fn url_corpus() -> Result<(), Failure> {
    let rows = rows()?;
    ensure!(rows.len() >= 600, "there are only {} rows", rows.len());
    let numbered = rows.iter().enumerate();
    let redirects: Redirects = numbered.filter_map(|(number, row)| Some((number, row.redirect.clone()?))).collect();
    let Some(internet) = Internet::enter("url_corpus", redirects, "")? else {
        return Ok(());
    };
    let mut wrong = Vec::new();
    for policy in POLICIES {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.policy == policy).collect();
        wrong.extend(try_policy(&internet, policy, &rows)?);
    }
    internet.world.state_is_clean()?;
    ensure!(wrong.is_empty(), "{} wrong of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    Ok(())
}

/// A network may add names of its own to those that are asked for (`search`, `ndots`: as in every pod of Kubernetes).
/// The host that is dialled is the one that was decided on none the less.
#[test]
fn url_search_domains() -> Result<(), Failure> {
    let resolver = "search evil.test\noptions ndots:5\n";
    let Some(internet) = Internet::enter("url_search_domains", Redirects::new(), resolver)? else {
        return Ok(());
    };
    internet.world.write_policy(&file("names.toml")?)?;
    let urls = ["http://gone.test/a", "http://none.bad.test/a", "http://gone.good.test/a", "http://mixed.good.test/a"];
    let (lines, _) = internet.try_all(&urls, false)?;
    let dialled = internet.dialled();
    ensure!(
        lines == ["failed", "failed", "failed", "200 93.184.216.34:80 mixed.good.test /a"],
        "ESCAPE: a host of another name is dialled: {lines:?}, at {dialled:?}; the names that were asked for are {:?}",
        internet.names.names()
    );
    Ok(())
}

/// Tries the rows of one policy, and says what went wrong.
fn try_policy(internet: &Internet, policy: &str, rows: &[&Row]) -> Result<Vec<String>, Failure> {
    internet.world.write_policy(&file(&format!("{policy}.toml"))?)?;
    internet.forget();
    let urls: Vec<&str> = rows.iter().map(|row| row.url.as_str()).collect();
    let (lines, mut wrong) = internet.try_all(&urls, policy == "sockets")?;
    let misses = rows.iter().zip(&lines).filter(|(row, line)| !row.is_right(line)).map(|(row, line)| {
        format!("{policy}.tsv:{}: {:?} {:?}: {line:?}, not {:?}", row.line, row.url, row.redirect, row.wanted)
    });
    wrong.extend(misses);

    // The requests that arrived are those that the rows say, each as often; redirects lead there.
    let mut arrived: BTreeMap<String, isize> = BTreeMap::new();
    let passing = |target: &str| target.starts_with("/r/") || target.starts_with("/hops/") || target == "/loop";
    for hit in internet.requests().iter().filter(|hit| !passing(&hit.target)) {
        *arrived.entry(format!("{} {} {}", hit.local, hit.header("host"), hit.target)).or_default() += 1;
    }
    for row in rows.iter().filter(|row| row.arrives().is_some_and(|(.., path)| !passing(path))) {
        *arrived.entry(row.wanted.clone()).or_default() -= 1;
    }
    arrived.remove("93.184.216.34:80 public.test /redirect/302?ws://evil.test/a");
    wrong.extend(
        arrived.iter().filter(|(_, times)| **times != 0).map(|(what, times)| {
            format!("{policy}: ESCAPE: {what} arrived {times} times more often than the rows say")
        }),
    );

    // What is dialled is what some row says, or what the first step of a row is.
    let mut allowed: BTreeSet<SocketAddr> = rows.iter().filter_map(|row| Some(row.arrives()?.0)).collect();
    if policy != "nothing" {
        allowed.extend([80, 443].map(|port| SocketAddr::from(([93, 184, 216, 34], port))));
    }
    let escapes: Vec<SocketAddr> =
        internet.dialled().into_iter().filter(|address| !allowed.contains(address)).collect();
    if !escapes.is_empty() {
        wrong.push(format!("{policy}: ESCAPE: dialled {escapes:?}"));
    }
    let asked = internet.names.names().into_iter().filter(|name| name.contains(EVIL)).collect::<Vec<_>>();
    if !asked.is_empty() {
        wrong.push(format!("{policy}: ESCAPE: asked for the names {asked:?}"));
    }
    Ok(wrong)
}
