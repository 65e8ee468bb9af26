-- That a point's series is there is not looked up again for every row, which is a sixth of the work of taking values in: a
-- series is read or written in the transaction that writes its points, and is never deleted. A backup is checked for it.
CREATE TABLE points_of_series (
    series INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (series, epoch, step)
) STRICT, WITHOUT ROWID;

INSERT INTO points_of_series SELECT series, epoch, step, value FROM points ORDER BY series, epoch, step;

DROP TABLE points;

ALTER TABLE points_of_series RENAME TO points;
