-- The commit point of a checkpoint within an epoch. One row a segment: the next one replaces it, and once the epoch is in
-- `epochs` it counts no more.
CREATE TABLE steps (
    segment      TEXT PRIMARY KEY,
    epoch        INTEGER NOT NULL, -- the one in flight
    step         INTEGER NOT NULL, -- optimizer steps of it that are done
    lineage_key  TEXT NOT NULL,
    attempt      INTEGER NOT NULL, -- number of the one that made it; its environment is the checkpoint's
    manifest     TEXT NOT NULL,
    committed_at INTEGER NOT NULL,
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
) STRICT;
