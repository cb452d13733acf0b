-- Ids are the 16 bytes of a uuid, digests 32 bytes, times Unix milliseconds. `crc` is CRC-32
-- over all other fields of the row (rows.rs). Tables without a rowid keep the rows of one
-- execution side by side, and UUIDv7 keys make new executions append.

CREATE TABLE executions (
    id         BLOB NOT NULL PRIMARY KEY,
    component  BLOB NOT NULL,
    setup      BLOB NOT NULL,
    secret     BLOB NOT NULL,
    fence      INTEGER NOT NULL,
    owner      BLOB,
    cpu_us     INTEGER NOT NULL,
    wall_us    INTEGER NOT NULL,
    output     INTEGER NOT NULL,
    journal    INTEGER NOT NULL,
    shown      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    outcome    TEXT,
    ended_seq  INTEGER,
    crc        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX executions_ended ON executions (ended_seq) WHERE ended_seq IS NOT NULL;

-- outcome: NULL while only admitted, 0 ok, 1 err, 2 denied.
-- stored: bit 0: `arguments` is the digest of a payload; bit 1: `result` is.
CREATE TABLE steps (
    execution    BLOB NOT NULL,
    number       INTEGER NOT NULL,
    calls        INTEGER NOT NULL,
    function     TEXT NOT NULL,
    effect       INTEGER NOT NULL,
    arguments    BLOB NOT NULL,
    promise      BLOB,
    admitted_at  INTEGER NOT NULL,
    completed_at INTEGER,
    outcome      INTEGER,
    result       BLOB,
    delivered    INTEGER NOT NULL,
    stored       INTEGER NOT NULL,
    crc          INTEGER NOT NULL,
    PRIMARY KEY (execution, number)
) STRICT, WITHOUT ROWID;

-- id: 0x01, uuid, label for `{label}:{execution}:{uuid}`; 0x00, text for any other.
-- flags: which tags have their usual value and are not in `tags` (promise_row.rs).
CREATE TABLE promises (
    execution     BLOB NOT NULL,
    id            BLOB NOT NULL,
    state         INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    timeout_at    INTEGER NOT NULL,
    settled_at    INTEGER,
    settled_seq   INTEGER,
    flags         INTEGER NOT NULL,
    step          INTEGER,
    component     BLOB,
    tags          TEXT,
    param_headers TEXT,
    param         TEXT,
    value_headers TEXT,
    value         TEXT,
    crc           INTEGER NOT NULL,
    PRIMARY KEY (execution, id)
) STRICT, WITHOUT ROWID;

-- One index for two questions: pending ones (NULL) by timeout, settled ones by number.
CREATE INDEX promises_order ON promises (settled_seq, timeout_at);
-- Ids of another form are found by their text; there are none in practice, so it costs nothing.
CREATE UNIQUE INDEX promises_odd ON promises (id) WHERE id < x'01';

CREATE TABLE payloads (
    digest BLOB NOT NULL UNIQUE,
    bytes  BLOB NOT NULL
) STRICT;

-- The cursor of what Collect has removed: the numbers in the rows go on from there.
CREATE TABLE counters (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counters VALUES ('settled', 0);
