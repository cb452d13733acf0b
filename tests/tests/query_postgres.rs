//! `query` on a real PostgreSQL server.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "query_postgres/url.rs"]
mod url;

use std::time::{Duration, Instant};

use parole_capabilities::backends::sql::engine::{Failure, Job, Limits, Rows, Value};
use parole_capabilities::backends::sql::postgres;
use parole_tests::postgres::{Database, Server};

const SCHEMA: &str = "
    CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL UNIQUE, price numeric(10, 2), count integer);
    INSERT INTO item (name, price, count) VALUES ('nut', 0.50, 3), ('bolt', 2, NULL);
    CREATE TABLE part (item integer REFERENCES item DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE log (text text);
";

fn limits(ms: u64) -> Limits {
    Limits { max_rows: 1_000, max_bytes: 1 << 20, deadline: Instant::now() + Duration::from_millis(ms) }
}

fn job(sql: &str) -> Job {
    Job { sql: sql.into(), parameters: vec![], write: false, key: None, limits: limits(20_000) }
}

async fn run(url: &str, job: Job) -> Result<Rows, Failure> {
    postgres::run(url, job, &postgres::trust(&[]).unwrap()).await
}

async fn read(database: &Database<'_>, sql: &str) -> Result<Rows, Failure> {
    run(&database.url(), job(sql)).await
}

async fn write(database: &Database<'_>, sql: &str) -> Result<Rows, Failure> {
    run(&database.url(), Job { write: true, ..job(sql) }).await
}

async fn with(database: &Database<'_>, sql: &str, parameters: Vec<Value>) -> Result<Rows, Failure> {
    run(&database.url(), Job { parameters, ..job(sql) }).await
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn fresh() -> Database<'static> {
    let database = Server::shared().database();
    database.own(SCHEMA);
    database
}

fn failed(result: &Result<Rows, Failure>, expected: &str) -> bool {
    matches!(result, Err(Failure::Failed { text, unknown: false }) if text.contains(expected))
}

const EXPIRED: Result<Rows, Failure> = Err(Failure::Expired { unknown: false });

/// No statement of the role runs on the server any more, soon.
async fn idle(database: &Database<'_>) {
    let until = Instant::now() + Duration::from_secs(3);
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", database.name);
    while database.admin(&sql) != "0" {
        assert!(Instant::now() < until, "a statement still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn values_come_and_go_as_they_are() {
    let database = fresh();
    let rows = read(&database, "SELECT id, name, price, count FROM item ORDER BY id").await.unwrap();
    assert_eq!(rows.columns, ["id", "name", "price", "count"]);
    assert_eq!(
        rows.rows,
        [
            vec![Value::Integer(1), text("nut"), text("0.50"), Value::Integer(3)],
            vec![Value::Integer(2), text("bolt"), text("2.00"), Value::Null],
        ]
    );
    for (sql, value) in [
        ("(-32768)::int2", Value::Integer(-32_768)),
        ("9223372036854775807::int8", Value::Integer(i64::MAX)),
        ("4294967295::oid", Value::Integer(4_294_967_295)),
        ("true", Value::Integer(1)),
        ("false", Value::Integer(0)),
        ("0.1::float4", Value::Real(0.1)),
        ("5e-324::float8", Value::Real(5e-324)),
        ("'-Infinity'::float8", Value::Real(f64::NEG_INFINITY)),
        ("'\\x00ff'::bytea", Value::Blob(vec![0, 255])),
        ("''::bytea", Value::Blob(vec![])),
        ("NULL::bytea", Value::Null),
        ("12345678901234567890.123::numeric", text("12345678901234567890.123")),
        ("'é'::varchar", text("é")),
        ("'{\"a\": 1}'::jsonb", text("{\"a\": 1}")),
        ("'2026-01-02 03:04:05.678'::timestamp", text("2026-01-02 03:04:05.678")),
        ("'2026-01-02'::date", text("2026-01-02")),
        ("'6c1f9a2e-0000-4000-8000-000000000001'::uuid", text("6c1f9a2e-0000-4000-8000-000000000001")),
        ("'1 day 2 hours'::interval", text("1 day 02:00:00")),
        ("ARRAY[1, NULL]", text("{1,NULL}")),
        ("int4range(1, 5)", text("[1,5)")),
        ("'10.0.0.0/8'::cidr", text("10.0.0.0/8")),
        ("ROW(1, 'a')", text("(1,a)")),
    ] {
        assert_eq!(read(&database, &format!("SELECT {sql}")).await.unwrap().rows, [[value]], "{sql}");
    }
    let given =
        vec![Value::Integer(-1), Value::Real(1e300), text("a'é"), Value::Blob((0..=255).collect()), Value::Null];
    let sql = "SELECT $1::int8, $2::float8, $3::text, $4::bytea, $5::int4";
    assert_eq!(with(&database, sql, given.clone()).await.unwrap().rows, [given]);
    let given = vec![text("1.50"), text("2026-01-02"), text("{\"a\":1}"), Value::Integer(1), text("{1,2}")];
    let sql = "SELECT $1::numeric + 1, $2::date + 1, $3::jsonb -> 'a', $4::bool, $5::int[]";
    let expected = [text("2.50"), text("2026-01-03"), text("1"), Value::Integer(1), text("{1,2}")];
    assert_eq!(with(&database, sql, given).await.unwrap().rows, [expected]);

    assert_eq!(write(&database, "INSERT INTO log VALUES ('a')").await, Ok(Rows::default()));
    let sql = "INSERT INTO item (name) VALUES ('screw') RETURNING id";
    assert_eq!(write(&database, sql).await.unwrap().rows, [[Value::Integer(3)]]);
    let sql = "MERGE INTO item USING (VALUES ('nut')) AS v (n) ON name = n WHEN MATCHED THEN UPDATE SET count = 4";
    assert_eq!(write(&database, sql).await, Ok(Rows::default()));
    assert_eq!(database.admin("SELECT count FROM item WHERE name = 'nut'"), "4");
}

/// Guests in a language that has only one kind of number mean 1 by 1.0. Where the server keeps how a number was written
/// it is not touched, and what is no whole number is none.
#[tokio::test]
async fn whole_numbers_are_whole_numbers() {
    let database = fresh();
    database
        .own("CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE TABLE owns (is_so boolean, count positive)");
    for (sql, real, value) in [
        ("SELECT $1::int2", 7.0, Value::Integer(7)),
        ("SELECT $1::int4", -0.0, Value::Integer(0)),
        ("SELECT $1::int8", -9_007_199_254_740_992.0, Value::Integer(-9_007_199_254_740_992)),
        ("SELECT $1::oid", 7.0, Value::Integer(7)),
        ("SELECT $1::bool", 1.0, Value::Integer(1)),
        ("SELECT $1::positive", 2.0, Value::Integer(2)),
        ("SELECT id FROM item WHERE id = $1", 1.0, Value::Integer(1)),
        ("SELECT id FROM item ORDER BY id LIMIT $1", 1.0, Value::Integer(1)),
        ("SELECT id FROM item ORDER BY id OFFSET $1", 1.0, Value::Integer(2)),
        ("SELECT $1::float8", 2.0, Value::Real(2.0)),
        ("SELECT $1::float8", 1e300, Value::Real(1e300)),
        ("SELECT $1::float4", -2.0, Value::Real(-2.0)),
        ("SELECT $1::numeric", 1.5, text("1.5")),
        ("SELECT $1::numeric", 2.0, text("2.0")),
        ("SELECT $1::text", 2.0, text("2.0")),
        ("SELECT $1::jsonb", 2.0, text("2.0")),
    ] {
        assert_eq!(with(&database, sql, vec![Value::Real(real)]).await.unwrap().rows, [[value]], "{sql} {real}");
    }
    let insert = Job {
        write: true,
        parameters: vec![Value::Real(0.0), Value::Real(3.0)],
        ..job("INSERT INTO owns VALUES ($1, $2)")
    };
    assert_eq!(run(&database.url(), insert).await, Ok(Rows::default()));
    assert_eq!(database.admin("SELECT * FROM owns"), "f|3");
    for real in [1.5, 1e300, f64::NAN, f64::INFINITY, 9_007_199_254_740_994.0] {
        let result = with(&database, "SELECT $1::int8", vec![Value::Real(real)]).await;
        assert!(failed(&result, "invalid input syntax"), "{real}: {result:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_right_is_said() {
    let database = fresh();
    for sql in ["SELECT nothing", "SELECT 1 FROM nowhere", "SELECT (", "SELECT 1; DELETE FROM item", "SELECT 1; COMMIT"]
    {
        let result = write(&database, sql).await;
        assert!(matches!(result, Err(Failure::Invalid(_))), "{sql}: {result:?}");
    }
    for sql in ["SELECT 1;", "SELECT 1 -- and no more", "SELECT 1 /* a */ ; "] {
        assert!(read(&database, sql).await.is_ok(), "{sql}");
    }
    for (sql, given) in [("SELECT $1", 0), ("SELECT $1", 2), ("SELECT 1", 1), ("SELECT $2, $1", 1)] {
        let result = with(&database, sql, vec![Value::Null; given]).await;
        assert!(matches!(result, Err(Failure::Invalid(_))), "{sql}: {result:?}");
    }
    for (sql, value, expected) in [
        ("SELECT $1::int4", Value::Integer(1 << 40), "out of range"),
        ("SELECT $1::int4", Value::Real(1.5), "invalid input syntax"),
        ("SELECT $1::int4", text("a"), "invalid input syntax"),
        ("SELECT $1::date", text("2026-02-30"), "out of range"),
        ("SELECT $1::text", text("a\0"), "22021"),
        ("SELECT 1 / $1::int4", Value::Integer(0), "division by zero (22012)"),
    ] {
        let result = with(&database, sql, vec![value]).await;
        assert!(failed(&result, expected), "{sql}: {result:?}");
    }
    for (sql, value) in [("SELECT $1::bytea", text("\\x00")), ("SELECT $1::text", Value::Blob(vec![1]))] {
        let result = with(&database, sql, vec![value]).await;
        assert!(matches!(result, Err(Failure::Invalid(_))), "{sql}: {result:?}");
    }
    let result = write(&database, "INSERT INTO item (name) VALUES ('nut')").await;
    assert!(failed(&result, "(23505)"), "{result:?}");
    // A constraint that is looked at by the commit.
    let result = write(&database, "INSERT INTO part VALUES (77)").await;
    assert!(failed(&result, "(23503)"), "{result:?}");
    assert_eq!(database.admin("SELECT count(*) FROM part"), "0");
    assert_eq!(database.admin("SELECT count(*) FROM item"), "2");
}

#[tokio::test]
async fn what_a_reader_may_not_do_a_writer_may() {
    let database = fresh();
    for sql in [
        "INSERT INTO log VALUES ('a') RETURNING text",
        "UPDATE item SET count = 7",
        "WITH d AS (DELETE FROM item WHERE id = 2 RETURNING id) SELECT id FROM d",
        "SELECT nextval('item_id_seq')",
        "SELECT * INTO copy FROM item",
        "SELECT 1 FROM item FOR UPDATE",
    ] {
        let result = read(&database, sql).await;
        assert!(matches!(result, Err(Failure::Denied(_))), "{sql}: {result:?}");
        assert!(write(&database, sql).await.is_ok(), "{sql}");
    }
    assert_eq!(database.admin("SELECT count(*) FROM item WHERE count = 7"), "1");
    // What the mode of the transaction doesn't stop goes with its end; and it cannot be changed.
    // (From version 16 on the server refuses this one.)
    let _ = read(&database, "SELECT lo_create(4711)").await;
    assert_eq!(database.admin("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    for setting in ["transaction_read_only", "default_transaction_read_only"] {
        let sql = format!("WITH s AS MATERIALIZED (SELECT set_config('{setting}', 'off', false)) SELECT * FROM s");
        let _ = read(&database, &sql).await;
        let sql = format!(
            "WITH s AS MATERIALIZED (SELECT set_config('{setting}', 'off', false)), \
             i AS (INSERT INTO log SELECT * FROM s RETURNING 1) SELECT * FROM i, s"
        );
        assert!(read(&database, &sql).await.is_err(), "{sql}");
    }
    assert_eq!(database.admin("SELECT count(*) FROM log"), "1");
    // A function of the database that writes.
    database.own(
        "CREATE FUNCTION note() RETURNS text LANGUAGE plpgsql AS
         $$ BEGIN SET LOCAL transaction_read_only = off; INSERT INTO log VALUES ('f'); RETURN 'f'; END $$",
    );
    assert!(read(&database, "SELECT note()").await.is_err());
    assert_eq!(database.admin("SELECT count(*) FROM log"), "1");
    assert!(write(&database, "SELECT note()").await.is_ok());
    assert_eq!(database.admin("SELECT count(*) FROM log"), "2");
    // Rights are the role's: its owner's table is not everybody's.
    database.admin("CREATE TABLE secret (a int)");
    let result = write(&database, "SELECT * FROM secret").await;
    assert!(matches!(&result, Err(Failure::Denied(text)) if text.contains("(42501)")), "{result:?}");
}

#[tokio::test]
async fn only_queries_reach_the_server() {
    let server = Server::shared();
    let database = fresh();
    for sql in [
        "COPY item TO '/tmp/a'",
        "COPY item TO STDOUT",
        "COPY item FROM PROGRAM 'id'",
        "SET ROLE postgres",
        "DO $$ BEGIN COMMIT; END $$",
        "COMMIT AND CHAIN",
        "LISTEN a",
        "PREPARE TRANSACTION 'a'",
        "CREATE TABLE a (b int)",
        "/* SELECT */ ALTER ROLE CURRENT_USER SUPERUSER",
        "EXPLAIN ANALYZE SELECT 1",
    ] {
        for result in [read(&database, sql).await, write(&database, sql).await] {
            assert!(matches!(result, Err(Failure::Denied(_))), "{sql}: {result:?}");
        }
        assert!(!server.log().contains(sql), "{sql}");
    }
    let sql = "EXPLAIN SELECT count FROM item";
    assert_eq!(read(&database, sql).await.unwrap().columns, ["QUERY PLAN"]);
    assert!(server.log().contains(sql));
    // Files of the server, by functions: the role has no right to them.
    for sql in ["SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')", "SELECT lo_import('/etc/passwd')"] {
        let result = write(&database, sql).await;
        assert!(matches!(result, Err(Failure::Denied(_))), "{sql}: {result:?}");
    }
}

#[tokio::test]
async fn a_role_with_too_many_rights_is_refused() {
    let database = fresh();
    let name = &database.name;
    assert!(read(&database, "SELECT 1").await.is_ok());
    for (give, take, expected) in [
        (format!("ALTER ROLE {name} SUPERUSER"), format!("ALTER ROLE {name} NOSUPERUSER"), "a superuser"),
        (format!("GRANT postgres TO {name}"), format!("REVOKE postgres FROM {name}"), "a superuser"),
        (format!("ALTER ROLE {name} CREATEROLE"), format!("ALTER ROLE {name} NOCREATEROLE"), "may create roles"),
        (format!("ALTER ROLE {name} REPLICATION"), format!("ALTER ROLE {name} NOREPLICATION"), "may replicate"),
        (
            format!("GRANT pg_execute_server_program TO {name}"),
            format!("REVOKE pg_execute_server_program FROM {name}"),
            "a member of pg_execute_server_program",
        ),
        (
            format!(
                "CREATE ROLE {name}_way; GRANT pg_read_server_files TO {name}_way; ALTER ROLE {name} NOINHERIT; \
                     GRANT {name}_way TO {name}"
            ),
            format!("REVOKE {name}_way FROM {name}"),
            "a member of pg_read_server_files",
        ),
        (
            format!("GRANT pg_write_server_files TO {name}"),
            format!("REVOKE pg_write_server_files FROM {name}"),
            "a member of pg_write_server_files",
        ),
        (
            format!("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {name}"),
            format!("REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM {name}"),
            "may call pg_read_file",
        ),
    ] {
        database.admin(&give);
        for write in [false, true] {
            let result = run(&database.url(), Job { write, ..job("SELECT 1") }).await;
            assert!(failed(&result, expected), "{give}: {result:?}");
            let Err(Failure::Failed { text, .. }) = result else { panic!("{give}") };
            assert!(!text.contains(name.as_str()), "{text}");
        }
        database.admin(&take);
        assert!(read(&database, "SELECT 1").await.is_ok(), "{take}");
    }
}

#[tokio::test]
async fn rows_and_bytes_have_limits() {
    let database = fresh();
    let run = async |sql: &str, max_rows, max_bytes| {
        run(&database.url(), Job { limits: Limits { max_rows, max_bytes, ..limits(20_000) }, ..job(sql) }).await
    };
    let many = "SELECT * FROM generate_series(1, 2000) AS i";
    assert_eq!(run(many, 2_000, 1 << 20).await.unwrap().rows.len(), 2_000);
    assert!(matches!(run(many, 1_999, 1 << 20).await, Err(Failure::Exhausted(_))));
    let bytes = 16 + 1 + 2_000 * (16 + 8);
    assert!(run(many, 2_000, bytes).await.is_ok());
    assert_eq!(run(many, 2_000, bytes - 1).await, Err(Failure::TooLarge(bytes - 1)));
    // The portal stops where the limit is: the server makes no more rows.
    let endless = "WITH RECURSIVE c (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c) SELECT i FROM c";
    let started = Instant::now();
    assert!(matches!(run(endless, 10, 1 << 20).await, Err(Failure::Exhausted(_))));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(run("SELECT repeat('x', 1000000)", 1, 1 << 20).await.is_ok());
    for bomb in
        ["SELECT repeat('x', 100000000)", "SELECT repeat('x', 1100000)", "SELECT decode(repeat('00', 2000000), 'hex')"]
    {
        assert_eq!(run(bomb, 1, 1 << 20).await, Err(Failure::TooLarge(1 << 20)), "{bomb}");
    }
    idle(&database).await;
    let columns = |count: usize| format!("SELECT {}", vec!["1"; count].join(", "));
    assert!(run(&columns(256), 1, 1 << 20).await.is_ok());
    assert!(matches!(run(&columns(257), 1, 1 << 20).await, Err(Failure::Invalid(_))));
}

const ENDLESS: [&str; 5] = [
    "SELECT pg_sleep(3600)::text",
    "WITH RECURSIVE c (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c) SELECT count(*)::text FROM c",
    "SELECT count(*)::text FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
    // One row, then none for ever.
    "SELECT 'a' UNION ALL SELECT pg_sleep(3600)::text",
    "SELECT set_config('statement_timeout', '0', false) UNION ALL SELECT pg_sleep(3600)::text",
];

#[tokio::test]
async fn time_stops_a_statement() {
    let database = fresh();
    for sql in ENDLESS {
        for write in [false, true] {
            let sql = if write { format!("INSERT INTO log {sql}") } else { sql.to_owned() };
            let started = Instant::now();
            let result = run(&database.url(), Job { write, limits: limits(300), ..job(&sql) }).await;
            assert_eq!(result, EXPIRED, "{sql}");
            assert!(started.elapsed() < Duration::from_millis(1_300), "{sql}: {:?}", started.elapsed());
            idle(&database).await;
        }
        // A caller that goes away: the deadline is far.
        let gone = tokio::time::timeout(Duration::from_millis(300), read(&database, sql)).await;
        assert!(gone.is_err(), "{sql}: {gone:?}");
        idle(&database).await;
    }
    // A lock of somebody else.
    let holder = "INSERT INTO log SELECT 'x'::text FROM pg_advisory_xact_lock(1), pg_sleep(1)";
    let (held, waited) = tokio::join!(write(&database, holder), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let wait = job("SELECT 'x' FROM pg_advisory_xact_lock(1)");
        run(&database.url(), Job { write: true, limits: limits(200), ..wait }).await
    });
    assert_eq!((held, waited), (Ok(Rows::default()), EXPIRED));
    assert_eq!(database.admin("SELECT count(*) FROM log"), "1");
    // A server that accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://a@{}/b", silent.local_addr().unwrap());
    assert_eq!(run(&url, Job { limits: limits(200), ..job("SELECT 1") }).await, EXPIRED);
}

#[tokio::test]
async fn with_a_key_a_write_happens_once() {
    let database = fresh();
    let keyed =
        async |key: &str, sql: &str| run(&database.url(), Job { write: true, key: Some(key.into()), ..job(sql) }).await;
    let insert = "INSERT INTO item (name, price) VALUES ('screw', 0.1) RETURNING *, 'NaN'::float4 < 1, '\\xff'::bytea";
    let first = keyed("a", insert).await.unwrap();
    assert_eq!(first.rows.len(), 1);
    assert_eq!(keyed("a", insert).await, Ok(first.clone()));
    assert_eq!(keyed("a", "DELETE FROM item").await, Ok(first));
    assert_eq!(database.admin("SELECT count(*) FROM item"), "3");
    assert_eq!(keyed("b", "DELETE FROM item WHERE name = 'screw'").await, Ok(Rows::default()));
    // What failed is not recorded, and may be tried again.
    assert!(keyed("c", "INSERT INTO item (name) VALUES ('nut')").await.is_err());
    assert!(keyed("c", "INSERT INTO part VALUES (77)").await.is_err());
    assert!(keyed("c", insert).await.is_ok());
    assert_eq!(database.admin("SELECT string_agg(id, ',' ORDER BY id) FROM parole.calls"), "a,b,c");
    // Two at once: one does it, and the other undoes what it did.
    let slow = "INSERT INTO log SELECT 'x' FROM pg_sleep(0.5)";
    let (one, other) = tokio::join!(keyed("d", slow), keyed("d", slow));
    let one_failed = failed(&one, "(23505)") || failed(&other, "(23505)");
    assert!(one_failed && (one.is_ok() || other.is_ok()), "{one:?} {other:?}");
    assert!(keyed("d", slow).await.is_ok());
    assert_eq!(database.admin("SELECT count(*) FROM log"), "1");

    // No statement of a guest sees or changes a record, or makes one that anybody will look for.
    let before = database.admin("SELECT * FROM parole.calls ORDER BY id");
    for key in [None, Some("e".to_owned())] {
        for sql in [
            "SELECT count(*)::text FROM parole.calls",
            "SELECT coalesce(min(id), '0') FROM parole.calls",
            "SELECT coalesce(max(most_common_vals::text), '0') FROM pg_stats WHERE schemaname = 'parole'",
        ] {
            database.admin("ANALYZE parole.calls");
            let run = run(&database.url(), Job { write: true, key: key.clone(), ..job(sql) }).await;
            assert_eq!(run.unwrap().rows, [[text("0")]], "{sql}");
            database.admin("DELETE FROM parole.calls WHERE id = 'e'");
        }
        for sql in [
            "DELETE FROM parole.calls",
            "UPDATE parole.calls SET result = ''",
            "WITH s AS MATERIALIZED (SELECT set_config('parole.call', 'a', true) AS id) \
             DELETE FROM parole.calls USING s WHERE calls.id = s.id",
            "WITH s AS MATERIALIZED (SELECT set_config('parole.call', 'a', true) AS id) \
             UPDATE parole.calls SET result = '' FROM s WHERE calls.id = s.id",
        ] {
            let run = run(&database.url(), Job { write: true, key: key.clone(), ..job(sql) }).await;
            assert_eq!(run, Ok(Rows::default()), "{sql}");
            database.admin("DELETE FROM parole.calls WHERE id = 'e'");
        }
        // Without its policies nothing can be read at all; ours neither, and then nothing is done.
        let sql = "WITH s AS MATERIALIZED (SELECT set_config('row_security', 'off', true)) SELECT '0' FROM s";
        let result = run(&database.url(), Job { write: true, key: key.clone(), ..job(sql) }).await;
        assert_eq!(result.is_ok(), key.is_none(), "{result:?}");
        let sql = "INSERT INTO parole.calls VALUES ('f', '', now())";
        let result = run(&database.url(), Job { write: true, key: key.clone(), ..job(sql) }).await;
        assert!(matches!(result, Err(Failure::Denied(_))), "{result:?}");
        // A temporary table of the same name, and a search path that finds it.
        let sql = "SELECT set_config('search_path', 'pg_temp', true) INTO TEMP calls";
        run(&database.url(), Job { write: true, key: key.clone(), ..job(sql) }).await.unwrap();
        assert_eq!(
            database.admin("SELECT count(*) FROM parole.calls WHERE id = 'e'"),
            u8::from(key.is_some()).to_string()
        );
        database.admin("DELETE FROM parole.calls WHERE id = 'e'");
    }
    assert_eq!(database.admin("SELECT * FROM parole.calls ORDER BY id"), before);

    // A table without its policies, and a role that cannot make one.
    database.own("ALTER TABLE parole.calls NO FORCE ROW LEVEL SECURITY");
    assert!(failed(&keyed("g", "DELETE FROM log").await, "not protected"));
    let poor = Server::shared().database();
    poor.admin(&format!("ALTER DATABASE {0} OWNER TO postgres", poor.name));
    let result = run(&poor.url(), Job { write: true, key: Some("a".into()), ..job("SELECT 1") }).await;
    assert!(failed(&result, "cannot be made"), "{result:?}");
    assert!(write(&poor, "SELECT 1").await.is_ok());
}

#[tokio::test]
async fn ways_to_the_server() {
    let server = Server::shared();
    let database = fresh();
    for way in ["by_scram", "by_md5", "by_password"] {
        let role = format!("{}_{way}", database.name);
        let encryption = if way == "by_md5" { "md5" } else { "scram-sha-256" };
        database.admin(&format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD 'a/b:c'; GRANT {way} TO {role}"
        ));
        let ok = run(&database.url_of(&format!("{role}:a%2Fb%3Ac")), job("SELECT current_user")).await;
        assert_eq!(ok.unwrap().rows, [[text(&role)]], "{way}");
        for (credentials, expected) in
            [(format!("{role}:wrong"), "refused the connection (28P01)"), (role.clone(), "wants a password")]
        {
            let result = run(&database.url_of(&credentials), job("SELECT 1")).await;
            assert!(failed(&result, expected), "{way}: {result:?}");
        }
    }
    let socket = server.socket().to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://{0}@{socket}:{1}/{0}", database.name, server.port());
    assert!(run(&url, job("SELECT 1")).await.is_ok());

    let tls = format!("{}?sslmode=require", database.url());
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let trust = postgres::trust(&[&server.certificate()]).unwrap();
    assert_eq!(postgres::run(&tls, job(sql), &trust).await.unwrap().rows, [[Value::Integer(1)]]);
    assert_eq!(read(&database, sql).await.unwrap().rows, [[Value::Integer(0)]]);
    assert!(failed(&run(&tls, job(sql)).await, "cannot be trusted"));
    let name = tls.replace("127.0.0.1", "localhost");
    assert!(failed(&postgres::run(&name, job(sql), &trust).await, "cannot be trusted"));
    // Canceling goes the same way.
    let sleep = Job { limits: limits(300), ..job(ENDLESS[0]) };
    assert_eq!(postgres::run(&tls, sleep, &trust).await, EXPIRED);
    idle(&database).await;

    // Nothing of the URL is in what a guest is told.
    let nowhere = "postgres://person:hunter2@127.0.0.1:1/place";
    for url in
        [nowhere, &database.url_of("person:hunter2"), "postgres://person:hunter2@nowhere.invalid/place", "hunter2"]
    {
        let Err(Failure::Failed { text, unknown: false }) = run(url, job("SELECT 1")).await else { panic!("{url}") };
        for part in ["person", "hunter2", "127.0.0.1", "nowhere", "place", &database.name] {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown() {
    let database = fresh();
    let url = proxy(Server::shared().port(), &database).await;
    let insert = Job { write: true, ..job("INSERT INTO log VALUES ('a')") };
    let result = run(&url, insert.clone()).await;
    assert!(matches!(result, Err(Failure::Failed { unknown: true, .. })), "{result:?}");
    // With a key it is found out by doing it again.
    let keyed = Job { key: Some("k".into()), ..insert };
    let result = run(&url, keyed.clone()).await;
    assert!(matches!(result, Err(Failure::Failed { unknown: true, .. })), "{result:?}");
    assert_eq!(run(&database.url(), keyed).await, Ok(Rows::default()));
    assert_eq!(database.admin("SELECT count(*) FROM log"), "2");
}

/// A way to the server that breaks when a commit has been sent, after the server has seen it.
async fn proxy(server: u16, database: &Database<'_>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                tokio::select! {
                    read = client.read(&mut up) => {
                        let bytes = &up[..read.unwrap()];
                        server.write_all(bytes).await.unwrap();
                        if bytes.is_empty() { break }
                        if bytes.windows(6).any(|word| word == b"COMMIT") {
                            // Its answer comes here, and goes no further.
                            let _ = server.read(&mut down).await;
                            break;
                        }
                    }
                    read = server.read(&mut down) => {
                        let bytes = &down[..read.unwrap()];
                        client.write_all(bytes).await.unwrap();
                        if bytes.is_empty() { break }
                    }
                }
            }
        }
    });
    format!("postgres://{0}@127.0.0.1:{port}/{0}", database.name)
}
