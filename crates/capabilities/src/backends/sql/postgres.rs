//! `query` on a PostgreSQL database: one statement in a transaction of its own, on a connection of its own.
//!
//! # Which walls hold
//!
//! The server's own, because only it knows what a statement does:
//! - **The role.** A superuser, a role that reaches the server's files or programs, or one that could make itself such
//!   a role, is refused at every connect, before any statement of a guest is sent.
//! - **The transaction.** A reader's is `READ ONLY`, which cannot be undone once a statement runs, and is never
//!   committed. A writer's is committed by Parole alone.
//! - **The message.** A prepared statement is one statement: the server refuses a second one.
//! - **The connection.** It is used once, so no setting, lock or temporary table outlives the call.
//!
//! `gate.rs` adds which kinds of statement are sent at all; SQL's grammar decides that by the first word.
//!
//! # What is left
//!
//! Functions that the database has run as they are written; what a function does outside of its transaction is not
//! undone. A role can end its own other sessions (`pg_terminate_backend`): give each policy a role of its own. Memory,
//! temporary files and connections are bounded by the server's settings for the role, and here only by time.

mod binding;
mod gate;
mod once;
mod target;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{DataRowBody, Message, RowDescriptionBody};
use postgres_protocol::message::frontend;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;

use self::target::Target;
use self::wire::Wire;
use crate::backends::trust;

use super::engine::{self, Budget, COMMIT_GRACE, Failure, Job, Rows, Value};
use crate::clock;

/// The object identifiers of the types that have a form of their own here; they never change.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const INTEGERS: [u32; 4] = [20, 21, 23, 26];
    pub(super) const FLOATS: [u32; 2] = [700, 701];
    /// Types whose values show how a number was written: numeric, the texts, JSON, and what is not known.
    pub(super) const AS_WRITTEN: [u32; 10] = [19, 25, 114, 700, 701, 705, 1042, 1043, 1700, 3802];
}

/// Why the role may not be used, in words that don't name it. Functions that leave the database are the superuser's
/// unless somebody gave them away.
const ROLE: &str = "
    SELECT 'it is a superuser, or a member of one' WHERE EXISTS (
        SELECT FROM pg_catalog.pg_roles WHERE rolsuper AND pg_catalog.pg_has_role(session_user, oid, 'MEMBER'))
    UNION ALL SELECT 'it may create roles' FROM pg_catalog.pg_roles WHERE rolcreaterole AND rolname = session_user
    UNION ALL SELECT 'it may replicate' FROM pg_catalog.pg_roles WHERE rolreplication AND rolname = session_user
    UNION ALL SELECT 'it is a member of ' || rolname FROM pg_catalog.pg_roles
        WHERE rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
        AND pg_catalog.pg_has_role(session_user, oid, 'MEMBER')
    UNION ALL SELECT 'it may call ' || proname FROM pg_catalog.pg_proc
        WHERE proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'pg_file_write',
            'lo_import', 'lo_export', 'dblink', 'dblink_connect', 'dblink_connect_u', 'dblink_exec', 'dblink_open')
        AND pg_catalog.has_function_privilege(session_user, oid, 'EXECUTE')
    LIMIT 1";

/// Trust in the public roots and in `extra_roots`, each a PEM text of certificates.
pub fn trust(extra_roots: &[&[u8]]) -> Result<Arc<ClientConfig>, Failure> {
    let wrong = || Failure::failed("a root certificate cannot be used");
    let roots = trust::roots(extra_roots.iter().copied()).map_err(|_| wrong())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Arc::new(config))
}

/// What is wrong with the URL of a database, in words for the operator that never repeat it.
///
/// # Errors
/// It cannot be read, or has an option that is not taken.
pub fn check_url(url: &str) -> Result<(), String> {
    match Target::parse(url) {
        Ok(_) => Ok(()),
        Err(Failure::Failed { text, .. }) => Err(text),
        Err(_) => Err("the URL of the database cannot be read".into()),
    }
}

