-- The queue, whole: the terms of tasks, dependencies, claims, pauses, what was spent by the day, schedules.
--
-- Tables beside `tasks` and no columns of it: a row of tasks is read only as far as its last column, which is the prompt.

-- What never changes of a task; no row where it has no terms of its own.
CREATE TABLE terms (
    task            INTEGER PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    priority        INTEGER NOT NULL DEFAULT 0,
    task_group      TEXT,
    team            TEXT,
    role            TEXT,
    specialty       TEXT,
    labels          TEXT    NOT NULL DEFAULT '',    -- separated by blanks
    repository      TEXT,
    branch          TEXT,
    after_failed    TEXT    NOT NULL DEFAULT 'fail' CHECK (after_failed IN ('fail', 'release')),
    start_after     INTEGER                         -- as it was asked for
);

-- Pages of a group are read backwards along this.
CREATE INDEX terms_of_group ON terms (task_group, task) WHERE task_group IS NOT NULL;

-- Which tasks a task comes after. It waits while one of them has not ended.
CREATE TABLE dependencies (
    task            INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    needs           INTEGER NOT NULL,               -- no reference: it may be removed before
    PRIMARY KEY (task, needs)
) WITHOUT ROWID;

-- Who does a task themselves. Such a task is pending, and no runner is given it.
CREATE TABLE claims (
    task            INTEGER PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    claimed_by      TEXT    NOT NULL,
    claimed         INTEGER NOT NULL,
    agent           TEXT,                           -- the instance whose agent it is
    agent_in        TEXT,                           -- invocation of that instance's unit
    CHECK ((agent IS NULL) = (agent_in IS NULL))
);

-- What else changes of a task; no row where there is nothing of it.
CREATE TABLE standings (
    task            INTEGER PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    note            TEXT    NOT NULL                -- how it ended, where no attempt tells
);

CREATE TABLE pauses (
    kind            TEXT    NOT NULL CHECK (kind IN ('all', 'instance', 'team', 'group', 'account')),
    name            TEXT    NOT NULL,
    paused_by       TEXT    NOT NULL,
    why             TEXT    NOT NULL,
    since           INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- Kept apart from the attempts, because a budget must not come back when old tasks are removed.
CREATE TABLE spend (
    day             TEXT    NOT NULL,               -- YYYY-MM-DD in the host's time zone
    instance        TEXT    NOT NULL,
    cost            INTEGER NOT NULL,
    PRIMARY KEY (day, instance)
) WITHOUT ROWID;

CREATE TABLE schedules (
    name            TEXT    NOT NULL PRIMARY KEY,
    cron            TEXT    NOT NULL,
    timezone        TEXT    NOT NULL,               -- IANA name; empty: the host's
    request         TEXT    NOT NULL,               -- the task to add, as JSON of the API
    created_by      TEXT    NOT NULL,
    created         INTEGER NOT NULL,
    last_run        INTEGER,                        -- when it was last due and looked at
    last_task       INTEGER                         -- the task that it added last
) WITHOUT ROWID;

-- What the queue learns from at its start.
CREATE INDEX attempts_by_peak ON attempts (finished) WHERE memory_peak IS NOT NULL;
