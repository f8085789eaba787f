-- The locks that are held. Those who wait for one are not stored: they ask again.

CREATE TABLE locks (
    -- AUTOINCREMENT: the number of a lock that is gone is never given again, since people name locks by it.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    place           TEXT    NOT NULL,       -- the repository's name, or the directory where there is none
    kind            TEXT    NOT NULL CHECK (kind IN ('path', 'glob', 'feature')),
    pattern         TEXT    NOT NULL,       -- the path, the glob, or the feature's name
    globs           TEXT    NOT NULL,       -- of a feature, a line each
    mode            TEXT    NOT NULL CHECK (mode IN ('shared', 'exclusive')),

    -- Whose: an instance's, for a task or not, or a person's.
    instance        TEXT,
    task            INTEGER,
    attempt         INTEGER,
    invocation      TEXT,
    uid             INTEGER,
    person          TEXT,

    reason          TEXT    NOT NULL,
    since           INTEGER NOT NULL,
    ttl             INTEGER NOT NULL,
    expires         INTEGER NOT NULL,

    CHECK ((instance IS NULL) = (person IS NOT NULL)),
    CHECK (instance IS NOT NULL OR task IS NULL)
);
