-- Most rows of a database are measured values: what they have in common is said once, so that a row is four numbers.
CREATE TABLE series (
    id      INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL REFERENCES attempts (id),
    split   TEXT NOT NULL,
    name    TEXT NOT NULL,
    UNIQUE (attempt, split, name)
) STRICT;

CREATE TABLE points (
    series INTEGER NOT NULL REFERENCES series (id),
    epoch  INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (series, epoch, step)
) STRICT, WITHOUT ROWID;

INSERT INTO series (attempt, split, name)
SELECT DISTINCT attempt, split, name FROM metrics ORDER BY attempt, split, name;

INSERT INTO points (series, epoch, step, value)
SELECT series.id, metrics.epoch, metrics.step, metrics.value
FROM series JOIN metrics USING (attempt, split, name)
ORDER BY series.id, metrics.epoch, metrics.step;

DROP TABLE metrics;
