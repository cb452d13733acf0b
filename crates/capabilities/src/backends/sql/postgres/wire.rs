//! One connection to a server: how it begins, what goes over it, and how it is broken off.
//!
//! The messages are made and read by `postgres-protocol`. What is added to a ready-made client: values of every type
//! come in the server's own text form, a message that is larger than the result may be is never read, and nothing
//! outlives the future that runs the job but the request to cancel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::binding;
use super::target::Target;
use crate::backends::sql::engine::{Failure, PG_NO_RIGHT, PG_READ_ONLY};
use crate::lack::lack;

/// The largest message of our own statements, in bytes: a recorded result.
const MESSAGE_MAX: usize = 64 << 20;
/// What a message may have beside the values of a row: names of columns, texts of errors.
const MESSAGE_SLACK: u64 = 256 << 10;
/// How long a request to cancel may take.
const CANCEL_MAX: Duration = Duration::from_secs(2);
/// What is said when the server says what no server would.
pub(super) const GARBLED: &str = "the database server answers what was not asked";

pub(super) fn garbled() -> Failure {
    Failure::failed(GARBLED)
}

fn lost<E>(_: E) -> Failure {
    Failure::failed("the connection to the database was lost")
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Wire {
    stream: Box<dyn Stream>,
    received: BytesMut,
    /// The largest message that is read, and the limit that a guest is told of.
    most: (usize, u64),
    /// Something is being done that has to be canceled when this is dropped.
    busy: bool,
    target: Arc<Target>,
    tls: Arc<ClientConfig>,
    process: Option<(i32, i32)>,
}

impl Wire {
    pub(super) async fn connect(target: Arc<Target>, tls: &Arc<ClientConfig>) -> Result<Self, Failure> {
        let most = target.options.connect_timeout.map(Duration::from_secs);
        let opened = Self::open(target, tls);
        match most {
            None => opened.await,
            Some(most) => tokio::time::timeout(most, opened).await.map_err(|_| unreachable())?,
        }
    }

    async fn open(target: Arc<Target>, tls: &Arc<ClientConfig>) -> Result<Self, Failure> {
        let (stream, certificate) = dial(&target, tls).await?;
        let most = (MESSAGE_MAX, MESSAGE_MAX as u64);
        let (received, tls) = (BytesMut::new(), Arc::clone(tls));
        let mut wire = Self { stream, received, most, busy: false, target, tls, process: None };
        wire.start(certificate.as_deref()).await?;
        Ok(wire)
    }

    async fn start(&mut self, certificate: Option<&[u8]>) -> Result<(), Failure> {
        let target = Arc::clone(&self.target);
        let parameters = [
            ("user", &*target.user),
            ("database", &*target.database),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("application_name", target.options.application_name.as_deref().unwrap_or("parole")),
        ];
        self.send(|out| frontend::startup_message(parameters, out)).await?;
        let mut scram: Option<ScramSha256> = None;
        // Whether the server has shown that it knows the password; where its certificate is to be bound to that, it must.
        let mut proven = !target.options.channel_binding;
        loop {
            match self.message().await? {
                Message::AuthenticationCleartextPassword | Message::AuthenticationMd5Password(_)
                    if target.options.channel_binding =>
                {
                    return Err(unbound());
                }
                Message::AuthenticationCleartextPassword => {
                    let password = self.password()?;
                    self.send(|out| frontend::password_message(password.as_bytes(), out)).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(target.user.as_bytes(), self.password()?.as_bytes(), body.salt());
                    self.send(|out| frontend::password_message(hash.as_bytes(), out)).await?;
                }
                Message::AuthenticationSasl(body) => {
                    let bound = target.options.channel_binding;
                    let way = if bound { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
                    if !body.mechanisms().any(|name| Ok(name == way)).map_err(lost)? {
                        let unknown = "the database server wants a way to log in that is not known";
                        return Err(if bound { unbound() } else { Failure::failed(unknown) });
                    }
                    let binding = match bound {
                        true => certificate.and_then(binding::end_point).ok_or_else(unbound)?,
                        false => ChannelBinding::unsupported(),
                    };
                    let client = ScramSha256::new(self.password()?.as_bytes(), binding);
                    self.send(|out| frontend::sasl_initial_response(way, client.message(), out)).await?;
                    (scram, proven) = (Some(client), false);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let client = scram.as_mut().ok_or_else(garbled)?;
                    client.update(body.data()).map_err(|_| garbled())?;
                    let answer = client.message().to_vec();
                    self.send(|out| frontend::sasl_response(&answer, out)).await?;
                }
                // The server has to know the password too.
                Message::AuthenticationSaslFinal(body) => {
                    scram.take().ok_or_else(garbled)?.finish(body.data()).map_err(|_| garbled())?;
                    proven = true;
                }
                Message::AuthenticationOk if proven => {}
                Message::AuthenticationOk if target.options.channel_binding => return Err(unbound()),
                Message::BackendKeyData(body) => self.process = Some((body.process_id(), body.secret_key())),
                Message::ReadyForQuery(_) if proven => return Ok(()),
                // Its text names the user and the database.
                Message::ErrorResponse(body) => {
                    self.busy = false;
                    let code = Said::of(&body).code;
                    return Err(Failure::failed(format!("the database server refused the connection ({code})")));
                }
                _ => return Err(Failure::failed("the database server wants a way to log in that is not known")),
            }
        }
    }

    fn password(&self) -> Result<String, Failure> {
        self.target.password.clone().ok_or_else(|| Failure::failed("the database server wants a password"))
    }

    /// From here on messages are those of a result of so many bytes.
    pub(super) fn most_for(&mut self, bytes: u64) {
        self.most = (usize::try_from(bytes.saturating_add(MESSAGE_SLACK)).unwrap_or(MESSAGE_MAX), bytes);
    }

    pub(super) async fn send(&mut self, build: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        build(&mut out).map_err(|_| Failure::Invalid("the statement cannot be sent".into()))?;
        self.busy = true;
        self.stream.write_all(&out).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    /// The next message that answers something.
    pub(super) async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            let header = Header::parse(&self.received).map_err(|_| garbled())?;
            if header.is_some_and(|header| usize::try_from(header.len()).is_ok_and(|len| len > self.most.0)) {
                return Err(Failure::TooLarge(self.most.1));
            }
            match Message::parse(&mut self.received).map_err(|_| garbled())? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::NotificationResponse(_)) => {}
                Some(message) => {
                    if let Message::ReadyForQuery(_) = message {
                        self.busy = false;
                    }
                    return Ok(message);
                }
                None => {
                    if self.stream.read_buf(&mut self.received).await.map_err(lost)? == 0 {
                        return Err(lost(()));
                    }
                }
            }
        }
    }

    /// What is told of a statement that the server refused.
    pub(super) fn refused(&mut self, body: &ErrorResponseBody) -> Failure {
        self.busy = false;
        Said::of(body).failure()
    }

    /// Statements of our own, without parameters: the first value of each row.
    pub(super) async fn simple(&mut self, sql: &str) -> Result<Vec<String>, Failure> {
        self.most = (MESSAGE_MAX, MESSAGE_MAX as u64);
        self.send(|out| frontend::query(sql, out)).await?;
        self.values().await
    }

    /// One statement of our own with texts for parameters: the first value of its first row.
    pub(super) async fn ask(&mut self, sql: &str, parameters: &[&str]) -> Result<Option<String>, Failure> {
        self.most = (MESSAGE_MAX, MESSAGE_MAX as u64);
        self.send(|out| {
            frontend::parse("", sql, [], out)?;
            let write = |text: &&str, out: &mut BytesMut| {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            };
            frontend::bind("", "", [], parameters, write, [], out).map_err(|_| io::Error::other("bind"))?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            Ok(())
        })
        .await?;
        Ok(self.values().await?.into_iter().next())
    }

    async fn values(&mut self) -> Result<Vec<String>, Failure> {
        let mut values = Vec::new();
        loop {
            match self.message().await? {
                Message::DataRow(body) => values.push(first(&body)?),
                Message::ErrorResponse(body) => return Err(self.refused(&body)),
                Message::ReadyForQuery(_) => return Ok(values),
                Message::RowDescription(_)
                | Message::ParseComplete
                | Message::BindComplete
                | Message::CommandComplete(_) => {}
                _ => return Err(garbled()),
            }
        }
    }

    /// Commits. The guest may have asked for a commit that is not yet durable when it is answered: not here.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        let unknown = |failure| match failure {
            Failure::Failed { text, .. } => Failure::Failed { text, unknown: true },
            other => other,
        };
        let sql = "SET LOCAL synchronous_commit TO DEFAULT; COMMIT";
        self.send(|out| frontend::query(sql, out)).await.map_err(unknown)?;
        let mut committed = false;
        loop {
            match self.message().await.map_err(unknown)? {
                // A broken transaction answers COMMIT with ROLLBACK.
                Message::CommandComplete(body) => committed = body.tag().is_ok_and(|tag| tag == "COMMIT"),
                Message::ErrorResponse(body) => {
                    let said = Said::of(&body);
                    let failure = self.refused(&body);
                    // A commit that is refused has changed nothing; a server that breaks off may have committed.
                    return Err(if said.severity == "ERROR" { failure } else { unknown(failure) });
                }
                Message::ReadyForQuery(_) if committed => return Ok(()),
                Message::ReadyForQuery(_) => return Err(Failure::failed("the transaction was broken, and is undone")),
                _ => return Err(unknown(garbled())),
            }
        }
    }

    /// Says goodbye; a transaction that is not committed is undone.
    pub(super) async fn end(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        let _ = self.stream.write_all(&out).await;
        let _ = self.stream.shutdown().await;
    }
}

