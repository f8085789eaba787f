-- Messages between persons and agents.

CREATE TABLE messages (
    -- Given by the engine, one by one; AUTOINCREMENT remembers the greatest over removals.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    at              INTEGER NOT NULL,
    sender          TEXT    NOT NULL,       -- as in the audit: user:NAME, instance:NAME, token
    from_instance   TEXT,                   -- the instance whose agent has sent it
    from_task       INTEGER,                -- what that agent was working on
    from_number     INTEGER,
    kind            TEXT    NOT NULL CHECK (kind IN ('message', 'broadcast', 'help', 'answer')),
    recipient       TEXT    NOT NULL,       -- as it was asked for
    reply_to        INTEGER,                -- no reference: an answer may outlive its question
    hops            INTEGER NOT NULL,       -- how many messages led to it
    task            INTEGER,                -- of a call for help: the task that is to answer it
    until           INTEGER,                -- of a call for help: when it is over
    text            TEXT    NOT NULL,
    CHECK ((from_task IS NULL) = (from_number IS NULL))
);

CREATE INDEX messages_by_time ON messages (at);
CREATE INDEX messages_from ON messages (from_instance, id) WHERE from_instance IS NOT NULL;
CREATE INDEX messages_answers ON messages (reply_to) WHERE reply_to IS NOT NULL;
-- What an attempt has sent so far.
CREATE INDEX messages_of_attempt ON messages (from_task) WHERE from_task IS NOT NULL;
-- Calls for help.
CREATE INDEX messages_asking ON messages (task) WHERE task IS NOT NULL;

-- A message on its way to one instance.
CREATE TABLE letters (
    message         INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    recipient       TEXT    NOT NULL,
    uuid            TEXT    NOT NULL,       -- the same each time it is given to an agent
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'sent', 'delivered', 'queued', 'expired')),
    task            INTEGER,                -- where it was sent or delivered to, or what it has become
    number          INTEGER,
    moved           INTEGER NOT NULL,       -- when it came to that state
    PRIMARY KEY (message, recipient),
    CHECK ((state IN ('sent', 'delivered')) = (number IS NOT NULL)),
    CHECK (state NOT IN ('sent', 'delivered', 'queued') OR task IS NOT NULL)
) WITHOUT ROWID;

CREATE INDEX letters_for ON letters (recipient, message);
CREATE INDEX letters_on_the_way ON letters (message) WHERE state IN ('pending', 'sent');
CREATE INDEX letters_of_task ON letters (task) WHERE task IS NOT NULL;
