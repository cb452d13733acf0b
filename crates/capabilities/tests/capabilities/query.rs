//! `query` on SQLite files: what a statement gets, what it is refused, and what stops it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parole_capabilities::backends::sql::engine::{Failure, Job, Limits, Rows, Value};
use parole_capabilities::backends::sql::sqlite;
use rusqlite::Connection;
use tempfile::TempDir;

const SCHEMA: &str = "
    CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, price REAL, image BLOB);
    CREATE INDEX by_price ON item (price);
    INSERT INTO item (name, price, image) VALUES ('nut', 0.5, x'00ff'), ('bolt', 2.0, NULL);
    CREATE TABLE part (item INTEGER REFERENCES item DEFERRABLE INITIALLY DEFERRED);
    CREATE VIEW cheap AS SELECT name FROM item WHERE price < 1;
    CREATE TABLE log (text);
    CREATE TRIGGER logged AFTER INSERT ON item BEGIN INSERT INTO log VALUES (upper(new.name)); END;
    CREATE VIRTUAL TABLE note USING fts5 (text);
    INSERT INTO note VALUES ('the quick fox');
    CREATE VIRTUAL TABLE box USING rtree (id, x0, x1);
    CREATE TABLE n (i);
    WITH RECURSIVE c (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < 2000) INSERT INTO n SELECT i FROM c;
";

