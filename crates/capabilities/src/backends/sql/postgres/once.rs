//! A write that is done once for its key, which is recorded in the same transaction with its result.
//!
//! The records are rows of `parole.calls`, and the guest's statement runs as the same role as ours. What keeps it away
//! from them is a row policy that holds for the owner too: a row can be seen and made only while the setting
//! `parole.call` is its key, and never be changed or removed. A guest can set that, and can do nothing with it: a key
//! is derived from a secret that no guest has, and the setting is empty while its statement runs. The table is reached
//! by its full name, so a temporary one cannot take its place. Whoever may alter the table can alter this: its owner,
//! by statements that are never sent for a guest.

use super::wire::Wire;
use crate::backends::sql::engine::{self, Failure, Rows};

const MAKE: &str = "
    SELECT pg_catalog.pg_advisory_xact_lock(5782061384201);
    CREATE SCHEMA IF NOT EXISTS parole;
    CREATE TABLE IF NOT EXISTS parole.calls (id text PRIMARY KEY, result text NOT NULL, at timestamptz NOT NULL);
    ALTER TABLE parole.calls ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    DROP POLICY IF EXISTS seen ON parole.calls;
    DROP POLICY IF EXISTS made ON parole.calls;
    CREATE POLICY seen ON parole.calls FOR SELECT USING (id = current_setting('parole.call', true));
    CREATE POLICY made ON parole.calls FOR INSERT WITH CHECK (id = current_setting('parole.call', true))";

const SET: &str = "SELECT pg_catalog.set_config('parole.call', $1, true)";

/// What an earlier run with this key has recorded. Makes the table for it where there is none.
pub(super) async fn earlier(wire: &mut Wire, key: &str) -> Result<Option<Rows>, Failure> {
    let there = wire.ask("SELECT pg_catalog.to_regclass('parole.calls')::text", &[]).await?;
    if there.as_deref().is_none_or(str::is_empty) {
        wire.simple(MAKE).await.map_err(|error| match error {
            Failure::Denied(text) | Failure::Failed { text, .. } => {
                Failure::failed(format!("the table `parole.calls` cannot be made: {text}"))
            }
            other => other,
        })?;
    }
    let protected = "SELECT pg_catalog.row_security_active('parole.calls'::pg_catalog.regclass)::text";
    if wire.ask(protected, &[]).await?.as_deref() != Some("true") {
        return Err(Failure::failed("the table `parole.calls` is not protected by its row policies"));
    }
    wire.ask(SET, &[key]).await?;
    let found = wire.ask("SELECT result FROM parole.calls WHERE id = $1", &[key]).await?;
    wire.ask(SET, &[""]).await?;
    found.map(|text| engine::recorded(&text)).transpose()
}

/// The longest record, in bytes.
const RECORD_MAX: usize = 32 << 20;

/// Records the result; a second one with the same key breaks the transaction.
pub(super) async fn record(wire: &mut Wire, key: &str, result: &str) -> Result<(), Failure> {
    if result.len() > RECORD_MAX {
        return Err(Failure::TooLarge(RECORD_MAX as u64));
    }
    wire.ask(SET, &[key]).await?;
    wire.ask("INSERT INTO parole.calls VALUES ($1, $2, pg_catalog.now())", &[key, result]).await?;
    Ok(())
}
