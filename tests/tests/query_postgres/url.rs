//! What a URL of a database may say.

use std::time::{Duration, Instant};

use parole_capabilities::backends::sql::engine::Value;
use parole_capabilities::backends::sql::postgres;
use parole_tests::postgres::Server;

use super::{failed, fresh, job, run, text};

/// The options that services hand out with their URLs: honoured where they ask for something.
#[tokio::test]
async fn options_of_a_url() {
    let server = Server::shared();
    let database = fresh();
    let trust = postgres::trust(&[&server.certificate()]).unwrap();
    let query = |url: String| {
        let trust = trust.clone();
        async move {
            let sql = "SELECT current_setting('application_name'), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            postgres::run(&url, job(sql), &trust).await
        }
    };
    for (options, name, tls) in [
        ("", "parole", 0),
        ("sslmode=prefer&application_name=a%20shop&connect_timeout=10", "a shop", 0),
        ("sslmode=require&keepalives=1&target_session_attrs=any", "parole", 1),
        ("sslmode=verify-full&application_name=shop&channel_binding=prefer", "shop", 1),
    ] {
        let rows = query(format!("{}?{options}", database.url())).await.unwrap().rows;
        assert_eq!(rows, [[text(name), Value::Integer(tls)]], "{options}");
    }
    // The password is bound to the certificate, or there is no connection.
    for (way, encryption) in [("by_scram", "scram-sha-256"), ("by_md5", "md5"), ("by_password", "scram-sha-256")] {
        let role = format!("{}_bound_{way}", database.name);
        database.admin(&format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT {way} TO {role}"
        ));
        let url = database.url_of(&format!("{role}:secret"));
        let bound = query(format!("{url}?sslmode=require&channel_binding=require")).await;
        assert_eq!(bound.is_ok(), way == "by_scram", "{way}: {bound:?}");
        assert!(bound.is_ok() || failed(&bound, "bound to the server's certificate"), "{bound:?}");
        let plain = query(format!("{url}?channel_binding=require")).await;
        assert!(failed(&plain, "bound to the server's certificate"), "{plain:?}");
        assert!(query(format!("{url}?sslmode=require")).await.is_ok());
        let wrong = url.replace("secret", "wrong") + "?sslmode=require&channel_binding=require";
        assert!(query(wrong).await.is_err());
    }
    let unasked = query(format!("{}?sslmode=require&channel_binding=require", database.url())).await;
    assert!(failed(&unasked, "bound to the server's certificate"), "{unasked:?}");

    // What is not taken is named, and its value is not.
    let error = postgres::check_url("postgres://u:secret@h/db?sslcert=hidden").unwrap_err();
    assert!(error.contains("`sslcert`") && !error.contains("secret") && !error.contains("hidden"), "{error}");
    assert_eq!(postgres::check_url(&format!("{}?sslmode=require", database.url())), Ok(()));
    let result = query(format!("{}?options=hidden", database.url())).await;
    assert!(failed(&result, "`options`"), "{result:?}");
}

/// Somebody who takes the connection and says nothing.
#[tokio::test]
async fn connecting_has_a_time_of_its_own() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/db?connect_timeout=2", silent.local_addr().unwrap());
    let started = Instant::now();
    let result = run(&url, job("SELECT 1")).await;
    assert!(failed(&result, "cannot be reached"), "{result:?}");
    assert!((Duration::from_secs(2)..Duration::from_secs(15)).contains(&started.elapsed()));
}
