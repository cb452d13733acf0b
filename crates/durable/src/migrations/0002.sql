-- Rows that were written before stay as they are: what they lack is NULL, and a checksum covers
-- the new fields only where they hold something.

-- Of steps, `stored` says more: bit 2: `notes` is the digest of a payload; bits 3 and 4: the stage
-- (0 admitted, 1 asked, 2 in doubt).
ALTER TABLE steps ADD COLUMN notes BLOB;

-- generation: NULL is 0.
ALTER TABLE executions ADD COLUMN generation INTEGER;
ALTER TABLE executions ADD COLUMN schedule BLOB;

CREATE TABLE grants (
    execution  BLOB NOT NULL,
    generation INTEGER NOT NULL,
    policy     BLOB NOT NULL,
    author     TEXT NOT NULL,
    change     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    crc        INTEGER NOT NULL,
    PRIMARY KEY (execution, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    id         BLOB NOT NULL PRIMARY KEY,
    spec       TEXT NOT NULL,
    component  BLOB NOT NULL,
    setup      BLOB NOT NULL,
    next_at    INTEGER,
    paused     INTEGER NOT NULL,
    fired      INTEGER NOT NULL,
    last       BLOB,
    last_at    INTEGER,
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    crc        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One more with each grant to any execution.
INSERT INTO counters VALUES ('granted', 0);