impl Drop for Wire {
    /// Tells the server to stop what nobody waits for any more. That the connection is gone it would notice late.
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        let (true, Some((process, secret)), Ok(runtime)) = (self.busy, self.process, runtime) else { return };
        let (target, tls) = (Arc::clone(&self.target), Arc::clone(&self.tls));
        let cancel = async move {
            let mut out = BytesMut::new();
            frontend::cancel_request(process, secret, &mut out);
            if let Ok((mut stream, _)) = dial(&target, &tls).await {
                let _ = stream.write_all(&out).await;
                // The server has seen it when it closes the connection.
                let _ = stream.read_u8().await;
            }
        };
        drop(runtime.spawn(tokio::time::timeout(CANCEL_MAX, cancel)));
    }
}

fn first(body: &DataRowBody) -> Result<String, Failure> {
    let range = body.ranges().next().map_err(|_| garbled())?.flatten().unwrap_or(0..0);
    let bytes = body.buffer().get(range).ok_or_else(garbled)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| garbled())
}

fn unreachable() -> Failure {
    Failure::failed("the database server cannot be reached")
}

fn unbound() -> Failure {
    Failure::failed(
        "the URL of the database wants the password bound to the server's certificate, and the server does not",
    )
}

/// A stream to the server, and its certificate where TLS is spoken.
async fn dial(target: &Target, tls: &Arc<ClientConfig>) -> Result<(Box<dyn Stream>, Option<Vec<u8>>), Failure> {
    let failure = |error: std::io::Error| lack(&error).map_or_else(unreachable, Failure::Lack);
    if target.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", target.host, target.port);
        return Ok((Box::new(UnixStream::connect(path).await.map_err(failure)?), None));
    }
    let addresses = tokio::net::lookup_host((&*target.host, target.port)).await.map_err(failure)?;
    for address in addresses {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) if lack(&error).is_some() => return Err(failure(error)),
            Err(_) => continue,
        };
        let _ = stream.set_nodelay(true);
        if !target.secure(address.ip().is_loopback()) {
            return Ok((Box::new(stream), None));
        }
        let stream = secured(stream, target, tls).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|first| first.to_vec());
        return Ok((Box::new(stream), certificate));
    }
    Err(unreachable())
}

