-- Ids are UUIDs and digests are SHA-256, both as text that people can paste; times are milliseconds since the Unix epoch;
-- what is only ever read as a whole is JSON. Nothing is deleted.

CREATE TABLE datasets (
    name          TEXT PRIMARY KEY,
    manifest      TEXT NOT NULL,
    image_size    INTEGER NOT NULL,
    classes       TEXT NOT NULL, -- JSON: names
    counts        TEXT NOT NULL, -- JSON: split -> samples per class
    patients      INTEGER,
    registered_at INTEGER NOT NULL
) STRICT;

CREATE TABLE weights (
    name          TEXT PRIMARY KEY,
    digest        TEXT NOT NULL,
    arch          TEXT NOT NULL, -- JSON
    registered_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workers (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    slots       INTEGER NOT NULL,
    environment TEXT NOT NULL, -- JSON
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    sequence    INTEGER NOT NULL DEFAULT 0 -- of the last event of it that is stored
) STRICT;

CREATE TABLE experiments (
    position     INTEGER PRIMARY KEY, -- the order of submission
    id           TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    spec         TEXT NOT NULL, -- JSON
    source       TEXT NOT NULL, -- as the user wrote it
    pins         TEXT NOT NULL, -- JSON
    plan         TEXT NOT NULL, -- JSON
    epochs       INTEGER NOT NULL, -- to train, shared ones once
    submitted_at INTEGER NOT NULL,
    cancelled_at INTEGER
) STRICT;

CREATE INDEX experiments_by_name ON experiments (name, position);

CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    experiment TEXT NOT NULL REFERENCES experiments (id),
    position   INTEGER NOT NULL, -- in the plan
    UNIQUE (experiment, position)
) STRICT;

CREATE TABLE segments (
    id         TEXT PRIMARY KEY,
    experiment TEXT NOT NULL REFERENCES experiments (id),
    position   INTEGER NOT NULL, -- in the plan
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'queued', 'assigned', 'running', 'stopping', 'completed',
                                              'cancelled', 'diverged', 'failed', 'blocked')),
    behind     TEXT,    -- waiting: the segment that it continues; blocked: the one that failed
    attempt    INTEGER, -- assigned, running, stopping
    worker     TEXT,    -- assigned, running, stopping
    epoch      INTEGER, -- running: the one in flight
    until      INTEGER, -- queued: not before; assigned, running: the lease; stopping: the deadline
    cause      TEXT,    -- stopping: why; failed, diverged: who must act
    message    TEXT,    -- failed, diverged
    failures   INTEGER NOT NULL DEFAULT 0, -- in a row
    losses     INTEGER NOT NULL DEFAULT 0, -- in a row
    UNIQUE (experiment, position)
) STRICT;

CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    segment     TEXT NOT NULL REFERENCES segments (id),
    number      INTEGER NOT NULL, -- the fencing token
    worker      TEXT NOT NULL REFERENCES workers (id),
    environment TEXT NOT NULL, -- JSON
    assigned_at INTEGER NOT NULL,
    started_at  INTEGER,
    ended_at    INTEGER,
    ending      TEXT CHECK (ending IN ('finished', 'stopped', 'failed', 'lost')),
    cause       TEXT, -- failed: who must act
    message     TEXT, -- failed
    UNIQUE (segment, number)
) STRICT;

-- The commit point of a checkpoint: objects in the store count only if a row here names them.
CREATE TABLE epochs (
    segment      TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    lineage_key  TEXT NOT NULL,
    attempt      INTEGER NOT NULL, -- number of the one that trained it
    manifest     TEXT NOT NULL,
    steps        INTEGER NOT NULL,
    samples      INTEGER NOT NULL,
    seconds      REAL NOT NULL,
    committed_at INTEGER NOT NULL,
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
) STRICT;

CREATE TABLE predictions (
    segment TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    scored  TEXT NOT NULL, -- split:NAME or external:NAME
    digest  TEXT NOT NULL,
    PRIMARY KEY (segment, epoch, scored),
    FOREIGN KEY (segment, epoch) REFERENCES epochs (segment, epoch)
) STRICT;

CREATE TABLE metrics (
    attempt INTEGER NOT NULL REFERENCES attempts (id),
    split   TEXT NOT NULL,
    name    TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    value   REAL NOT NULL,
    PRIMARY KEY (attempt, split, name, epoch, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of arrival
    attempt  INTEGER NOT NULL REFERENCES attempts (id),
    sequence INTEGER NOT NULL, -- of the worker's event that brought them
    lines    TEXT NOT NULL, -- JSON
    UNIQUE (attempt, sequence)
) STRICT;
