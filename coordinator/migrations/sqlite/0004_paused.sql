-- Since when nothing of an experiment is started; null where it goes on.
ALTER TABLE experiments ADD COLUMN paused_at INTEGER;
