-- As with 0002: rows that were written before stay as they are, what they lack is NULL, and a checksum covers the new
-- fields only where one of them holds something.

-- calls: how many calls its steps cover, so that a lost tail is noticed; NULL: not known, until it is next acquired.
-- felled: how often it has felled the process that ran it since it last came further; NULL is 0.
-- showing: once it has ended, who had its last output to show; NULL: nobody is known.
-- aside: what was damaged when it was set aside.
ALTER TABLE executions ADD COLUMN calls INTEGER;
ALTER TABLE executions ADD COLUMN felled INTEGER;
ALTER TABLE executions ADD COLUMN showing BLOB;
ALTER TABLE executions ADD COLUMN aside TEXT;

-- A program of version 2 that has the database open does not look at the version again. Each of its statements that
-- writes names one of these, but for the removal of a schedule, which means the same as before.
ALTER TABLE executions RENAME COLUMN crc TO checksum;
ALTER TABLE steps RENAME COLUMN crc TO checksum;
ALTER TABLE promises RENAME COLUMN crc TO checksum;
ALTER TABLE grants RENAME COLUMN crc TO checksum;
ALTER TABLE schedules RENAME COLUMN crc TO checksum;
ALTER TABLE counters RENAME TO numbers;

-- Payloads that nothing named when somebody looked, until they are removed; mark: of those who look each has their own.
-- Whoever names one takes it out.
CREATE TABLE doomed (
    digest BLOB NOT NULL,
    mark   BLOB NOT NULL,
    PRIMARY KEY (digest, mark)
) STRICT, WITHOUT ROWID;
