//! Which kinds of statement are sent. In PostgreSQL's grammar the first word of a statement says its kind, and no
//! statement that begins with one of these words is of another kind; what comes before it can only be space, comments
//! and the brackets of a query. `SELECT … INTO` makes a table where the role may make one.

use crate::backends::sql::engine::Failure;

const KINDS: [&str; 8] = ["DELETE", "INSERT", "MERGE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH"];

pub(super) fn check(sql: &str) -> Result<(), Failure> {
    let mut rest = space(sql)?;
    while let Some(inner) = rest.strip_prefix('(') {
        rest = space(inner)?;
    }
    let (mut word, mut after) = split(rest);
    // Of EXPLAIN only the plain form: it has options that run the statement, and statements that are not in the list.
    if word.eq_ignore_ascii_case("EXPLAIN") {
        (word, after) = split(space(after)?);
        if word.eq_ignore_ascii_case("VERBOSE") {
            (word, _) = split(space(after)?);
        }
    }
    if word.is_empty() && rest.is_empty() {
        return Err(Failure::Invalid("there is no statement".into()));
    }
    if KINDS.iter().any(|kind| kind.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    let kinds = KINDS.join(", ");
    Err(Failure::Denied(format!("only statements that begin with {kinds} or a plain EXPLAIN of one are allowed")))
}

/// The first word, as the server's lexer sees one, and what follows it.
fn split(sql: &str) -> (&str, &str) {
    let of_word =
        |character: char| character.is_ascii_alphanumeric() || "_$".contains(character) || !character.is_ascii();
    sql.split_at(sql.find(|character| !of_word(character)).unwrap_or(sql.len()))
}

/// What follows white space and comments.
fn space(sql: &str) -> Result<&str, Failure> {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.trim_start_matches(|character| character != '\n' && character != '\r');
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = closed(comment).ok_or_else(|| Failure::Invalid("a comment is not closed".into()))?;
        } else {
            return Ok(rest);
        }
    }
}

/// What follows a comment that has begun; comments nest.
fn closed(comment: &str) -> Option<&str> {
    let mut depth = 1_usize;
    let mut rest = comment;
    loop {
        rest = rest.get(rest.find(['*', '/'])?..)?;
        if let Some(after) = rest.strip_prefix("*/") {
            (rest, depth) = (after, depth - 1);
        } else if let Some(after) = rest.strip_prefix("/*") {
            (rest, depth) = (after, depth + 1);
        } else {
            rest = rest.get(1..)?;
        }
        if depth == 0 {
            return Some(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        for sql in [
            "select 1",
            " \t\r\n\x0cSELECT 1",
            "SELECT(1)",
            "-- a\nSELECT 1",
            "--\rSELECT 1",
            "--\n--\n/**/SELECT 1",
            "/* a /* b */ c */ VALUES (1)",
            "/*/**/*/TABLE t",
            "/***/WITH t AS (SELECT 1) TABLE t",
            "((SELECT 1)) UNION SELECT 2",
            "( /* a */ (VALUES (1)))",
            "Insert INTO t VALUES (1)",
            "update t SET a = 1",
            "DELETE FROM t",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN DO NOTHING",
            "EXPLAIN SELECT 1",
            "explain /* a */ verbose\nselect 1",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
        for sql in [
            "COPY t TO PROGRAM 'id'",
            "COPY t TO STDOUT",
            "SET ROLE a",
            "RESET ALL",
            "DO 'begin end'",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "PREPARE TRANSACTION 'a'",
            "PREPARE a AS SELECT 1",
            "EXECUTE a",
            "LISTEN a",
            "NOTIFY a",
            "CALL p()",
            "CREATE TABLE a (b int)",
            "GRANT a TO b",
            "LOCK TABLE a",
            "LOAD 'a'",
            "SHOW ALL",
            "DECLARE c CURSOR FOR SELECT 1",
            "VACUUM",
            "/* SELECT */ COPY t TO STDOUT",
            "-- SELECT\nCOPY t TO STDOUT",
            "/* /* */ SELECT */ COPY t TO STDOUT",
            "/*/ SELECT */ COPY t TO STDOUT",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN (ANALYZE) SELECT 1",
            "EXPLAIN VERBOSE ANALYZE SELECT 1",
            "EXPLAIN EXECUTE a",
            "EXPLAIN CREATE TABLE a AS SELECT 1",
            "EXPLAIN EXPLAIN SELECT 1",
            "SELECTé 1",
            "SELECT1",
            "SELECT$1",
            "; SELECT 1",
            "\u{a0}SELECT 1",
            "\x0bSELECT 1",
            "\u{feff}SELECT 1",
            "'a' SELECT 1",
            "\"SELECT\" 1",
            "(COPY t TO STDOUT)",
        ] {
            assert!(matches!(check(sql), Err(Failure::Denied(_))), "{sql}");
        }
        for sql in ["", " ", "-- SELECT 1", "/* SELECT 1", "/* /* */ SELECT 1", "(", "/* a */"] {
            assert!(matches!(check(sql), Err(Failure::Invalid(_))), "{sql}");
        }
    }
}
