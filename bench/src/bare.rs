//! The baselines: an embedder of wasmtime that does nothing but call, and the same SQLite on the same disk.

use std::fs::File;
use std::hint::black_box;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use parole_capabilities::Error;
use rusqlite::Connection;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store, StoreContextMut};

/// The engine that Parole has, with the guest in it.
pub struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
}

impl Bare {
    /// `file` is what `read-file` reads, by its path and nothing else.
    pub fn new(guest: &[u8], file: &Path) -> Self {
        let engine = Engine::new(&parole_runtime::engine::config().unwrap()).unwrap();
        let component = Component::new(&engine, guest).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        linker.instance("parole:capabilities/types@0.1.0").unwrap();
        let mut print = linker.instance("parole:capabilities/print@0.1.0").unwrap();
        print
            .func_wrap("print", |_: StoreContextMut<'_, ()>, (text,): (String,)| {
                black_box(text);
                Ok(())
            })
            .unwrap();
        let mut input = linker.instance("parole:capabilities/input@0.1.0").unwrap();
        input
            .func_wrap_async("input", |_: StoreContextMut<'_, ()>, (prompt,): (String,)| {
                Box::new(async move {
                    black_box(prompt);
                    std::future::pending::<()>().await;
                    Ok((Ok::<String, Error>(String::new()),))
                })
            })
            .unwrap();
        let mut read = linker.instance("parole:capabilities/read-file@0.1.0").unwrap();
        let file = file.to_owned();
        read.func_wrap("read-file", move |_: StoreContextMut<'_, ()>, (path,): (String,)| {
            black_box(path);
            Ok((std::fs::read(&file).map_err(|_| Error::NotFound),))
        })
        .unwrap();
        let pre = linker.instantiate_pre(&component).unwrap();
        Self { engine, pre }
    }

    /// A fresh instance that calls its import so many times.
    pub async fn run(&self, times: u32) {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(1 << 60);
        let instance = self.pre.instantiate_async(&mut store).await.unwrap();
        let run = instance.get_typed_func::<(u32,), ()>(&mut store, "run").unwrap();
        run.call_async(&mut store, (times,)).await.unwrap();
    }
}

/// One table in a database with the settings of the store.
pub struct Rows(Connection);

impl Rows {
    pub fn new(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("rows.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16384;
                 PRAGMA wal_autocheckpoint=1000;
                 CREATE TABLE rows (run BLOB NOT NULL, number INTEGER NOT NULL, bytes BLOB NOT NULL,
                                    PRIMARY KEY (run, number)) STRICT, WITHOUT ROWID;",
            )
            .unwrap();
        Self(connection)
    }

    /// One durable commit of so many rows of so many bytes.
    pub fn commit(&mut self, first: u64, rows: u64, bytes: usize) {
        let bytes = vec![7_u8; bytes];
        let transaction = self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        for number in first..first + rows {
            let mut insert = transaction.prepare_cached("INSERT INTO rows VALUES (x'01', ?, ?)").unwrap();
            insert.execute(rusqlite::params![number.cast_signed(), bytes]).unwrap();
        }
        transaction.commit().unwrap();
    }
}

/// A file of one page that is written again and again.
pub struct Disk(File);

impl Disk {
    pub fn new(dir: &Path) -> Self {
        Self(File::create(dir.join("disk")).unwrap())
    }

    pub fn sync(&mut self) {
        self.0.rewind().unwrap();
        self.0.write_all(&[7; 4096]).unwrap();
        self.0.sync_data().unwrap();
    }
}
