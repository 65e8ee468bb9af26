-- How an experiment shares the fleet with others.
ALTER TABLE experiments ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE experiments ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
ALTER TABLE experiments ADD COLUMN max_concurrent INTEGER; -- null where any number may be trained at once
ALTER TABLE experiments ADD COLUMN device_memory INTEGER NOT NULL DEFAULT 0; -- bytes

-- Workers that are not to be used, or not all of them.
CREATE TABLE drained (
    worker TEXT PRIMARY KEY REFERENCES workers (id),
    slots  TEXT -- JSON: numbers; null where it is the whole worker
) STRICT;
