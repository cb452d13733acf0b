//! What may stand after the `?` of a PostgreSQL URL: the options that hosted services hand out.
//!
//! An option is taken if it is honoured, or if it asks for nothing that is not so anyway. Any other is a fault of the
//! operator, who is told its name. The value is not repeated: it may be a secret.

use url::Url;

use crate::nearest::{help, quoted};

/// Whether TLS is spoken. A certificate is always checked, name and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Wherever the server is not on this machine.
    #[default]
    ByPlace,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The options of a URL that change something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// `sslmode`.
    pub security: Security,
    /// `channel_binding=require`: the password is bound to the server's certificate.
    pub channel_binding: bool,
    /// `application_name`: how the server's lists show the connection.
    pub application_name: Option<String>,
    /// `connect_timeout`: seconds that connecting may take; none: as long as the call.
    pub connect_timeout: Option<u64>,
}

/// The longest `application_name`: the server cuts it there, in bytes.
const NAME_MAX: usize = 63;

/// Every option that is taken, with some value.
const KNOWN: [&str; 16] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// The options of a URL, or what is wrong with one and what to write instead.
pub fn database_options(url: &Url) -> Result<DatabaseOptions, (String, Option<String>)> {
    let mut options = DatabaseOptions::default();
    let mut seen = Vec::new();
    for (key, value) in url.query_pairs() {
        if seen.contains(&key) {
            return Err((format!("the URL has the option {} twice", quoted(&key)), None));
        }
        option(&mut options, &key, &value)?;
        seen.push(key);
    }
    if options.channel_binding && options.security == Security::Never {
        let message = "`channel_binding=require` needs TLS, and `sslmode=disable` is none";
        return Err((message.to_owned(), None));
    }
    Ok(options)
}

fn option(options: &mut DatabaseOptions, key: &str, value: &str) -> Result<(), (String, Option<String>)> {
    let words: &[&str] = match key {
        "sslmode" => {
            options.security = match value {
                "require" | "verify-ca" | "verify-full" => Security::Always,
                "allow" | "prefer" => Security::ByPlace,
                "disable" => Security::Never,
                _ => return Err(unfit(key, &["disable", "prefer", "require", "verify-full"])),
            };
            return Ok(());
        }
        "channel_binding" => {
            options.channel_binding = value == "require";
            &["require", "prefer", "disable"]
        }
        "application_name" => {
            if value.is_empty() || value.len() > NAME_MAX || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                let help = format!("1 to {NAME_MAX} printable ASCII characters");
                return Err((format!("the URL's {} cannot be one", quoted(key)), Some(help)));
            }
            options.application_name = Some(value.to_owned());
            return Ok(());
        }
        "connect_timeout" => {
            let seconds = value.trim().parse::<i64>();
            let seconds = seconds.map_err(|_| (format!("the URL's {} is no number of seconds", quoted(key)), None))?;
            // As libpq has it: zero and less is no limit, and one second is too few.
            options.connect_timeout = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(|s| s.max(2));
            return Ok(());
        }
        // Each call has a connection of its own, which does not outlive it.
        "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "tcp_user_timeout"
        | "fallback_application_name" => return Ok(()),
        "client_encoding" => &["UTF8", "utf8", "UTF-8", "utf-8", "auto"],
        "gssencmode" => &["disable", "prefer"],
        "load_balance_hosts" => &["disable"],
        "sslnegotiation" => &["postgres"],
        "sslrootcert" => {
            if value == "system" {
                return Ok(());
            }
            let help = "name the file of the authority in the policy: ca = [\"FILE\"] beside the database";
            return Err((format!("the URL's {} is not taken", quoted(key)), Some(help.to_owned())));
        }
        "target_session_attrs" => &["any"],
        _ => {
            let message = format!("the URL has an unknown parameter {}", quoted(key));
            return Err((message, Some(help(key, &KNOWN))));
        }
    };
    if words.contains(&value) { Ok(()) } else { Err(unfit(key, words)) }
}

fn unfit(key: &str, words: &[&str]) -> (String, Option<String>) {
    (format!("the URL's {} has a value that is not taken", quoted(key)), Some(format!("valid: {}", words.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> Result<DatabaseOptions, (String, Option<String>)> {
        database_options(&Url::parse(&format!("postgres://u:secret@host/db?{query}")).unwrap())
    }

    #[test]
    fn what_hosted_services_hand_out() {
        for (query, security, bound) in [
            ("", Security::ByPlace, false),
            ("sslmode=disable", Security::Never, false),
            ("sslmode=prefer", Security::ByPlace, false),
            ("sslmode=require", Security::Always, false),
            ("sslmode=verify-ca", Security::Always, false),
            ("sslmode=verify-full&sslrootcert=system", Security::Always, false),
            ("sslmode=require&channel_binding=require", Security::Always, true),
            ("sslmode=require&channel_binding=prefer", Security::Always, false),
            ("channel_binding=require", Security::ByPlace, true),
            ("sslmode=require&keepalives=1&keepalives_idle=30&tcp_user_timeout=5", Security::Always, false),
            ("target_session_attrs=any&client_encoding=utf8&gssencmode=disable", Security::ByPlace, false),
        ] {
            let options = options(query).unwrap();
            assert_eq!((options.security, options.channel_binding), (security, bound), "{query}");
        }
        let both = options("application_name=a%20shop&connect_timeout=10").unwrap();
        assert_eq!((both.application_name.as_deref(), both.connect_timeout), (Some("a shop"), Some(10)));
        for (query, seconds) in [("0", None), ("-1", None), ("1", Some(2)), ("2", Some(2))] {
            assert_eq!(options(&format!("connect_timeout={query}")).unwrap().connect_timeout, seconds);
        }
    }

    #[test]
    fn what_is_not_taken_is_named_and_its_value_is_not() {
        for (query, about) in [
            ("sslmode=hidden", "`sslmode`"),
            ("sslmode=require&sslmode=disable", "`sslmode` twice"),
            ("sslmode=disable&channel_binding=require", "channel_binding=require"),
            ("channel_binding=hidden", "`channel_binding`"),
            ("application_name=", "`application_name`"),
            ("application_name=hidden%0a", "`application_name`"),
            ("connect_timeout=hidden", "`connect_timeout`"),
            ("sslrootcert=/hidden.pem", "`sslrootcert`"),
            ("sslcert=hidden", "`sslcert`"),
            ("sslpassword=hidden", "`sslpassword`"),
            ("password=hidden", "`password`"),
            ("host=hidden", "`host`"),
            ("options=hidden", "`options`"),
            ("target_session_attrs=read-write", "`target_session_attrs`"),
            ("sslnegotiation=direct", "`sslnegotiation`"),
            ("client_encoding=LATIN1", "`client_encoding`"),
            ("pgbouncer=true", "`pgbouncer`"),
        ] {
            let (message, help) = options(query).unwrap_err();
            let all = format!("{message} {}", help.unwrap_or_default());
            assert!(all.contains(about) && !all.contains("hidden") && !all.contains("secret"), "{query}: {all}");
        }
        let long = "x".repeat(NAME_MAX);
        assert!(options(&format!("application_name={long}")).is_ok());
        assert!(options(&format!("application_name={long}x")).is_err());
    }
}
