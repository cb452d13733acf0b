//! What goes out and what comes back when nobody misbehaves, and what a guest may not say.

use parole_capabilities::backends::net::{
    Failure, REQUEST_BODY_MAX, REQUEST_HEADER_BYTES_MAX, REQUEST_HEADERS_MAX, Redirect, Response, redirect,
    same_origin, strip_credentials,
};
use url::Url;

use crate::peer::{Ask, Server, failed, header, invalid, ok, text, within};

/// N01.
#[tokio::test]
async fn a_get() {
    let server = Server::answers(ok("hello")).await;
    let response = Ask::get(&server, "/a b?q=ü#fragment").with("X-Mine", "1").go().await.unwrap();
    assert_eq!((response.status, text(&response)), (200, "hello"));
    let request = server.seen.only();
    assert!(request.starts_with("GET /a%20b?q=%C3%BC HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "x-mine").as_deref(), Some("1"));
    assert_eq!(header(&request, "accept-encoding").as_deref(), Some("gzip"));
    assert_eq!(header(&request, "accept").as_deref(), Some("*/*"));
    let agent = format!("parole/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(header(&request, "user-agent"), Some(agent));
    assert_eq!(header(&request, "content-length"), None);
    assert_eq!(header(&request, "cookie").or(header(&request, "authorization")), None);
}

/// N08: once, the URL's own, with the port where it is not the scheme's.
#[tokio::test]
async fn host_goes_out_once() {
    let server = Server::answers(ok("")).await;
    let host = server.address.to_string();
    let count = |request: &str| request.lines().filter(|line| line.to_lowercase().starts_with("host:")).count();

    Ask::get(&server, "/").with("Host", &host).with("HOST", &host).go().await.unwrap();
    let mut named = Ask::get(&server, "/");
    named.url = format!("http://Listed.Example:{}/", server.address.port()).parse().unwrap();
    named.go().await.unwrap();
    // The addresses are what was decided; the URL's port is only what the server reads.
    named.url = "http://listed.example:80/".parse().unwrap();
    named.go().await.unwrap();
    let requests = server.seen.requests();
    assert_eq!(header(&requests[0], "host"), Some(host.clone()));
    assert_eq!(header(&requests[1], "host"), Some(format!("listed.example:{}", server.address.port())));
    assert_eq!(header(&requests[2], "host").as_deref(), Some("listed.example"));
    assert!(requests.iter().all(|request| count(request) == 1), "{requests:?}");

    invalid(Ask::get(&server, "/").with("Host", "other.example").go().await, "`host`");
    invalid(Ask::get(&server, "/").with("Host", &host).with("hOst", "127.0.0.1").go().await, "`host`");
    assert_eq!(server.seen.requests().len(), 3);
}

#[tokio::test]
async fn headers_of_the_host() {
    let server = Server::answers(ok("")).await;
    for name in [
        "Connection",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "proxy-anything",
        "Expect",
        "HTTP2-Settings",
    ] {
        invalid(Ask::get(&server, "/").with(name, "x").go().await, &format!("`{}`", name.to_lowercase()));
    }
    assert_eq!(server.seen.connections(), 0);
    Ask::get(&server, "/").with("Te-st", "x").with("Authorization", "a").with("Cookie", "c").go().await.unwrap();
    let request = server.seen.only();
    assert_eq!(header(&request, "authorization").as_deref(), Some("a"));
    assert_eq!(header(&request, "cookie").as_deref(), Some("c"));
}

/// A guest's own `User-Agent` and `Accept` go out as it gave them, and alone.
#[tokio::test]
async fn a_guest_that_says_who_it_is() {
    let server = Server::answers(ok("")).await;
    let own = [("User-Agent", "mine/1"), ("ACCEPT", "text/html"), ("user-agent", ""), ("accept", "a"), ("accept", "b")];
    for (name, value) in own {
        Ask::get(&server, "/").with(name, value).go().await.unwrap();
    }
    Ask::get(&server, "/").with("accept", "a").with("accept", "b").go().await.unwrap();
    let requests = server.seen.requests();
    let all = |request: &str, name: &str| {
        let lines = request.lines().filter_map(|line| line.split_once(':'));
        let of = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned());
        of.collect::<Vec<_>>()
    };
    for ((name, value), request) in own.iter().zip(&requests) {
        assert_eq!(all(request, name), [*value], "{request}");
    }
    assert_eq!(all(&requests[5], "accept"), ["a", "b"]);
    assert_eq!(all(&requests[5], "user-agent").len(), 1);
}

/// N12.
#[tokio::test]
async fn content_length_is_the_true_one() {
    let server = Server::answers(ok("")).await;
    let post = || Ask::post(&server, "/", "four");
    invalid(post().with("Content-Length", "4").with("Content-Length", "5").go().await, "`content-length`");
    invalid(post().with("content-length", "+4").go().await, "`content-length`");
    invalid(post().with("content-length", "4, 4").go().await, "`content-length`");
    assert_eq!(server.seen.connections(), 0);
    post().with("Content-Length", "4").with("content-length", "4").go().await.unwrap();
    let request = server.seen.only();
    assert_eq!(request.matches("content-length").count(), 1, "{request}");
    assert!(request.ends_with("\r\n\r\nfour"), "{request}");
}

#[tokio::test]
async fn a_post_without_a_body_says_so() {
    let server = Server::answers(ok("")).await;
    let mut post = Ask::post(&server, "/", "");
    post.body = None;
    post.go().await.unwrap();
    assert_eq!(header(&server.seen.only(), "content-length").as_deref(), Some("0"));
}

/// N07.
#[tokio::test]
async fn line_breaks() {
    let server = Server::answers(ok("")).await;
    for bad in ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x1bb"] {
        invalid(Ask::get(&server, "/").with("x-a", bad).go().await, "`x-a` has a control character");
        invalid(Ask::get(&server, "/").with(bad, "v").go().await, "is not a header name");
        invalid(Ask::get(&server, "/").method(bad).go().await, "is not a method");
    }
    for bad in ["", " ", "x y", "x:", "ü", "\u{10a}"] {
        invalid(Ask::get(&server, "/").with(bad, "v").go().await, "is not a header name");
    }
    assert_eq!(server.seen.connections(), 0);
    // The parser of URLs takes line breaks out of a path; a space in it is percent-encoded.
    let mut ask = Ask::get(&server, "/").with("x-a", "tab\t and ü").method("PURGE");
    ask.url = format!("http://{}/a\r\nx-b:%0d%0ac", server.address).parse().unwrap();
    ask.go().await.unwrap();
    let request = server.seen.only();
    assert!(request.starts_with("PURGE /ax-b:%0d%0ac HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "x-a").as_deref(), Some("tab\t and ü"));
}

#[tokio::test]
async fn methods_and_urls_that_cannot_be() {
    let server = Server::answers(ok("")).await;
    invalid(Ask::get(&server, "/").method("CONNECT").go().await, "`CONNECT` is not a method");
    invalid(Ask::get(&server, "/").method("").go().await, "is not a method");
    invalid(Ask::get(&server, "/").method(&"M".repeat(33)).go().await, "is not a method");
    for (url, about) in [
        ("ftp://127.0.0.1/", "scheme"),
        ("ws://127.0.0.1/", "scheme"),
        ("http://user@127.0.0.1/", "user information"),
        ("http://:secret@127.0.0.1/", "user information"),
    ] {
        let mut ask = Ask::get(&server, "/");
        ask.url = url.parse().unwrap();
        invalid(ask.go().await, about);
    }
    let mut long = Ask::get(&server, "/");
    long.url = server.url(&format!("/{}", "x".repeat(70_000)));
    invalid(long.go().await, "path");
    assert_eq!(server.seen.connections(), 0);
    Ask::get(&server, &format!("/{}", "x".repeat(8_000))).go().await.unwrap();
    Ask::get(&server, "/").method("OPTIONS").go().await.unwrap();
}

/// N11: a path that looks like an authority or a URL is a path.
#[tokio::test]
async fn the_target_is_never_absolute() {
    let server = Server::answers(ok("")).await;
    for path in ["//canary.example/x", "/http://canary.example/", "/@canary.example:80", "/..//canary.example"] {
        Ask::get(&server, path).go().await.unwrap();
    }
    let seen = server.seen.requests();
    for (request, path) in
        seen.iter().zip(["//canary.example/x", "/http://canary.example/", "/@canary.example:80", "//canary.example"])
    {
        assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\n", server.address)), "{request}");
    }
}

#[tokio::test]
async fn too_much_of_a_request() {
    let server = Server::answers(ok("")).await;
    let with = |count: usize, value: &str| {
        let mut ask = Ask::get(&server, "/");
        for i in 0..count {
            ask = ask.with(&format!("x-{i}"), value);
        }
        ask
    };
    invalid(with(REQUEST_HEADERS_MAX + 1, "v").go().await, "more than 100 headers");
    invalid(with(1, &"v".repeat(REQUEST_HEADER_BYTES_MAX)).go().await, "headers of more than");
    let body = "b".repeat(REQUEST_BODY_MAX + 1);
    let result = Ask::post(&server, "/", &body).go().await;
    assert_eq!(result, Err(Failure::TooLarge(REQUEST_BODY_MAX as u64)));
    assert_eq!(server.seen.connections(), 0);
    with(REQUEST_HEADERS_MAX, "v").go().await.unwrap();
    with(1, &"v".repeat(REQUEST_HEADER_BYTES_MAX - 3)).go().await.unwrap();
    let body = "b".repeat(1024 * 1024);
    Ask::post(&server, "/", &body).go().await.unwrap();
    assert!(server.seen.requests()[2].ends_with(&body));
}

#[tokio::test]
async fn what_a_guest_sees_of_the_headers() {
    let server = Server::answers(
        b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1\r\nX-Latin: caf\xe9\r\nX-Utf: caf\xc3\xa9\r\nConnection: keep-alive\r\n\
          Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nTrailer: x-late\r\nSet-Cookie: b=2\r\n\r\n\
          3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n",
    )
    .await;
    let response = Ask::get(&server, "/").go().await.unwrap();
    let of = |name: &str| {
        let of = response.headers.iter().filter(|(key, _)| key == name);
        of.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!((response.status, text(&response)), (201, "abc"));
    assert_eq!(of("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((of("x-latin"), of("x-utf")), (vec!["café".into()], vec!["café".into()]));
    assert_eq!(response.headers.len(), 4, "{:?}", response.headers);
}

#[tokio::test]
async fn answers_without_a_body() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let server =
            Server::answers(format!("HTTP/1.1 {status}\r\ncontent-length: 99999999\r\ncontent-encoding: gzip\r\n\r\n"))
                .await;
        let response = Ask::get(&server, "/").method(method).go().await.unwrap();
        assert_eq!(response.body, b"");
        assert!(response.headers.contains(&("content-length".into(), "99999999".into())));
        assert_eq!(header(&server.seen.only(), "accept-encoding").is_some(), method != "HEAD");
    }
}

fn answer(status: u16, location: &[&str]) -> Response {
    let headers = location.iter().map(|value| ("location".to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: Vec::new() }
}

/// N03: the 3xx itself comes back, and nobody goes there.
#[tokio::test]
async fn redirects_are_only_told() {
    let canary = Server::answers(ok("canary")).await;
    for status in [301, 302, 303, 307, 308] {
        let to = canary.url("/secret");
        let server =
            Server::answers(format!("HTTP/1.1 {status} Go\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")).await;
        let response = Ask::get(&server, "/").go().await.unwrap();
        assert_eq!(response.status, status);
        let found = redirect(&server.url("/"), "GET", &response).unwrap().unwrap();
        assert_eq!(found, Redirect { url: to.to_string(), method: "GET".into() });
    }
    assert_eq!(canary.seen.connections(), 0);
}

#[test]
fn where_a_redirect_leads() {
    let base = Url::parse("https://a.example/x/y?q#f").unwrap();
    let to = |status, method, location: &[&str]| redirect(&base, method, &answer(status, location));
    for (location, url) in [
        ("z", "https://a.example/x/z"),
        ("//b.example", "https://b.example/"),
        ("http://A.example:80/#top", "http://a.example/"),
        ("?r", "https://a.example/x/y?r"),
    ] {
        assert_eq!(to(302, "GET", &[location]).unwrap().unwrap().url, url);
    }
    for (status, method, next) in [
        (301, "POST", "GET"),
        (302, "PUT", "PUT"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "HEAD", "HEAD"),
    ] {
        assert_eq!(to(status, method, &["/"]).unwrap().unwrap().method, next);
    }
    assert!(to(302, "GET", &["/a", "/a"]).unwrap().is_ok());
    assert!(to(302, "GET", &["/a", "/b"]).unwrap().is_err());
    assert!(to(302, "GET", &["https://["]).unwrap().is_err());
    assert!(to(302, "GET", &[&"x".repeat(9_000)]).unwrap().is_err());
    assert_eq!(to(302, "GET", &[]), None);
    assert_eq!(to(200, "GET", &["/"]), None);
    assert_eq!(to(300, "GET", &["/"]), None);
}

/// N13.
#[test]
fn credentials_stay_with_their_origin() {
    let url = |text: &str| Url::parse(text).unwrap();
    assert!(same_origin(&url("https://a.example/x"), &url("https://A.example:443/y")));
    for other in ["http://a.example/", "https://a.example:444/", "https://b.a.example/", "https://a.example./"] {
        assert!(!same_origin(&url("https://a.example/"), &url(other)), "{other}");
    }
    let given = ["Authorization", "COOKIE", "proxy-authorization", "X-Api-Key", "X-Odd", "Idempotency-Key"];
    let mut headers: Vec<(String, String)> =
        given.iter().chain(&["Accept", "User-Agent"]).map(|name| ((*name).to_owned(), "v".to_owned())).collect();
    strip_credentials(&mut headers);
    let left: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left, ["Accept", "User-Agent"]);
}

#[tokio::test]
async fn nothing_was_sent_when_it_is_said() {
    // A port that nobody listens on.
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let server = Server::once("").await;
    let mut refused = Ask::post(&server, "/", "x");
    refused.addresses = vec![address];
    let failure = refused.go().await.unwrap_err();
    assert!(failure.unsent() && !failure.to_string().contains("127"), "{failure:?}");
    // The next address is tried.
    refused.addresses = vec![address, server.address];
    assert!(failed(refused.go().await).contains("ended before the answer"));
    // None at all.
    refused.addresses = Vec::new();
    assert!(refused.go().await.unwrap_err().unsent());
    let mut late = Ask::post(&server, "/", "x");
    late.limits.deadline = within(0);
    assert_eq!(late.go().await, Err(Failure::Expired { sent: false }));
    assert_eq!(server.seen.requests().len(), 1);
}
