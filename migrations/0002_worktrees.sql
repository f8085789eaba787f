-- Schema 2: the states `verifying` and `publishing`, what an attempt left in its repository, the worktrees.
--
-- SQLite cannot change a CHECK: both tables are made anew. The new attempts refer to the new tasks from the beginning, so that
-- dropping the old tasks deletes nothing by its foreign key.

CREATE TABLE new_tasks (
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
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'assigned', 'running', 'verifying', 'publishing', 'succeeded', 'failed', 'cancelled')),
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
    CHECK (state NOT IN ('assigned', 'running', 'verifying', 'publishing') OR (placed_on IS NOT NULL AND placed_in IS NOT NULL AND placed_number IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished IS NOT NULL))
);

CREATE TABLE new_attempts (
    task            INTEGER NOT NULL REFERENCES new_tasks (id) ON DELETE CASCADE,
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
    work            TEXT,                   -- JSON object: what it left in its repository

    PRIMARY KEY (task, number),
    CHECK ((outcome = 'failed') = (reason IS NOT NULL)),
    CHECK ((outcome IS NULL) = (detail IS NULL)),
    CHECK (exit_code IS NULL OR exit_signal IS NULL)
);

INSERT INTO new_tasks (id, instance, kind, title, timeout, budget, max_turns, created, state, not_before, reason, cancelling, attempts, failures, home, cost, finished, placed_on, placed_in, placed_number, prompt)
    SELECT id, instance, kind, title, timeout, budget, max_turns, created, state, not_before, reason, cancelling, attempts, failures, home, cost, finished, placed_on, placed_in, placed_number, prompt FROM tasks;
INSERT INTO new_attempts (task, number, instance, invocation, assigned, session, outcome, reason, transient, limited_until, detail, exit_code, exit_signal, started, finished, turns, tool_calls, cost, tokens, cpu_user, cpu_system, memory_peak, io_read, io_write, cpu_stall, memory_stall, io_stall, oom_kills, text)
    SELECT task, number, instance, invocation, assigned, session, outcome, reason, transient, limited_until, detail, exit_code, exit_signal, started, finished, turns, tool_calls, cost, tokens, cpu_user, cpu_system, memory_peak, io_read, io_write, cpu_stall, memory_stall, io_stall, oom_kills, text FROM attempts;

-- The number of a pruned task is never given again.
DELETE FROM sqlite_sequence WHERE name = 'new_tasks';
INSERT INTO sqlite_sequence (name, seq) SELECT 'new_tasks', seq FROM sqlite_sequence WHERE name = 'tasks';

DROP TABLE attempts;
DROP TABLE tasks;
ALTER TABLE new_tasks RENAME TO tasks;
ALTER TABLE new_attempts RENAME TO attempts;

-- What the queue loads at start: few rows of many.
CREATE INDEX tasks_live ON tasks (id) WHERE finished IS NULL;
-- What pruning looks for.
CREATE INDEX tasks_ended ON tasks (finished) WHERE finished IS NOT NULL;
-- Lists are read backwards along these, so that a page costs a page however many tasks there are.
CREATE INDEX tasks_by_state ON tasks (state, id);
CREATE INDEX tasks_for_instance ON tasks (instance, id, state) WHERE instance IS NOT NULL;
CREATE INDEX tasks_on_instance ON tasks (placed_on, id, state) WHERE placed_on IS NOT NULL;

-- What was last told of each instance's worktree.
CREATE TABLE worktrees (
    instance        TEXT    NOT NULL PRIMARY KEY,
    repository      TEXT    NOT NULL,
    directory       TEXT    NOT NULL,
    branch          TEXT,                   -- NULL: none is checked out
    bytes           INTEGER,                -- on disk, once measured
    measured        INTEGER
) WITHOUT ROWID;
