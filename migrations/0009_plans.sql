-- Plans: what a boss is to split into tasks for its team, and which tasks belong to it.

CREATE TABLE plans (
    -- Given by the engine, one by one; AUTOINCREMENT remembers the greatest over removals.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    goal            TEXT    NOT NULL,
    team            TEXT    NOT NULL,
    boss            TEXT    NOT NULL,               -- the instance that makes it
    review          INTEGER NOT NULL,               -- whether a person approves it first
    most            INTEGER NOT NULL,               -- tasks
    repository      TEXT,
    budget          INTEGER,                        -- of each task
    priority        INTEGER NOT NULL,
    asked_by        TEXT    NOT NULL,
    created         INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('planning', 'waiting', 'running', 'closing', 'done', 'failed', 'rejected', 'cancelled')),
    detail          TEXT    NOT NULL,
    items           TEXT    NOT NULL,               -- JSON: the tasks as the boss wants them, checked
    finished        INTEGER
);

CREATE INDEX plans_live ON plans (id) WHERE finished IS NULL;

CREATE TABLE plan_tasks (
    plan            INTEGER NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    task            INTEGER NOT NULL,               -- no reference: it may be removed before
    part            TEXT    NOT NULL CHECK (part IN ('plan', 'revision', 'task', 'follow-up')),
    item            TEXT    NOT NULL,               -- its name within the plan, of a task
    PRIMARY KEY (plan, task)
) WITHOUT ROWID;
