//! Certificate authorities of one's own: read when an execution starts, trusted as they were then.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parole_runtime::{
    CATALOGUE, Error, Outcome, Question, Report, ResumeOptions, RunOptions, Runtime, SecurityPolicy, read_authority,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{guest, suspended};

/// A server whose certificate is of an authority that nobody knows, and the PEM of that.
struct Server {
    origin: String,
    authority: String,
}

impl Server {
    fn start() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = authority.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                std::thread::spawn(move || serve(&mut StreamOwned::new(session, stream.unwrap())));
            }
        });
        Self { origin, authority: pem }
    }
}

/// Answers the head of a request; a client that does not trust this server sends none.
fn serve(stream: &mut (impl std::io::Read + std::io::Write)) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    let _ = stream.flush();
}

struct Place {
    scratch: tempfile::TempDir,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: tempfile::tempdir().unwrap(), server: Server::start() };
        std::fs::write(place.ca(), &place.server.authority).unwrap();
        place
    }

    fn ca(&self) -> PathBuf {
        self.scratch.path().join("ca.pem")
    }

    fn runtime(&self) -> Runtime {
        Runtime::builder().state_dir(self.scratch.path().join("state")).open().unwrap()
    }

    fn policy(&self, ca: &str) -> SecurityPolicy {
        let text = format!(
            "[grant.fetch]\norigins = [\"{}\"]\nmethods = [\"GET\", \"POST\"]\n{ca}\n\
             [[rule]]\nname = \"posts\"\ncapability = \"fetch\"\nwhen = 'request.method != \"GET\"'\nthen = \"ask\"\n",
            self.server.origin
        );
        SecurityPolicy::parse(&text, self.scratch.path(), &CATALOGUE).unwrap()
    }

    fn run(&self, runtime: &Runtime, policy: SecurityPolicy, method: &str) -> Result<Report, Error> {
        let invoke = Some(format!("send(\"{method}\", \"{}/x\", \"b\")", self.server.origin));
        runtime.blocking().run(guest("prebuilt/web.wasm"), policy, RunOptions { invoke, ..RunOptions::default() })
    }
}

#[test]
fn an_authority_of_a_grant_is_trusted_by_that_grant() {
    let place = Place::new();
    let runtime = place.runtime();
    let trusted = place.run(&runtime, place.policy("ca = [\"ca.pem\"]"), "GET").unwrap();
    assert!(trusted.output.contains("200"), "{}", trusted.output);
    for without in ["", "ca = []"] {
        let report = place.run(&runtime, place.policy(without), "GET").unwrap();
        assert!(report.output.contains("unknown issuer"), "{}", report.output);
    }
    // Another authority is not this one.
    std::fs::write(place.ca(), Server::start().authority).unwrap();
    let report = place.run(&runtime, place.policy("ca = [\"ca.pem\"]"), "GET").unwrap();
    assert!(report.output.contains("the server's certificate is"), "{}", report.output);
}

#[test]
fn a_file_that_cannot_be_used_is_said_before_the_start() {
    let place = Place::new();
    let runtime = place.runtime();
    for (text, about) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n?", "cannot be used")] {
        std::fs::write(place.ca(), text).unwrap();
        let Err(Error::Usage(error)) = place.run(&runtime, place.policy("ca = [\"ca.pem\"]"), "GET") else { panic!() };
        assert!(error.contains(about) && error.contains("ca.pem") && error.contains("`fetch`"), "{error}");
    }
    std::fs::remove_file(place.ca()).unwrap();
    assert!(matches!(place.run(&runtime, place.policy("ca = [\"ca.pem\"]"), "GET"), Err(Error::Usage(_))));
    assert!(read_authority(&place.ca()).is_err());
    assert_eq!(runtime.executions(true).unwrap().len(), 0);
}

/// What the file held at the start is what is trusted, whatever has become of it: an execution that waits goes on.
#[test]
fn what_was_read_is_pinned() {
    for becomes in [None, Some("another"), Some("")] {
        let place = Place::new();
        let report = place.run(&place.runtime(), place.policy("ca = [\"ca.pem\"]"), "POST").unwrap();
        let id = suspended(&report);
        match becomes {
            None => std::fs::remove_file(place.ca()).unwrap(),
            Some("another") => std::fs::write(place.ca(), Server::start().authority).unwrap(),
            Some(text) => std::fs::write(place.ca(), text).unwrap(),
        }
        let runtime = place.runtime();
        let asked = Question::of(&runtime.promises().get(&id).unwrap().record).unwrap();
        let value = json!({ "decision": "once", "digest": asked.digest });
        assert!(runtime.blocking().resolve(&id, &value, "me").unwrap().won);
        let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
        assert_eq!(report.outcome, Outcome::Completed);
        assert!(report.output.contains("200"), "{}", report.output);
    }
}

/// What the operator got wrong about a database is told to the operator: which one, which option, and no secret.
#[test]
fn the_url_of_a_database_is_looked_at_before_the_start() {
    let runtime = Runtime::builder()
        .variables(|name| match name {
            "GOOD" => Some("postgres://u:secret@127.0.0.1:1/db?sslmode=require&channel_binding=require".into()),
            "BAD" => Some("postgres://u:secret@127.0.0.1:1/db?sslcert=hidden".into()),
            "NONE" => Some("secret".into()),
            _ => None,
        })
        .open()
        .unwrap();
    let run = |variable: &str| {
        let text = format!("level = \"trusted\"\n[grant.query.databases]\nmain = {{ url_env = \"{variable}\" }}\n");
        let policy = SecurityPolicy::parse(&text, Path::new("/"), &CATALOGUE).unwrap();
        let invoke = Some("statement(\"main\", \"SELECT 1\", [])".to_owned());
        runtime.blocking().run(guest("prebuilt/sql.wasm"), policy, RunOptions { invoke, ..RunOptions::default() })
    };
    // Nobody listens there; and what is not set is not missed before it is needed.
    assert!(run("GOOD").unwrap().output.contains("cannot be reached"));
    assert!(run("UNSET").unwrap().output.contains("not configured"));
    for (variable, about) in [("BAD", "`sslcert`"), ("NONE", "cannot be read")] {
        let Err(Error::Usage(error)) = run(variable) else { panic!("{variable}") };
        assert!(error.contains("`main`") && error.contains(variable) && error.contains(about), "{error}");
        assert!(!error.contains("secret") && !error.contains("hidden"), "{error}");
    }
}
