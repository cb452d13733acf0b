//! `query` on SQLite files that lie in a place where SQLite cannot do what it would have to, and what a refusal says.

use std::path::Path;

use parole_capabilities::backends::sql::engine::{Failure, Job};
use parole_capabilities::backends::sql::sqlite;

use crate::query::{Bench, job, text};

/// Work as a user without rights, on a thread of its own, whose threads are that user's too.
fn as_somebody<T: Send>(work: impl Future<Output = T> + Send) -> T {
    use rustix::fs::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let (user, group) = (Uid::from_raw(54_321), Gid::from_raw(54_321));
                set_thread_groups(&[]).unwrap();
                set_thread_res_gid(group, group, group).unwrap();
                set_thread_res_uid(user, user, user).unwrap();
            }
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
        });
        work.join().unwrap()
    })
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A reader of a database that SQLite could only read by writing is told that, and not that it may not write.
#[test]
fn a_directory_that_may_not_be_written() {
    let bench = Bench::new();
    let said = |expected: &str| {
        set_mode(&bench.path(), 0o644);
        set_mode(bench.dir.path(), 0o555);
        let result = as_somebody(sqlite::run(bench.path(), job("SELECT name FROM item")));
        let write = Job { write: true, ..job("DELETE FROM item") };
        let written = as_somebody(sqlite::run(bench.path(), write));
        set_mode(bench.dir.path(), 0o755);
        assert!(matches!(written, Err(Failure::Failed { unknown: false, .. })), "{written:?}");
        match result {
            Ok(rows) => assert!(expected.is_empty() && rows.rows.len() == 2),
            Err(Failure::Failed { text, unknown: false }) => {
                assert!(
                    !expected.is_empty() && text.contains(expected) && !text.contains("cannot be written"),
                    "{text}"
                );
            }
            other => panic!("{other:?}"),
        }
    };
    // The twin: nothing has to be written.
    said("");
    bench.open().execute_batch("PRAGMA journal_mode = WAL").unwrap();
    said("may not make any");
    bench.open().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    said("");
    // A writer that dies with its journal beside the file, which is what a copy of both is.
    let hot = |from: &Path| from.with_file_name(format!("{}-journal", from.file_name().unwrap().to_str().unwrap()));
    let connection = bench.open();
    connection
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN; UPDATE item SET image = zeroblob(500000); UPDATE log SET text = 'x'",
        )
        .unwrap();
    let aside = tempfile::tempdir().unwrap();
    for file in [bench.path(), hot(&bench.path())] {
        std::fs::copy(&file, aside.path().join(file.file_name().unwrap())).unwrap();
    }
    connection.execute_batch("ROLLBACK").unwrap();
    drop(connection);
    for file in [bench.path(), hot(&bench.path())] {
        std::fs::copy(aside.path().join(file.file_name().unwrap()), &file).unwrap();
        set_mode(&file, 0o644);
    }
    said("a writer died");
}

#[tokio::test]
async fn what_is_refused_says_what_to_write_instead() {
    let bench = Bench::new();
    let Err(Failure::Denied(said)) = bench.write("SELECT json_group_array(name) FROM item").await else { panic!() };
    assert!(said.contains("'[' || group_concat(json_quote(x)) || ']'"), "{said}");
    let sql = "SELECT '[' || group_concat(json_quote(name)) || ']' FROM (SELECT name FROM item ORDER BY id)";
    assert_eq!(bench.read(sql).await.unwrap().rows, [[text("[\"nut\",\"bolt\"]")]]);
    let sql = "SELECT '{' || group_concat(json_quote(name) || ':' || json_quote(id)) || '}' FROM (SELECT * FROM item ORDER BY id)";
    assert_eq!(bench.read(sql).await.unwrap().rows, [[text("{\"nut\":1,\"bolt\":2}")]]);
}
