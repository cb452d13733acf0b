//! Certificates.

use std::sync::Arc;

use parole_capabilities::backends::net::{Client, Connections, Failure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::peer::{Ask, Peer, Seen, Server, client, ok, text, within};

/// A server with a certificate for `names`, and the PEM of who signed it.
pub struct Tls {
    pub server: Server,
    pub root: String,
}

pub fn acceptor(names: &[&str], expired: bool) -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), root)
}

impl Tls {
    async fn start(names: &[&str], expired: bool) -> Self {
        let (acceptor, root) = acceptor(names, expired);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, all) = (acceptor.clone(), all.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                    assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));
                    let mut peer = Peer::new(stream, all);
                    while peer.request().await.is_some() {
                        peer.send(ok("private")).await;
                    }
                });
            }
        });
        Self { server: Server { address, seen }, root }
    }

    fn ask(&self, host: &str) -> Ask<'static> {
        let mut ask = Ask::get(&self.server, "/");
        ask.url = format!("https://{host}:{}/", self.server.address.port()).parse().unwrap();
        ask
    }
}

#[track_caller]
fn refused(result: Result<parole_capabilities::backends::net::Response, Failure>, about: &str) {
    let failure = result.unwrap_err();
    assert!(failure.unsent() && failure.to_string().contains(about), "{failure:?}");
}

#[tokio::test]
async fn an_authority_of_ones_own() {
    let tls = Tls::start(&["api.example", "127.0.0.1"], false).await;
    let trusting = Client::new(&[tls.root.as_bytes()]).unwrap();
    let mut connections = Connections::default();
    for host in ["api.example", "API.example", "127.0.0.1"] {
        for _ in 0..3 {
            let response = tls.ask(host).on(&trusting, &mut connections).await.unwrap();
            assert_eq!(text(&response), "private");
        }
    }
    assert_eq!(connections.idle(), 2);
    let sent = tls.server.seen.requests().len();

    refused(tls.ask("api.example").on(&client(), &mut Connections::default()).await, "unknown issuer");
    refused(tls.ask("other.example").on(&trusting, &mut connections).await, "another name");
    refused(tls.ask("[::1]").on(&trusting, &mut connections).await, "another name");
    assert_eq!(tls.server.seen.requests().len(), sent);
}

#[tokio::test]
async fn an_old_certificate() {
    let tls = Tls::start(&["api.example"], true).await;
    let trusting = Client::new(&[tls.root.as_bytes()]).unwrap();
    refused(tls.ask("api.example").on(&trusting, &mut Connections::default()).await, "expired");
    assert_eq!(tls.server.seen.requests().len(), 0);
}

/// A connection is never plain where TLS was asked for, nor the other way round.
#[tokio::test]
async fn plain_and_tls_are_not_mixed() {
    let server = Server::answers(ok("plain")).await;
    let mut ask = Ask::get(&server, "/");
    let client = client();
    let mut connections = Connections::default();
    ask.url = format!("http://api.example:{}/", server.address.port()).parse().unwrap();
    assert_eq!(text(&ask.on(&client, &mut connections).await.unwrap()), "plain");
    ask.url.set_scheme("https").unwrap();
    ask.limits.deadline = within(300);
    assert_eq!(ask.on(&client, &mut connections).await, Err(Failure::Expired { sent: false }));
    let chatty = Server::start(|mut peer| async move {
        peer.send(ok("plain")).await;
    })
    .await;
    ask.addresses = vec![chatty.address];
    ask.limits.deadline = within(5_000);
    refused(ask.on(&client, &mut connections).await, "TLS handshake");
    assert_eq!(server.seen.requests().len(), 1);
}

#[test]
fn roots_that_are_none() {
    let (_, root) = acceptor(&["x.example"], false);
    assert!(Client::new(&[root.as_bytes(), format!("{root}{root}").as_bytes()]).is_ok());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "no PEM", broken, "-----BEGIN CERTIFICATE-----\n?"] {
        assert!(matches!(Client::new(&[pem.as_bytes()]), Err(Failure::Invalid(_))), "{pem}");
    }
}

/// Some servers close a TLS connection without saying so. Where the framing of the answer tells its end that is no
/// matter; where only the close does, it is the end, as in browsers; what is known to be missing is missing.
#[tokio::test]
async fn an_end_that_was_not_announced() {
    for (answer, whole) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-le", false),
    ] {
        let (acceptor, root) = acceptor(&["api.example"], false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer = Peer::new(acceptor.accept(stream).await.unwrap(), Seen::default());
            peer.request().await;
            peer.send(answer).await;
            // The stream beneath, so that there is no goodbye.
            let (mut plain, _) = peer.stream.into_inner();
            tokio::io::AsyncWriteExt::shutdown(&mut plain).await.unwrap();
            tokio::io::copy(&mut plain, &mut tokio::io::sink()).await.unwrap();
        });
        let trusting = Client::new(&[root.as_bytes()]).unwrap();
        let server = Server { address, seen: Seen::default() };
        let mut ask = Ask::get(&server, "/");
        ask.url = format!("https://api.example:{}/", address.port()).parse().unwrap();
        let result = ask.on(&trusting, &mut Connections::default()).await;
        match result {
            Ok(response) => assert!(whole && text(&response) == "hello", "{answer:?}"),
            Err(failure) => assert!(!whole && failure.to_string().contains("ended before the answer"), "{failure:?}"),
        }
    }
}
