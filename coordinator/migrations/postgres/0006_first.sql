-- Everything that SQLite's migrations up to 0006 make; the numbers of both databases' migrations go together from here on.
-- The table `leadership` is none of it: it says who may migrate, and is made before (`store/postgres/leadership.rs`).
--
-- Ids are UUIDs and digests are SHA-256, both as text that people can paste; times are milliseconds since the Unix epoch;
-- what is only ever read as a whole is JSON, as text, so that it stays to the bit. Text is compared byte by byte, whatever
-- the database's locale: ids are searched for by their beginnings. Nothing is deleted.

CREATE TABLE datasets (
    name          TEXT COLLATE "C" PRIMARY KEY,
    manifest      TEXT COLLATE "C" NOT NULL,
    image_size    BIGINT NOT NULL,
    classes       TEXT NOT NULL, -- JSON: names
    counts        TEXT NOT NULL, -- JSON: split -> samples per class
    patients      BIGINT,
    registered_at BIGINT NOT NULL
);

CREATE TABLE weights (
    name          TEXT COLLATE "C" PRIMARY KEY,
    digest        TEXT COLLATE "C" NOT NULL,
    arch          TEXT NOT NULL, -- JSON
    registered_at BIGINT NOT NULL
);

CREATE TABLE workers (
    id          TEXT COLLATE "C" PRIMARY KEY,
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    slots       BIGINT NOT NULL,
    environment TEXT NOT NULL, -- JSON
    first_seen  BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    sequence    BIGINT NOT NULL DEFAULT 0 -- of the last event of it that is stored
);

CREATE TABLE experiments (
    position     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of submission
    id           TEXT COLLATE "C" NOT NULL UNIQUE,
    name         TEXT COLLATE "C" NOT NULL,
    spec         TEXT NOT NULL, -- JSON
    source       TEXT NOT NULL, -- as the user wrote it
    pins         TEXT NOT NULL, -- JSON
    plan         TEXT NOT NULL, -- JSON
    epochs       BIGINT NOT NULL, -- to train, shared ones once
    submitted_at BIGINT NOT NULL,
    cancelled_at BIGINT,
    paused_at    BIGINT, -- since when nothing of it is started; null where it goes on
    environment  TEXT -- JSON: the class that it is trained in alone; null before its first attempt, or where any will do
);

CREATE INDEX experiments_by_name ON experiments (name, position);

CREATE TABLE runs (
    id         TEXT COLLATE "C" PRIMARY KEY,
    experiment TEXT COLLATE "C" NOT NULL REFERENCES experiments (id),
    position   BIGINT NOT NULL, -- in the plan
    UNIQUE (experiment, position)
);

CREATE TABLE segments (
    id         TEXT COLLATE "C" PRIMARY KEY,
    experiment TEXT COLLATE "C" NOT NULL REFERENCES experiments (id),
    position   BIGINT NOT NULL, -- in the plan
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'queued', 'assigned', 'running', 'stopping',
                                                          'completed', 'cancelled', 'diverged', 'failed', 'blocked')),
    behind     TEXT,   -- waiting: the segment that it continues; blocked: the one that failed
    attempt    BIGINT, -- assigned, running, stopping
    worker     TEXT,   -- assigned, running, stopping
    epoch      BIGINT, -- running: the one in flight
    until      BIGINT, -- queued: not before; assigned, running: the lease; stopping: the deadline
    cause      TEXT,   -- stopping: why; failed, diverged: who must act
    message    TEXT,   -- failed, diverged
    failures   BIGINT NOT NULL DEFAULT 0, -- in a row
    losses     BIGINT NOT NULL DEFAULT 0, -- in a row
    UNIQUE (experiment, position)
);

CREATE TABLE attempts (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    segment     TEXT COLLATE "C" NOT NULL REFERENCES segments (id),
    number      BIGINT NOT NULL, -- the fencing token
    worker      TEXT COLLATE "C" NOT NULL REFERENCES workers (id),
    environment TEXT NOT NULL, -- JSON
    replays     BIGINT NOT NULL DEFAULT 0, -- how many of its first epochs were committed before, and are trained again
    assigned_at BIGINT NOT NULL,
    started_at  BIGINT,
    ended_at    BIGINT,
    ending      TEXT CHECK (ending IN ('finished', 'stopped', 'failed', 'lost')),
    cause       TEXT, -- failed: who must act
    message     TEXT, -- failed
    UNIQUE (segment, number)
);

-- The commit point of a checkpoint: objects in the store count only if a row here names them.
CREATE TABLE epochs (
    segment      TEXT COLLATE "C" NOT NULL,
    epoch        BIGINT NOT NULL,
    lineage_key  TEXT COLLATE "C" NOT NULL,
    attempt      BIGINT NOT NULL, -- number of the one that trained it
    manifest     TEXT COLLATE "C" NOT NULL,
    weights      TEXT COLLATE "C", -- digest of weights and optimizer after it; null where an older worker did not say it
    steps        BIGINT NOT NULL,
    samples      BIGINT NOT NULL,
    seconds      DOUBLE PRECISION NOT NULL,
    committed_at BIGINT NOT NULL,
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
);