/// Runs the job on the database at `url`. A server on another machine is spoken to through TLS, with the roots of
/// `tls`, unless the URL says `sslmode=disable`. Dropping the future cancels the statement.
pub async fn run(url: &str, job: Job, tls: &Arc<ClientConfig>) -> Result<Rows, Failure> {
    engine::check(&job)?;
    gate::check(&job.sql)?;
    let target = Arc::new(Target::parse(url)?);
    let committing = AtomicBool::new(false);
    let work = perform(&target, &job, tls, &committing);
    tokio::pin!(work);
    match clock::timeout_at(job.limits.deadline, &mut work).await {
        Ok(result) => result,
        Err(_) if committing.load(Ordering::Relaxed) => {
            clock::timeout(COMMIT_GRACE, work).await.unwrap_or(Err(Failure::Expired { unknown: true }))
        }
        Err(_) => Err(Failure::EXPIRED),
    }
}

async fn perform(
    target: &Arc<Target>,
    job: &Job,
    tls: &Arc<ClientConfig>,
    committing: &AtomicBool,
) -> Result<Rows, Failure> {
    let mut wire = Wire::connect(Arc::clone(target), tls).await?;
    let left = job.limits.deadline.saturating_duration_since(clock::now()).as_millis().max(1);
    let mode = if job.write { "WRITE" } else { "ONLY" };
    // The server's clock too, for the case that this process cannot tell it to stop any more.
    let begin = format!(
        "BEGIN TRANSACTION READ {mode}; SET LOCAL client_min_messages = error; SET LOCAL statement_timeout = {left};
         SET LOCAL idle_in_transaction_session_timeout = {left}; {ROLE}"
    );
    if let Some(reason) = wire.simple(&begin).await?.into_iter().next() {
        return Err(Failure::failed(format!("the role of this database may not be used: {reason}")));
    }
    let key = job.key.as_deref().filter(|_| job.write);
    if let Some(key) = key
        && let Some(rows) = once::earlier(&mut wire, key).await?
    {
        wire.end().await;
        return Ok(rows);
    }
    let rows = guest(&mut wire, job).await?;
    if !job.write {
        // Never committed: what is not undone by a transaction that only reads is undone by its end.
        wire.end().await;
        return Ok(rows);
    }
    if let Some(key) = key {
        once::record(&mut wire, key, &engine::record(&rows)?).await?;
    }
    committing.store(true, Ordering::Relaxed);
    wire.commit().await?;
    wire.end().await;
    Ok(rows)
}

/// The guest's statement: described first, so that what it needs and gives is known before it runs.
async fn guest(wire: &mut Wire, job: &Job) -> Result<Rows, Failure> {
    wire.most_for(job.limits.max_bytes);
    wire.send(|out| {
        frontend::parse("", &job.sql, [], out)?;
        frontend::describe(b'S', "", out)?;
        frontend::sync(out);
        Ok(())
    })
    .await?;
    let mut parameters: Vec<u32> = Vec::new();
    let mut columns: Vec<(String, u32)> = Vec::new();
    loop {
        match wire.message().await? {
            Message::ParseComplete | Message::NoData => {}
            Message::ParameterDescription(body) => {
                parameters = body.parameters().collect().map_err(|_| wire::garbled())?;
            }
            Message::RowDescription(body) => columns = described(&body)?,
            Message::ErrorResponse(body) => return Err(wire.refused(&body)),
            Message::ReadyForQuery(_) => break,
            _ => return Err(wire::garbled()),
        }
    }
    engine::counted(parameters.len(), job.parameters.len())?;
    let mut budget = Budget::new(job.limits);
    let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
    budget.columns(&names)?;
    bind(wire, job, &parameters, &columns).await?;
    let mut rows = Rows { columns: names, rows: Vec::new() };
    let mut complete = false;
    loop {
        match wire.message().await? {
            Message::BindComplete => {}
            Message::DataRow(body) => {
                budget.row()?;
                rows.rows.push(row(&body, &columns, &mut budget)?);
            }
            Message::CommandComplete(_) => complete = true,
            // One row more was asked for than there may be: the budget has said so already.
            Message::ErrorResponse(body) => return Err(wire.refused(&body)),
            // Still in the transaction that Parole began, or something is wrong.
            Message::ReadyForQuery(body) if complete && body.status() == b'T' => return Ok(rows),
            _ => return Err(Failure::Failed { text: wire::GARBLED.into(), unknown: job.write }),
        }
    }
}

