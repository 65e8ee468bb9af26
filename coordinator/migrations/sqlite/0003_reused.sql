-- Epochs that count for a segment and were trained in another one, of an earlier experiment: the same lineage key.
CREATE TABLE reused (
    segment TEXT NOT NULL REFERENCES segments (id),
    epoch   INTEGER NOT NULL,
    source  TEXT NOT NULL, -- the segment that trained it
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (source, epoch) REFERENCES epochs (segment, epoch)
) STRICT;

-- Which epochs are trained already.
CREATE INDEX epochs_by_key ON epochs (lineage_key);

-- Every epoch that counts for a segment, wherever it was trained.
CREATE VIEW counted AS
SELECT segment, segment AS source, epoch, lineage_key, attempt, manifest, steps, samples, seconds, committed_at
FROM epochs
UNION ALL
SELECT reused.segment, reused.source, epochs.epoch, epochs.lineage_key, epochs.attempt, epochs.manifest, epochs.steps,
       epochs.samples, epochs.seconds, epochs.committed_at
FROM reused JOIN epochs ON epochs.segment = reused.source AND epochs.epoch = reused.epoch;