-- Which epochs are trained already.
CREATE INDEX epochs_by_key ON epochs (lineage_key);

CREATE TABLE predictions (
    segment TEXT COLLATE "C" NOT NULL,
    epoch   BIGINT NOT NULL,
    scored  TEXT COLLATE "C" NOT NULL, -- split:NAME or external:NAME
    digest  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (segment, epoch, scored),
    FOREIGN KEY (segment, epoch) REFERENCES epochs (segment, epoch)
);

CREATE TABLE metrics (
    attempt BIGINT NOT NULL REFERENCES attempts (id),
    split   TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    epoch   BIGINT NOT NULL,
    step    BIGINT NOT NULL,
    value   DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (attempt, split, name, epoch, step)
);

CREATE TABLE logs (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of arrival
    attempt  BIGINT NOT NULL REFERENCES attempts (id),
    sequence BIGINT NOT NULL, -- of the worker's event that brought them
    lines    TEXT NOT NULL, -- JSON
    UNIQUE (attempt, sequence)
);

-- The commit point of a checkpoint within an epoch. One row a segment: the next one replaces it, and once the epoch is in
-- `epochs` it counts no more.
CREATE TABLE steps (
    segment      TEXT COLLATE "C" PRIMARY KEY,
    epoch        BIGINT NOT NULL, -- the one in flight
    step         BIGINT NOT NULL, -- optimizer steps of it that are done
    lineage_key  TEXT COLLATE "C" NOT NULL,
    attempt      BIGINT NOT NULL, -- number of the one that made it; its environment is the checkpoint's
    manifest     TEXT COLLATE "C" NOT NULL,
    committed_at BIGINT NOT NULL,
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
);

-- Epochs that count for a segment and were trained in another one, of an earlier experiment: the same lineage key.
CREATE TABLE reused (
    segment TEXT COLLATE "C" NOT NULL REFERENCES segments (id),
    epoch   BIGINT NOT NULL,
    source  TEXT COLLATE "C" NOT NULL, -- the segment that trained it
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (source, epoch) REFERENCES epochs (segment, epoch)
);

-- Committed epochs that were trained again because no checkpoint of them was left: the last row that counts is the epoch's
-- checkpoint, for every experiment that the epoch counts for.
CREATE TABLE replays (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    segment      TEXT COLLATE "C" NOT NULL, -- the one that trained the epoch first
    epoch        BIGINT NOT NULL,
    attempt      BIGINT NOT NULL REFERENCES attempts (id), -- that trained it again
    counts       BOOLEAN NOT NULL, -- whether it was in the same environment class, and ended in the same weights
    manifest     TEXT COLLATE "C" NOT NULL,
    weights      TEXT COLLATE "C",
    steps        BIGINT NOT NULL,
    samples      BIGINT NOT NULL,
    seconds      DOUBLE PRECISION NOT NULL,
    committed_at BIGINT NOT NULL,
    UNIQUE (attempt, segment, epoch),
    FOREIGN KEY (segment, epoch) REFERENCES epochs (segment, epoch)
);

CREATE INDEX replays_by_epoch ON replays (segment, epoch, id);

-- Checkpoints that an attempt found damaged or gone: nothing goes on from them.
CREATE TABLE damaged (
    manifest TEXT COLLATE "C" PRIMARY KEY,
    attempt  BIGINT NOT NULL REFERENCES attempts (id),
    found_at BIGINT NOT NULL
);

-- Checkpoints whose parts were given up to make room: nothing goes on from them. Their manifests stay in the store.
CREATE TABLE collected (
    manifest     TEXT COLLATE "C" PRIMARY KEY,
    collected_at BIGINT NOT NULL
);

-- Every epoch with the checkpoint to go on from.
CREATE VIEW trained AS
SELECT segment, epoch, lineage_key, attempt,
       coalesce((SELECT r.manifest FROM replays AS r WHERE r.segment = epochs.segment AND r.epoch = epochs.epoch AND r.counts
                 ORDER BY r.id DESC LIMIT 1), manifest) AS manifest,
       coalesce(weights, (SELECT r.weights FROM replays AS r WHERE r.segment = epochs.segment AND r.epoch = epochs.epoch
                          AND r.counts ORDER BY r.id DESC LIMIT 1)) AS weights,
       EXISTS (SELECT 1 FROM replays AS r WHERE r.segment = epochs.segment AND r.epoch = epochs.epoch AND r.counts) AS replayed,
       steps, samples, seconds, committed_at
FROM epochs;

-- Every epoch that counts for a segment, wherever it was trained.
CREATE VIEW counted AS
SELECT segment, segment AS source, epoch, lineage_key, attempt, manifest, weights, replayed, steps, samples, seconds,
       committed_at
FROM trained
UNION ALL
SELECT reused.segment, reused.source, t.epoch, t.lineage_key, t.attempt, t.manifest, t.weights, t.replayed, t.steps, t.samples,
       t.seconds, t.committed_at
FROM reused JOIN trained AS t ON t.segment = reused.source AND t.epoch = reused.epoch;
