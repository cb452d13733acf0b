-- What workers hold: a row for each promise that one has claimed, until its execution is removed. owner: NULL: it was
-- given back. doubt: 1: it may or may not have been done. A program of version 3 does not know them and settles all the
-- same; what it has settled is claimed no more.
CREATE TABLE claims (
    execution  BLOB NOT NULL,
    id         BLOB NOT NULL,
    owner      BLOB,
    fence      INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    doubt      INTEGER NOT NULL,
    checksum   INTEGER NOT NULL,
    PRIMARY KEY (execution, id)
) STRICT, WITHOUT ROWID;
