//! Where a database is, from its URL.

use parole_policy::{DatabaseOptions, Security, database_options};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::backends::sql::engine::Failure;

const PORT: u16 = 5432;

/// No part of this is ever in the text of a failure.
pub(super) struct Target {
    /// A name or an address; with a `/` the directory of a socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) options: DatabaseOptions,
}

impl Target {
    /// `postgres://USER[:PASSWORD]@HOST[:PORT][/DATABASE][?OPTIONS]`; the host may be the directory of a socket,
    /// percent-encoded.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::failed(format!("the URL of the database {what}"));
        let url = Url::parse(text).map_err(|_| wrong("cannot be read"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("is not a `postgres:` one"));
        }
        let plain = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            let decoded = decoded.ok().filter(|decoded| !decoded.contains('\0'));
            decoded.map(String::from).ok_or_else(|| wrong("cannot be read"))
        };
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => plain(name)?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(wrong("names no host")),
        };
        let user = plain(url.username())?;
        if user.is_empty() {
            return Err(wrong("names no user"));
        }
        let options = database_options(&url).map_err(|(message, help)| {
            let help = help.map(|help| format!(" ({help})")).unwrap_or_default();
            wrong(&format!("is not taken: {message}{help}"))
        })?;
        let database = match plain(url.path().trim_start_matches('/'))? {
            name if name.is_empty() => user.clone(),
            name => name,
        };
        let password = url.password().map(plain).transpose()?;
        Ok(Self { host, port: url.port().unwrap_or(PORT), user, password, database, options })
    }

    /// Whether TLS is spoken with the address that was found.
    pub(super) fn secure(&self, loopback: bool) -> bool {
        match self.options.security {
            Security::ByPlace => !loopback,
            Security::Always => true,
            Security::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url() {
        let target = Target::parse("postgres://a%40b:c%3Ad@example.com:6000/e%2Ff?sslmode=require").unwrap();
        assert_eq!((&*target.user, target.password.as_deref()), ("a@b", Some("c:d")));
        assert_eq!((&*target.host, target.port, &*target.database), ("example.com", 6000, "e/f"));
        assert_eq!((target.secure(true), target.secure(false)), (true, true));
        let target = Target::parse("postgresql://a@127.0.0.1").unwrap();
        assert_eq!((&*target.host, target.port, &*target.database), ("127.0.0.1", 5432, "a"));
        assert_eq!((target.secure(true), target.secure(false)), (false, true));
        assert_eq!(target.password, None);
        let target = Target::parse("postgresql://a@b?sslmode=disable").unwrap();
        assert_eq!((target.secure(true), target.secure(false)), (false, false));
        let target = Target::parse("postgresql://a@b?sslmode=prefer&application_name=shop&connect_timeout=5").unwrap();
        assert_eq!((target.secure(true), target.secure(false)), (false, true));
        assert_eq!(
            (target.options.application_name.as_deref(), target.options.connect_timeout),
            (Some("shop"), Some(5))
        );
        assert_eq!(Target::parse("postgres://a@[::1]/b").unwrap().host, "::1");
        assert_eq!(Target::parse("postgres://a@%2Fvar%2Frun/b").unwrap().host, "/var/run");
        for wrong in [
            "",
            "a",
            "http://a@b/c",
            "postgres://b/c",
            "postgres:///c",
            "postgres://a@/c",
            "postgres://a@b/c?sslmode=never",
            "postgres://a@b/c?sslmode=disable&channel_binding=require",
            "postgres://a@b/c?options=-csearch_path%3Da",
            "postgres://a@b/c?host=d",
            "postgres://a%00@b/c",
            "postgres://a%ff@b/c",
        ] {
            let Err(Failure::Failed { text, unknown: false }) = Target::parse(wrong) else { panic!("{wrong}") };
            assert!(text.starts_with("the URL of the database "), "{text}");
        }
    }
}
