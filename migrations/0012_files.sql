-- Which files a task will touch, as far as whoever added it knows: paths and globs, a line each.
ALTER TABLE terms ADD COLUMN files TEXT NOT NULL DEFAULT '';
