//! HTTP requests to the origins that the policy grants. From level `standard`.
//!
//! ```no_run
//! use parole_guest::fetch;
//!
//! # fn run() -> Result<(), parole_guest::Error> {
//! let prices = fetch::get("https://api.example.com/prices")?.success()?;
//! let answer = fetch::Request::post("https://api.example.com/reports")
//!     .header("content-type", "text/plain")
//!     .body(prices.text()?)
//!     .send()?;
//! assert_eq!(answer.status, 201);
//! # Ok(())
//! # }
//! ```
//!
//! The policy may want a person asked before a request is sent. The guest sees nothing of that but
//! time: the call returns when it was sent, or says why it was not.
//!
//! # Errors
//!
//! Any status is an answer, not an error. Of the errors,
//!
//! - [`Error::Denied`]: the policy, or a person, said no; nothing was sent, unless a redirect was refused;
//! - [`Error::Expired`]: nobody decided in time, or no answer came in time to what may be repeated;
//! - [`Error::Canceled`]: whoever was asked took the question back;
//! - [`Error::Invalid`]: the URL, the method or a header cannot be right;
//! - [`Error::TooLarge`]: the answer is larger than the policy allows;
//! - [`Error::Failed`]: it was tried. The text says so where it may have happened nevertheless.

use std::fmt;

use crate::Error;
use crate::wit::fetch as wit;

/// One header of a request or a response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Its name; upper and lower case are the same.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A request that is being made up: see [`Request::send`].
#[must_use = "a request does nothing until it is sent"]
#[derive(Clone)]
pub struct Request(wit::Request);

impl Request {
    /// A request with any method that the policy grants.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self(wit::Request { method: method.into(), url: url.into(), headers: Vec::new(), body: None })
    }

    /// `GET`: the policy grants it wherever it grants an origin, unless it says otherwise.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// `HEAD`.
    pub fn head(url: impl Into<String>) -> Self {
        Self::new("HEAD", url)
    }

    /// `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// `PUT`.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// `DELETE`.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a header. `Host`, length, transfer and connection headers are the host's own.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.headers.push(wit::Header { name: name.into(), value: value.into() });
        self
    }

    /// What is sent after the headers.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = Some(body.into());
        self
    }

    /// Sends it and waits for the whole answer.
    ///
    /// Redirects of `GET` and `HEAD` are followed where the policy allows each hop; those of other
    /// methods are given as they are.
    ///
    /// # Errors
    ///
    /// See [the module](self#errors).
    pub fn send(&self) -> Result<Response, Error> {
        let wit::Response { status, headers, body } = wit::fetch(&self.0)?;
        let header = |wit::Header { name, value }| Header { name, value };
        Ok(Response { status, headers: headers.into_iter().map(header).collect(), body })
    }
}

/// Without the values of headers and without the body, which may be secret.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.0.method).field("url", &self.0.url).finish_non_exhaustive()
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// The status: 200, 404 and so on.
    pub status: u16,
    /// The headers, in the order in which they came.
    pub headers: Vec<Header>,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first header of this name, in upper or lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
    }

    /// Whether the status is one of 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The response, if it [is a success](Self::is_success).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the status.
    pub fn success(self) -> Result<Self, Error> {
        if self.is_success() { Ok(self) } else { Err(Error::Failed(format!("status {}", self.status))) }
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.body).map_err(|_| Error::Failed("the body is not UTF-8".to_owned()))
    }
}

/// Sends a `GET`: short for [`Request::get`] and [`Request::send`].
///
/// # Errors
///
/// See [the module](self#errors).
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::get(url).send()
}

/// Sends a `POST` with this body: short for [`Request::post`], [`Request::body`] and [`Request::send`].
///
/// # Errors
///
/// See [the module](self#errors).
pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Result<Response, Error> {
    Request::post(url).body(body).send()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16) -> Response {
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
        let headers = vec![header("Location", "/first"), header("location", "/second")];
        Response { status, headers, body: b"text".to_vec() }
    }

    #[test]
    fn a_header_is_found_in_any_case() {
        let response = response(201);
        assert_eq!(response.header("LOCATION"), Some("/first"));
        assert_eq!(response.header("locatio"), None);
        assert_eq!(response.text(), Ok("text"));
    }

    #[test]
    fn only_2xx_is_a_success() {
        for status in [200, 201, 299] {
            assert_eq!(response(status).success(), Ok(response(status)));
        }
        for status in [199, 300, 404, 500] {
            assert_eq!(response(status).success(), Err(Error::Failed(format!("status {status}"))));
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let request = Request::post("https://a.test/").header("authorization", "hunter2").body("hunter3");
        assert_eq!(format!("{request:?}"), r#"Request { method: "POST", url: "https://a.test/", .. }"#);
    }
}
