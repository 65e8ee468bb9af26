-- Checkpoints whose parts were given up to make room: nothing goes on from them. Their manifests stay in the store.
CREATE TABLE collected (
    manifest     TEXT PRIMARY KEY,
    collected_at INTEGER NOT NULL
) STRICT;
