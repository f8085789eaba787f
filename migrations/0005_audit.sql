-- The audit: one row for every state change, in the transaction of the change. Rows are added at the end and removed at the
-- beginning, and nothing else is done to them.

CREATE TABLE audit (
    seq             INTEGER PRIMARY KEY,    -- counts up by one; a gap shows
    at              INTEGER NOT NULL,
    who             TEXT    NOT NULL,
    uid             INTEGER,
    pid             INTEGER,
    acting          INTEGER,                -- the task in whose cgroup an agent's process was
    origin          TEXT    NOT NULL,
    what            TEXT    NOT NULL,
    instance        TEXT,
    task            INTEGER,                -- no reference: a row outlives its task
    subject         TEXT,
    details         TEXT    NOT NULL,       -- JSON object
    hash            TEXT    NOT NULL        -- SHA-256, hexadecimal: of the hash before, and this row
);

-- `claudectl audit --task`: read backwards, a page at a time. Other filters read along the numbers: each index more
-- makes every commit dearer.
CREATE INDEX audit_of_task ON audit (task, seq) WHERE task IS NOT NULL;

-- The last row that was removed, on which the first of the rest follows.
CREATE TABLE audit_anchor (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    seq             INTEGER NOT NULL,
    hash            TEXT    NOT NULL
) WITHOUT ROWID;
