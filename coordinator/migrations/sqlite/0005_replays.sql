-- Digest of weights and optimizer after the epoch; null where an older worker did not say it.
ALTER TABLE epochs ADD COLUMN weights TEXT;

-- The environment class that the experiment is trained in alone; null before its first attempt, or where any will do.
ALTER TABLE experiments ADD COLUMN environment TEXT; -- JSON

-- How many of an attempt's first epochs were committed before, and are trained again.
ALTER TABLE attempts ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;

-- Committed epochs that were trained again because no checkpoint of them was left: the last row that counts is the epoch's
-- checkpoint, for every experiment that the epoch counts for.
CREATE TABLE replays (
    id           INTEGER PRIMARY KEY,
    segment      TEXT NOT NULL, -- the one that trained the epoch first
    epoch        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL REFERENCES attempts (id), -- that trained it again
    counts       INTEGER NOT NULL, -- 1 where it was in the same environment class, and ended in the same weights
    manifest     TEXT NOT NULL,
    weights      TEXT,
    steps        INTEGER NOT NULL,
    samples      INTEGER NOT NULL,
    seconds      REAL NOT NULL,
    committed_at INTEGER NOT NULL,
    UNIQUE (attempt, segment, epoch),
    FOREIGN KEY (segment, epoch) REFERENCES epochs (segment, epoch)
) STRICT;

CREATE INDEX replays_by_epoch ON replays (segment, epoch, id);

-- Checkpoints that an attempt found damaged or gone: nothing goes on from them.
CREATE TABLE damaged (
    manifest TEXT PRIMARY KEY,
    attempt  INTEGER NOT NULL REFERENCES attempts (id),
    found_at INTEGER NOT NULL
) STRICT;

DROP VIEW counted;

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

-- Experiments of before are bound to the class that they were trained in, if it was one.
UPDATE experiments SET environment = (
    SELECT min(attempts.environment) FROM segments JOIN attempts ON attempts.segment = segments.id
    WHERE segments.experiment = experiments.id
) WHERE (
    SELECT count(DISTINCT attempts.environment) FROM segments JOIN attempts ON attempts.segment = segments.id
    WHERE segments.experiment = experiments.id
) = 1;
UPDATE experiments SET spec = json_set(spec, '$.controls.environment', 'any') WHERE (
    SELECT count(DISTINCT attempts.environment) FROM segments JOIN attempts ON attempts.segment = segments.id
    WHERE segments.experiment = experiments.id
) > 1;
