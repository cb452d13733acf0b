//! Looks into a database for what is running out, and orders it there. Two more exports run any statement.
//!
//!     parole run sql.wasm --level trusted --database 'shop=sqlite:shop.db?mode=rw'

use parole_guest::query::{Rows, Value};
use parole_guest::{Error, print, query};

#[allow(missing_docs, reason = "generated")]
mod exports {
    wit_bindgen::generate!({
        inline: "
            package example:sql;

            world sql {
                /// Runs any statement with texts as parameters and prints what it answers, an error too.
                export statement: func(database: string, sql: string, parameters: list<string>);
                /// Runs the same statement again and again, and says how many rows came.
                export many: func(database: string, sql: string, n: u32) -> result<u64, string>;
            }
        ",
    });
}

struct Sql;

impl exports::Guest for Sql {
    fn statement(database: String, sql: String, parameters: Vec<String>) {
        let parameters: Vec<Value> = parameters.into_iter().map(Value::from).collect();
        match query(&database, &sql, &parameters) {
            Ok(rows) => table(&rows),
            Err(error) => print(&error.to_string()),
        }
    }

    fn many(database: String, sql: String, n: u32) -> Result<u64, String> {
        let mut rows = 0;
        for _ in 0..n {
            rows += query(&database, &sql, &[]).map_err(|error| error.to_string())?.len() as u64;
        }
        Ok(rows)
    }
}

fn run() -> Result<(), Error> {
    let few = query("shop", "SELECT item, count FROM stock WHERE count < ?1 ORDER BY item", &[10.into()])?;
    for row in &few {
        let (item, count) = (row.text("item")?, row.integer("count")?);
        let order = 100 - count;
        // Whatever an item is called, it is a value and never SQL: one of them has a quote in it.
        query("shop", "INSERT OR REPLACE INTO orders VALUES (?1, ?2)", &[item.into(), order.into()])?;
        print(&format!("{item}: {count} left, {order} ordered"));
    }
    Ok(())
}

fn table(rows: &Rows) {
    print(&rows.columns.join("\t"));
    for row in rows {
        let values: Vec<String> = row.values().iter().map(shown).collect();
        print(&values.join("\t"));
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => real.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

exports::export!(Sql with_types_in exports);
parole_guest::export!(run);
