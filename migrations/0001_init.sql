-- The store of clauded, schema 1.
--
-- Times are microseconds since 1970-01-01 UTC, money is in millionths of a US dollar, durations are in microseconds.
-- Names and states are the texts of the API. Everything that changes together is changed in one transaction.

CREATE TABLE tasks (
    -- AUTOINCREMENT: the number of a pruned task is never given again, since a runner may still report on it.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,

    -- What was asked for; never changes.
    instance        TEXT,                   -- NULL: any instance may take it
    kind            TEXT    NOT NULL,
    title           TEXT    NOT NULL,
    timeout         INTEGER,
    budget          INTEGER,
    max_turns       INTEGER,
    created         INTEGER NOT NULL,

    -- Where it stands.
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'assigned', 'running', 'succeeded', 'failed', 'cancelled')),
    not_before      INTEGER,                -- while pending
    reason          TEXT,                   -- once failed
    cancelling      INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    failures        INTEGER NOT NULL DEFAULT 0,
    home            TEXT,                   -- the instance whose session is resumed
    cost            INTEGER NOT NULL DEFAULT 0, -- sum over its attempts, kept by the store
    finished        INTEGER,                -- when it reached its final state; NULL while it has none

    -- Where it is, while assigned or running; where it was last, otherwise.
    placed_on       TEXT,
    placed_in       TEXT,                   -- invocation of that instance's unit
    placed_number   INTEGER,                -- number of the attempt

    -- Last, because it may be long: a row is read only as far as the last column that is asked for.
    prompt          TEXT    NOT NULL,

    CHECK ((state = 'failed') = (reason IS NOT NULL)),
    CHECK (state NOT IN ('assigned', 'running') OR (placed_on IS NOT NULL AND placed_in IS NOT NULL AND placed_number IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished IS NOT NULL))
);

-- What the queue loads at start: few rows of many.
CREATE INDEX tasks_live ON tasks (id) WHERE finished IS NULL;
-- What pruning looks for.
CREATE INDEX tasks_ended ON tasks (finished) WHERE finished IS NOT NULL;
-- Lists are read backwards along these, so that a page costs a page however many tasks there are.
CREATE INDEX tasks_by_state ON tasks (state, id);
CREATE INDEX tasks_for_instance ON tasks (instance, id, state) WHERE instance IS NOT NULL;
CREATE INDEX tasks_on_instance ON tasks (placed_on, id, state) WHERE placed_on IS NOT NULL;

CREATE TABLE attempts (
    task            INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    number          INTEGER NOT NULL CHECK (number > 0),
    instance        TEXT    NOT NULL,
    invocation      TEXT    NOT NULL,
    assigned        INTEGER NOT NULL,
    session         TEXT,                   -- the agent's conversation, once known

    -- The report; all NULL until there is one, but for `started`. A second report replaces the first.
    outcome         TEXT CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'limited', 'interrupted')),
    reason          TEXT,                   -- of a failure
    transient       INTEGER,                -- of a failure
    limited_until   INTEGER,                -- of a usage limit, where the agent said it
    detail          TEXT,
    exit_code       INTEGER,
    exit_signal     INTEGER,
    started         INTEGER,
    finished        INTEGER,

    -- What the agent says it used.
    turns           INTEGER,
    tool_calls      INTEGER,
    cost            INTEGER,
    tokens          TEXT,                   -- JSON object: model name -> tokens by kind

    -- What the kernel says it used; NULL where it cannot tell.
    cpu_user        INTEGER,                -- µs
    cpu_system      INTEGER,                -- µs
    memory_peak     INTEGER,                -- bytes
    io_read         INTEGER,                -- bytes
    io_write        INTEGER,                -- bytes
    cpu_stall       INTEGER,                -- µs
    memory_stall    INTEGER,                -- µs
    io_stall        INTEGER,                -- µs
    oom_kills       INTEGER,

    text            TEXT,                   -- the agent's last words

    PRIMARY KEY (task, number),
    CHECK ((outcome = 'failed') = (reason IS NOT NULL)),
    CHECK ((outcome IS NULL) = (detail IS NULL)),
    CHECK (exit_code IS NULL OR exit_signal IS NULL)
);

CREATE TABLE events (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    at              INTEGER NOT NULL,
    kind            TEXT    NOT NULL,
    instance        TEXT,
    task            INTEGER,                -- no reference: an event may outlive its task
    message         TEXT    NOT NULL,
    cause           TEXT
);

-- `claudectl status NAME`: the few events about the instance itself among the many about its tasks.
CREATE INDEX events_of_instance ON events (instance, id) WHERE kind LIKE 'instance-%' OR kind LIKE 'limits-%';
-- What pruning looks for.
CREATE INDEX events_by_time ON events (at);

-- Restarts by cause. Counted apart from the events, because a counter must not fall when old events are removed.
CREATE TABLE restarts (
    instance        TEXT    NOT NULL,
    cause           TEXT    NOT NULL,       -- empty where nobody told
    count           INTEGER NOT NULL,
    PRIMARY KEY (instance, cause)
) WITHOUT ROWID;

-- The last look at each instance that is loaded, as far as the next one is compared with it.
CREATE TABLE instances (
    name            TEXT    NOT NULL PRIMARY KEY,
    active          TEXT    NOT NULL,
    restarts        INTEGER NOT NULL,       -- since the last start by hand
    invocation      TEXT,
    cause           TEXT,                   -- why that invocation ended; NULL while it goes on
    detail          TEXT,
    CHECK ((cause IS NULL) = (detail IS NULL))
) WITHOUT ROWID;

-- Usage limits: an account takes no new work before that time.
CREATE TABLE holds (
    account         TEXT    NOT NULL PRIMARY KEY,
    until           INTEGER NOT NULL
) WITHOUT ROWID;