pub struct Bench {
    pub dir: TempDir,
    wal: bool,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), wal: false };
        bench.open().execute_batch(SCHEMA).unwrap();
        bench
    }

    fn wal() -> Self {
        let bench = Self { wal: true, ..Self::new() };
        bench.open().execute_batch("PRAGMA journal_mode = WAL").unwrap();
        bench
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("test.db")
    }

    pub fn open(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn one(&self, sql: &str) -> i64 {
        self.open().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub async fn read(&self, sql: &str) -> Result<Rows, Failure> {
        sqlite::run(self.path(), job(sql)).await
    }

    pub async fn write(&self, sql: &str) -> Result<Rows, Failure> {
        sqlite::run(self.path(), Job { write: true, ..job(sql) }).await
    }

    /// Nothing holds the file any more, soon.
    async fn is_free(&self) {
        let connection = self.open();
        let until = Instant::now() + Duration::from_secs(5);
        while let Err(error) = connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK") {
            assert!(Instant::now() < until, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn limits(ms: u64) -> Limits {
    Limits { max_rows: 1_000, max_bytes: 1 << 20, deadline: Instant::now() + Duration::from_millis(ms) }
}

pub fn job(sql: &str) -> Job {
    Job { sql: sql.into(), parameters: vec![], write: false, key: None, limits: limits(20_000) }
}

fn with(sql: &str, parameters: Vec<Value>) -> Job {
    Job { parameters, ..job(sql) }
}

pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn denied(result: &Result<Rows, Failure>) -> bool {
    matches!(result, Err(Failure::Denied(_)))
}

const EXPIRED: Result<Rows, Failure> = Err(Failure::Expired { unknown: false });

#[tokio::test]
async fn rows_come_as_they_are() {
    let bench = Bench::new();
    let rows = bench.read("SELECT id, name, price, image FROM item ORDER BY id").await.unwrap();
    assert_eq!(rows.columns, ["id", "name", "price", "image"]);
    assert_eq!(
        rows.rows,
        [
            vec![Value::Integer(1), text("nut"), Value::Real(0.5), Value::Blob(vec![0, 255])],
            vec![Value::Integer(2), text("bolt"), Value::Real(2.0), Value::Null],
        ]
    );
    let given = vec![Value::Null, Value::Integer(i64::MIN), Value::Real(1e300), text("a\0é"), Value::Blob(vec![1, 0])];
    let rows = sqlite::run(bench.path(), with("SELECT ?1, ?2, ?3, ?4, ?5", given.clone())).await.unwrap();
    assert_eq!(rows.rows, [given]);
    let rows = sqlite::run(bench.path(), with("SELECT ?2 || ?1", vec![text("b"), text("a")])).await.unwrap();
    assert_eq!(rows.rows, [[text("ab")]]);
    assert_eq!(bench.write("DELETE FROM log").await, Ok(Rows::default()));
    let rows = bench.write("INSERT INTO item (name) VALUES ('screw') RETURNING id").await.unwrap();
    assert_eq!(rows.rows, [[Value::Integer(3)]]);
    assert_eq!(bench.one("SELECT count(*) FROM log WHERE text = 'SCREW'"), 1);
    for bad in ["SELECT CAST(x'ff' AS TEXT) AS bad"] {
        let Err(Failure::Failed { text, unknown: false }) = bench.read(bad).await else { panic!("{bad}") };
        assert_eq!(text, "column `bad` has text that is not UTF-8: cast it to a blob");
    }
}

#[tokio::test]
async fn what_a_reader_may_say() {
    for bench in [Bench::new(), Bench::wal()] {
        for sql in [
            "SELECT name FROM cheap",
            "WITH t AS (SELECT 1 AS a) SELECT * FROM t",
            "VALUES (1)",
            "SELECT 1; -- and no more\n /* at all */ ;",
            "EXPLAIN QUERY PLAN SELECT * FROM item WHERE price = 1",
            "EXPLAIN SELECT 1",
            "SELECT text FROM note WHERE note MATCH 'quick'",
            "SELECT id FROM box WHERE x0 > 0",
            "SELECT count(*) FROM n",
            "SELECT json_extract('{\"a\":1}', '$.a'), group_concat(json_quote(i)) FROM n",
            "SELECT value FROM json_each('[1,2]')",
            "SELECT sum(i) OVER (ORDER BY i) FROM n LIMIT 5",
            "SELECT DISTINCT i % 7 FROM n ORDER BY 1 DESC",
            "PRAGMA table_info(item)",
            "PRAGMA table_list",
            "PRAGMA index_list('item')",
            "SELECT name FROM pragma_table_xinfo('item')",
            "SELECT sql FROM sqlite_schema",
            "SELECT name FROM dbstat LIMIT 1",
        ] {
            let result = bench.read(sql).await;
            assert!(result.as_ref().is_ok_and(|rows| !rows.columns.is_empty()), "{sql}: {result:?}");
        }
    }
}

#[tokio::test]
async fn what_no_reader_may_do_and_a_writer_may() {
    for bench in [Bench::new(), Bench::wal()] {
        for sql in [
            "INSERT INTO item (name) VALUES ('x') RETURNING id",
            "REPLACE INTO item (id, name) VALUES (9, 'y')",
            "UPDATE item SET price = 3 WHERE id = 1",
            "INSERT INTO item (id, name) VALUES (1, 'z') ON CONFLICT DO UPDATE SET price = 4",
            "WITH t AS (SELECT 1) DELETE FROM log",
            "INSERT INTO note VALUES ('a brown dog')",
            "INSERT INTO note (note) VALUES ('optimize')",
            "INSERT INTO box VALUES (1, 2, 3)",
            "DELETE FROM item",
        ] {
            assert!(denied(&bench.read(sql).await), "{sql}");
            let result = bench.write(sql).await;
            assert!(result.is_ok(), "{sql}: {result:?}");
        }
        assert_eq!(bench.one("SELECT count(*) FROM item"), 0);
        assert_eq!(bench.one("SELECT count(*) FROM note"), 2);
    }
}

/// Refused to readers and writers alike; FILE is the name of a file that isn't there.
const REFUSED: [&str; 64] = [
    "ATTACH 'FILE' AS a",
    "VACUUM INTO 'FILE'",
    "ATTACH ':memory:' AS a",
    "DETACH main",
    "VACUUM",
    "SELECT load_extension('x')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT fts3_tokenizer('simple', x'4141414141414141')",
    "SELECT LOAD_EXTENSION('x', 'y')",
    "SELECT json_pretty('[]', 'x')",
    "SELECT json_group_array(i) FROM n",
    "PRAGMA writable_schema = ON",
    "PRAGMA database_list",
    "SELECT * FROM pragma_database_list",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode",
    "PRAGMA query_only = OFF",
    "PRAGMA trusted_schema = ON",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA user_version = 7",
    "PRAGMA hard_heap_limit = 1",
    "PRAGMA soft_heap_limit = 1",
    "PRAGMA main.cache_size = 1000000",
    "PRAGMA integrity_check",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA optimize",
    "PRAGMA data_version = 4",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "END",
    "SAVEPOINT a",
    "RELEASE a",
    "CREATE TABLE a (b)",
    "CREATE TEMP TABLE a (b)",
    "CREATE TABLE a AS SELECT 1",
    "CREATE VIRTUAL TABLE a USING fts5 (b)",
    "CREATE VIRTUAL TABLE a USING dbstat",
    "CREATE VIEW a AS SELECT 1",
    "CREATE TEMP VIEW a AS SELECT 1",
    "CREATE TRIGGER a AFTER INSERT ON log BEGIN DELETE FROM item; END",
    "CREATE TEMP TRIGGER a AFTER INSERT ON log BEGIN DELETE FROM item; END",
    "CREATE INDEX a ON log (text)",
    "DROP TABLE log",
    "DROP VIEW cheap",
    "DROP INDEX by_price",
    "DROP TRIGGER logged",
    "ALTER TABLE log RENAME TO other",
    "ALTER TABLE log ADD COLUMN b",
    "REINDEX",
    "ANALYZE",
    "UPDATE sqlite_schema SET sql = ''",
    "DELETE FROM sqlite_master",
    "UPDATE sqlite_sequence SET seq = 0",
    "INSERT INTO sqlite_temp_master VALUES (1, 2, 3, 4, 5)",
    "SELECT * FROM parole_calls",
    "SELECT count(*) FROM main.PAROLE_CALLS",
    "SELECT 1 FROM item, parole_calls",
    "SELECT (SELECT result FROM parole_calls)",
    "DELETE FROM parole_calls",
    "INSERT INTO parole_calls VALUES ('a', 'b', 1)",
    "REPLACE INTO parole_calls SELECT 'k', '{}', 0",
    "UPDATE parole_calls SET result = ''",
    "UPDATE item SET name = r.result FROM parole_calls AS r",
];

#[tokio::test]
async fn what_nobody_may_do() {
    let bench = Bench::new();
    bench.write("DELETE FROM log").await.unwrap();
    sqlite::run(bench.path(), Job { write: true, key: Some("k".into()), ..job("SELECT 1") }).await.unwrap();
    let before = std::fs::read(bench.path()).unwrap();
    let aside = bench.dir.path().join("aside.db");
    let aside = aside.to_str().unwrap();
    for sql in REFUSED {
        let sql = sql.replace("FILE", aside);
        let result = bench.write(&sql).await;
        // SQLite itself refuses to change its schema tables; about VACUUM the authorizer isn't asked, and the transaction
        // stops it.
        let elsewhere = sql.contains("VACUUM") || sql.contains("sqlite_");
        assert!(denied(&result) || result.is_err() && elsewhere, "{sql}: {result:?}");
        assert!(bench.read(&sql).await.is_err(), "{sql}");
    }
    // The shadow tables of an index, which are tables like others to the authorizer.
    let result = bench.write("UPDATE note_data SET block = x'00'").await;
    assert!(result.is_err(), "{result:?}");
    assert_eq!(std::fs::read(bench.path()).unwrap(), before);
    assert_eq!(std::fs::read_dir(bench.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_cannot_be_right_is_said() {
    let bench = Bench::new();
    for sql in
        ["", " ", "-- nothing", ";", "SELECT", "SELEC 1", "SELECT nothing", "SELECT * FROM nowhere", "SELECT \"text\""]
    {
        let result = bench.write(sql).await;
        assert!(matches!(result, Err(Failure::Invalid(_))), "{sql}: {result:?}");
    }
    for sql in ["SELECT 1; SELECT 2", "DELETE FROM log; DELETE FROM item", "; SELECT 1; SELECT 2", "SELECT 1; COMMIT"] {
        let result = bench.write(sql).await;
        assert!(matches!(result, Err(Failure::Invalid(_) | Failure::Denied(_))), "{sql}: {result:?}");
    }
    assert_eq!(bench.one("SELECT count(*) FROM item"), 2);
    for (sql, given) in [("SELECT ?1", 0), ("SELECT ?1", 2), ("SELECT 1", 1), ("SELECT ?3", 1), ("SELECT :a, @b", 3)] {
        let result = sqlite::run(bench.path(), with(sql, vec![Value::Null; given])).await;
        assert!(matches!(result, Err(Failure::Invalid(_))), "{sql}: {result:?}");
    }
    assert!(sqlite::run(bench.path(), with("SELECT :a, @b", vec![Value::Null; 2])).await.is_ok());
    let nan = sqlite::run(bench.path(), with("SELECT ?1", vec![Value::Real(f64::NAN)])).await;
    assert!(matches!(nan, Err(Failure::Invalid(_))), "{nan:?}");
    let result = bench.write("INSERT INTO item (name) VALUES ('nut')").await;
    assert_eq!(result, Err(Failure::Failed { text: "UNIQUE constraint failed: item.name".into(), unknown: false }));
    // A constraint that is looked at by the commit.
    let result = bench.write("INSERT INTO part VALUES (77)").await;
    assert!(matches!(result, Err(Failure::Failed { unknown: false, .. })), "{result:?}");
    assert_eq!(bench.one("SELECT count(*) FROM part"), 0);
}

#[tokio::test]
async fn rows_and_bytes_have_limits() {
    let bench = Bench::new();
    let run = async |sql: &str, max_rows, max_bytes| {
        let limits = Limits { max_rows, max_bytes, ..limits(20_000) };
        sqlite::run(bench.path(), Job { limits, ..job(sql) }).await
    };
    assert_eq!(run("SELECT i FROM n", 2_000, 1 << 20).await.unwrap().rows.len(), 2_000);
    assert!(matches!(run("SELECT i FROM n", 1_999, 1 << 20).await, Err(Failure::Exhausted(_))));
    // One column name and 2000 rows of one value.
    let bytes = 16 + 1 + 2_000 * (16 + 8);
    assert!(run("SELECT i FROM n", 2_000, bytes).await.is_ok());
    assert_eq!(run("SELECT i FROM n", 2_000, bytes - 1).await, Err(Failure::TooLarge(bytes - 1)));
    assert_eq!(run("SELECT randomblob(5000000)", 1, 4 << 20).await, Err(Failure::TooLarge(4 << 20)));
    assert!(run("SELECT length(randomblob(4000000))", 1, 4 << 20).await.is_ok());
    for bomb in [
        "SELECT length(zeroblob(2000000000))",
        "SELECT length(randomblob(1000000000))",
        "SELECT length(printf('%*s', 1000000000, ''))",
        "SELECT length(hex(zeroblob(900000)))",
        "SELECT length(replace(hex(zeroblob(400000)), '0', '0123456789'))",
        "SELECT length(replace(hex(zeroblob(400)), '0', hex(zeroblob(400000))))",
        "WITH RECURSIVE c (t) AS (VALUES ('x') UNION ALL SELECT t || t FROM c) SELECT length(t) FROM c",
        "SELECT length(group_concat(hex(zeroblob(400000)))) FROM n",
    ] {
        let result = run(bomb, 1_000, 1 << 10).await;
        assert_eq!(result, Err(Failure::TooLarge(1 << 20)), "{bomb}");
    }
    // Thousands of values that are long together.
    let sums = |terms: std::ops::Range<usize>, size: usize| {
        let terms: Vec<String> = terms.map(|term| format!("length(hex(zeroblob({})))", size + term)).collect();
        let sums: Vec<String> = terms.chunks(16).map(|terms| terms.join(" + ")).collect();
        format!("SELECT {}", sums.join(", "))
    };
    let result = run(&sums(0..100, 400_000), 10, 1 << 20).await;
    assert!(result.is_ok(), "{result:?}");
    assert!(run(&sums(0..4_000, 10_000), 250, 1 << 20).await.is_ok());
    let result = run(&sums(0..4_000, 400_000), 250, 1 << 20).await;
    assert!(matches!(result, Err(Failure::TooLarge(65_536))), "{result:?}");
    let columns = |count: usize| format!("SELECT {}", vec!["1"; count].join(", "));
    assert!(run(&columns(256), 1, 1 << 20).await.is_ok());
    assert!(matches!(run(&columns(257), 1, 1 << 20).await, Err(Failure::Invalid(_))));
    let deep = |depth: usize| format!("SELECT {}1", "1 + ".repeat(depth));
    assert!(run(&deep(480), 1, 1 << 20).await.is_ok());
    assert!(run(&deep(501), 1, 1 << 20).await.is_err());
    let nested = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(run(&nested(20), 1, 1 << 20).await.is_ok());
    assert!(run(&nested(10_000), 1, 1 << 20).await.is_err());
    let many = |count: usize| vec!["SELECT 1"; count].join(" UNION ALL ");
    assert!(run(&many(100), 100, 1 << 20).await.is_ok());
    assert!(run(&many(101), 101, 1 << 20).await.is_err());
    assert!(run("SELECT 'a' LIKE 'a%'", 1, 1 << 20).await.is_ok());
    assert!(run(&format!("SELECT 'a' LIKE '{}'", "a%".repeat(200)), 1, 1 << 20).await.is_err());
}

const ENDLESS: [&str; 6] = [
    "WITH RECURSIVE c (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c",
    "SELECT count(*) FROM n a, n b, n c, n d",
    "SELECT a.i FROM n a, n b, n c, n d ORDER BY a.i + b.i + c.i + d.i",
    "SELECT count(DISTINCT a.i * b.i + c.i * d.i) FROM n a, n b, n c, n d",
    "WITH RECURSIVE c (i) AS (VALUES (1) UNION SELECT i + 1 FROM c) SELECT max(i) FROM c",
    // While rows are fetched: one row, then none for ever.
    "SELECT 1 UNION ALL SELECT 1 FROM n a, n b, n c, n d WHERE a.i + b.i + c.i + d.i < 0",
];

#[tokio::test]
async fn time_stops_a_statement() {
    let bench = Bench::new();
    for sql in ENDLESS {
        let started = Instant::now();
        let result = sqlite::run(bench.path(), Job { limits: limits(200), ..job(sql) }).await;
        assert_eq!(result, EXPIRED, "{sql}");
        assert!(started.elapsed() < Duration::from_secs(1), "{sql}: {:?}", started.elapsed());
        let sql = format!("INSERT INTO log {sql}");
        let result = sqlite::run(bench.path(), Job { write: true, limits: limits(200), ..job(&sql) }).await;
        assert_eq!(result, EXPIRED, "{sql}");
        bench.is_free().await;
    }
    assert_eq!(bench.one("SELECT count(*) FROM log"), 0);
    assert!(bench.read("SELECT 1").await.is_ok());
}

#[tokio::test]
async fn functions_that_could_take_hours_are_guarded() {
    let bench = Bench::new();
    bench
        .open()
        .execute_batch(
            "CREATE INDEX replaced ON item (replace(price, '.', ','));
             CREATE VIEW trimmed AS SELECT trim(name, 'n') AS name FROM item ORDER BY id",
        )
        .unwrap();
    for (sql, value) in [
        ("instr('héllo', 'l')", Value::Integer(3)),
        ("instr(x'00c3a901', x'01')", Value::Integer(4)),
        ("instr(NULL, 'a')", Value::Null),
        ("instr(12.5, '.')", Value::Integer(3)),
        ("replace(1.5, '.', ',')", text("1,5")),
        ("replace(1e20, '0', 'o')", text("1.oe+2o")),
        ("replace('a', '', 'b')", text("a")),
        ("trim(' a ')", text("a")),
        ("trim('xyaéx', 'éyx')", text("a")),
        ("ltrim('xax', 'x') || rtrim('xbx', 'x')", text("axxb")),
        ("unhex('41-42', '-')", Value::Blob(b"AB".to_vec())),
        ("(SELECT name FROM trimmed)", text("ut")),
        ("(SELECT id FROM item WHERE replace(price, '.', ',') = '2,0')", Value::Integer(2)),
        ("instr(printf('%.*c', 900000, 'a'), 'b')", Value::Integer(0)),
    ] {
        assert_eq!(bench.read(&format!("SELECT {sql}")).await.unwrap().rows, [[value]], "{sql}");
    }
    bench.write("INSERT INTO item (name, price) VALUES ('new', 12.25)").await.unwrap();
    assert_eq!(bench.open().query_row("PRAGMA integrity_check", [], |row| row.get(0)), Ok("ok".to_owned()));
    for function in ["instr(a, b)", "trim(a, b)", "ltrim(a, b)", "rtrim(a, b)", "replace(a, b, 'c')", "unhex(a, b)"] {
        let sql = "SELECT CALL FROM (SELECT printf('%.*c', 500000, 'x') AS a, printf('%.*c', 400000, 'y') || 'x' AS b)";
        let result = bench.read(&sql.replace("CALL", function)).await;
        assert!(matches!(&result, Err(Failure::Failed { text, .. }) if text.contains("too long")), "{result:?}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_it_too() {
    let bench = Bench::new();
    let sql = format!("INSERT INTO log {}", ENDLESS[0]);
    let run = sqlite::run(bench.path(), Job { write: true, ..job(&sql) });
    assert!(tokio::time::timeout(Duration::from_millis(200), run).await.is_err());
    bench.is_free().await;
    assert_eq!(bench.one("SELECT count(*) FROM log"), 0);
}

#[tokio::test]
async fn a_lock_is_waited_for_until_the_deadline() {
    for bench in [Bench::new(), Bench::wal()] {
        let other = bench.open();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let started = Instant::now();
        let write = |ms| Job { write: true, limits: limits(ms), ..job("DELETE FROM item") };
        assert_eq!(sqlite::run(bench.path(), write(200)).await, EXPIRED);
        assert!(started.elapsed() < Duration::from_secs(1));
        // Readers are not kept out.
        assert!(bench.read("SELECT 1 FROM item").await.is_ok());
        let (result, ()) = tokio::join!(sqlite::run(bench.path(), write(20_000)), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            other.execute_batch("ROLLBACK").unwrap();
        });
        assert_eq!(result, Ok(Rows::default()));
        // A reader that the commit has to wait for.
        if !bench.wal {
            other.execute_batch("BEGIN; SELECT * FROM log").unwrap();
            let result = sqlite::run(bench.path(), Job { limits: limits(200), ..write(0) }).await;
            assert_eq!(result, EXPIRED);
        }
    }
}

#[tokio::test]
async fn only_a_database_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::write(root.join("text.db"), "this is not a database, and it is long enough to be sure of that".repeat(9))
        .unwrap();
    std::fs::write(root.join("empty.db"), "").unwrap();
    std::fs::create_dir(root.join("dir.db")).unwrap();
    std::os::unix::fs::symlink(root.join("empty.db"), root.join("link.db")).unwrap();
    std::os::unix::fs::symlink(&root, root.join("way")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe.db")).status().unwrap().success());
    for (name, expected) in [
        ("text.db", "the file is not an SQLite database"),
        ("dir.db", "the database is not a plain file"),
        ("pipe.db", "the database is not a plain file"),
        ("missing.db", "the database is missing"),
        ("link.db", "the database is a symbolic link"),
        ("way/empty.db", "the database, or a file beside it, cannot be opened"),
    ] {
        for write in [false, true] {
            let started = Instant::now();
            let sql = "SELECT count(*) FROM sqlite_schema";
            let result = sqlite::run(root.join(name), Job { write, ..job(sql) }).await;
            assert_eq!(result, Err(Failure::Failed { text: expected.into(), unknown: false }), "{name}");
            assert!(started.elapsed() < Duration::from_secs(2));
        }
    }
    assert!(!root.join("missing.db").exists());
    assert!(sqlite::run(root.join("empty.db"), job("SELECT 1")).await.is_ok());
    for path in ["empty.db", "file:empty.db?mode=rwc", "file:///etc/passwd", ":memory:", ""] {
        assert!(sqlite::run(path.into(), job("SELECT 1")).await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn with_a_key_a_write_happens_once() {
    for bench in [Bench::new(), Bench::wal()] {
        let run = async |key: &str, sql: &str| {
            sqlite::run(bench.path(), Job { write: true, key: Some(key.into()), ..job(sql) }).await
        };
        let insert = "INSERT INTO item (name, price, image) VALUES ('screw', 0.1, x'ff') RETURNING *";
        let first = run("a", insert).await.unwrap();
        assert_eq!(first.rows.len(), 1);
        assert_eq!(run("a", insert).await, Ok(first.clone()));
        // The key says what was done; the statement isn't looked at again.
        assert_eq!(run("a", "DELETE FROM item").await, Ok(first));
        assert_eq!(bench.one("SELECT count(*) FROM item"), 3);
        assert_eq!(run("b", "DELETE FROM item WHERE name = 'screw'").await, Ok(Rows::default()));
        assert_eq!(run("c", insert).await.unwrap().rows.len(), 1);
        assert_eq!(bench.one("SELECT count(*) FROM parole_calls"), 3);
        // What failed is not recorded, and may be tried again.
        assert!(run("d", insert).await.is_err());
        run("e", "DELETE FROM item WHERE name = 'screw'").await.unwrap();
        assert!(run("d", insert).await.is_ok());
        // A result that is not handed out is not recorded either.
        let limits = Limits { max_rows: 0, ..limits(20_000) };
        let job = Job { write: true, key: Some("f".into()), limits, ..job("DELETE FROM item RETURNING id") };
        assert!(matches!(sqlite::run(bench.path(), job).await, Err(Failure::Exhausted(_))));
        assert_eq!(bench.one("SELECT count(*) FROM parole_calls WHERE id = 'f'"), 0);
        assert_eq!(bench.one("SELECT count(*) FROM item"), 3);
    }
}

/// The child of the test below: it writes with one key after the other until it is killed.
#[tokio::test]
#[ignore = "a process of its own"]
#[expect(clippy::disallowed_methods, reason = "it is told by its environment where the database is")]
async fn killed_child() {
    let Ok(path) = std::env::var("PAROLE_TEST_DATABASE") else { return };
    for round in 0.. {
        let job = Job { write: true, key: Some(round.to_string()), ..job("INSERT INTO log VALUES (1)") };
        sqlite::run(path.clone().into(), job).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_has_written_all_or_nothing() {
    for (number, bench) in [Bench::new(), Bench::wal(), Bench::new(), Bench::wal()].into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "query::killed_child", "--ignored"])
            .env("PAROLE_TEST_DATABASE", bench.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(400 + 37 * number as u64)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let count = |sql| bench.one(sql);
        let done = count("SELECT count(*) FROM log");
        assert!(done > 0);
        assert_eq!(done, count("SELECT count(*) FROM parole_calls"));
        for round in 0..=done {
            let job = Job { write: true, key: Some(round.to_string()), ..job("INSERT INTO log VALUES (1)") };
            sqlite::run(bench.path(), job).await.unwrap();
        }
        assert_eq!(count("SELECT count(*) FROM log"), done + 1);
    }
}