fn described(body: &RowDescriptionBody) -> Result<Vec<(String, u32)>, Failure> {
    body.fields().map(|field| Ok((field.name().to_owned(), field.type_oid()))).collect().map_err(|_| wire::garbled())
}

/// Values go as text, which the server reads with its own care, and bytes as bytes.
async fn bind(wire: &mut Wire, job: &Job, types: &[u32], columns: &[(String, u32)]) -> Result<(), Failure> {
    for (index, (value, oid)) in job.parameters.iter().zip(types).enumerate() {
        let blob = matches!(value, Value::Blob(_));
        if *value != Value::Null && blob != (*oid == oid::BYTEA) {
            let (is, given) = if blob { ("isn't bytea", "is") } else { ("is bytea", "isn't") };
            let text = format!("parameter {} {is}, and what is given {given} a blob", index + 1);
            return Err(Failure::Invalid(text));
        }
    }
    let formats = job.parameters.iter().map(|value| i16::from(matches!(value, Value::Blob(_))));
    let results = columns.iter().map(|(_, oid)| i16::from(*oid == oid::BYTEA));
    // A portal gives up after so many rows; zero would be all of them.
    let most = i32::try_from(job.limits.max_rows.saturating_add(1)).unwrap_or(i32::MAX);
    let values: Vec<(&Value, u32)> = job.parameters.iter().zip(types.iter().copied()).collect();
    wire.send(|out| {
        let write = |(value, oid): (&Value, u32), out: &mut bytes::BytesMut| {
            match value {
                Value::Null => return Ok(IsNull::Yes),
                Value::Integer(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
                Value::Real(real) => out.extend_from_slice(number(*real, oid).as_bytes()),
                Value::Text(text) => out.extend_from_slice(text.as_bytes()),
                Value::Blob(bytes) => out.extend_from_slice(bytes),
            }
            Ok(IsNull::No)
        };
        frontend::bind("", "", formats, values, write, results, out).map_err(|_| std::io::Error::other("bind"))?;
        frontend::execute("", most, out)?;
        frontend::sync(out);
        Ok(())
    })
    .await
}

/// The text of a real number for a parameter of this type. Guests in a language that has only one kind of number give
/// 1.0 where they mean 1, and the server reads `1.0` as no integer: a whole number is written as one, but where the
/// server keeps what was written.
fn number(real: f64, oid: u32) -> String {
    // The whole numbers that a double holds exactly.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    let kept = oid::AS_WRITTEN.contains(&oid);
    if !kept && real.fract() == 0.0 && real.abs() <= WHOLE { format!("{:.0}", real + 0.0) } else { format!("{real:?}") }
}

fn row(body: &DataRowBody, columns: &[(String, u32)], budget: &mut Budget) -> Result<Vec<Value>, Failure> {
    let ranges: Vec<_> = body.ranges().collect().map_err(|_| wire::garbled())?;
    if ranges.len() != columns.len() {
        return Err(wire::garbled());
    }
    let values = ranges.into_iter().zip(columns).map(|(range, (name, oid))| {
        let Some(range) = range else { return budget.value(0).map(|()| Value::Null) };
        let bytes = body.buffer().get(range).ok_or_else(wire::garbled)?;
        value(bytes, name, *oid, budget)
    });
    values.collect()
}

fn value(bytes: &[u8], name: &str, oid: u32, budget: &mut Budget) -> Result<Value, Failure> {
    if oid == oid::BYTEA {
        budget.value(bytes.len())?;
        return Ok(Value::Blob(bytes.to_vec()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Failure::failed(format!("column `{name}` is not UTF-8")))?;
    let number = if oid == oid::BOOL {
        Some(Value::Integer(i64::from(text == "t")))
    } else if oid::INTEGERS.contains(&oid) {
        text.parse().ok().map(Value::Integer)
    } else if oid::FLOATS.contains(&oid) {
        text.parse().ok().map(Value::Real)
    } else {
        None
    };
    budget.value(if number.is_some() { 0 } else { text.len() })?;
    Ok(number.unwrap_or_else(|| Value::Text(text.to_owned())))
}
