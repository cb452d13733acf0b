//! Databases: one statement of SQL, by the engine that a policy names.

pub mod engine;
pub mod postgres;
pub mod sqlite;

use parole_policy::{Mode, Source};

use super::Outside;
use crate::Error;
use crate::call::failure::Failure;
use crate::call::permit::{Name, NamedDatabase, Permit};
use engine::{Job, Rows};

/// Runs a statement on the database of a permit, which says whether it may change anything.
pub(crate) async fn run(permit: &Permit<Name>, outside: &Outside, job: Job) -> Result<Rows, Failure> {
    let NamedDatabase { name, database, authorities } = permit.reach();
    let authorities = authorities.as_ref();
    let job = Job { write: database.mode == Mode::Rw, ..job };
    let ran = match &database.source {
        Source::Sqlite(path) => sqlite::run(path.clone(), job).await,
        Source::Postgres(url) => match outside.databases_for(authorities) {
            Ok(trusted) => postgres::run(url, job, &trusted).await,
            Err(failure) => Err(failure),
        },
        Source::UrlEnv(variable) => match ((outside.variables)(variable), outside.databases_for(authorities)) {
            (Some(url), Ok(trusted)) => {
                if let Err(fault) = postgres::check_url(&url) {
                    // It was in order when the execution was started.
                    tracing::warn!(database = name, variable, "{fault}");
                }
                postgres::run(&url, job, &trusted).await
            }
            (Some(_), Err(failure)) => Err(failure),
            (None, _) => {
                tracing::warn!(database = name, variable, "the variable that names a database is not set");
                Err(engine::Failure::failed("the database is not configured"))
            }
        },
    };
    ran.map_err(|failure| match failure {
        engine::Failure::Denied(reason) => {
            let remedy = engine::Failure::remedy(&reason, name, database.mode);
            Failure::Denied { reason, argument: Some(name.clone()), remedy }
        }
        engine::Failure::Invalid(reason) => Error::Invalid(reason).into(),
        engine::Failure::TooLarge(limit) => Error::TooLarge(limit).into(),
        engine::Failure::Exhausted(what) => Error::Exhausted(what).into(),
        engine::Failure::Lack(what) => Failure::Lack(what),
        engine::Failure::Expired { unknown } => Failure::Expired { sent: unknown },
        engine::Failure::Failed { text, unknown } => Failure::Failed { text, sent: unknown },
    })
}