/// Asks for TLS; a server that has none gets nothing else.
async fn secured(
    mut stream: TcpStream,
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    stream.write_all(&out).await.map_err(lost)?;
    // One byte and no more: the next one belongs to TLS.
    if stream.read_u8().await.map_err(lost)? != b'S' {
        return Err(Failure::failed("the database server does not speak TLS, and is not on this machine"));
    }
    let untrusted = || Failure::failed("the database server cannot be trusted: TLS, or its certificate, failed");
    let name = ServerName::try_from(target.host.clone()).map_err(|_| untrusted())?;
    TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(|_| untrusted())
}

/// What a server says of an error.
struct Said {
    severity: String,
    code: String,
    text: String,
}

impl Said {
    fn of(body: &ErrorResponseBody) -> Self {
        let mut said = Self { severity: String::new(), code: "no code".into(), text: String::new() };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => said.severity = text,
                b'C' => said.code = text,
                b'M' => said.text = text,
                _ => {}
            }
        }
        said
    }

    fn failure(self) -> Failure {
        let text = format!("{} ({})", self.text, self.code);
        match &*self.code {
            // Canceled, by us or by its own clock.
            "57014" => Failure::EXPIRED,
            // A right that the role lacks, and a change in a transaction that only reads.
            PG_NO_RIGHT | PG_READ_ONLY => Failure::Denied(text),
            code if code.starts_with("42") => Failure::Invalid(text),
            _ => Failure::failed(text),
        }
    }
}
