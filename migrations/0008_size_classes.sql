-- tasks that have run out of memory, and the limits that are raised for them.

-- Bytes that the instance has while it works on the task; NULL: its own limit.
ALTER TABLE standings ADD COLUMN memory INTEGER;

-- What an instance's limit was before it was raised. Written before it is raised, removed after it is set back.
CREATE TABLE raises (
    instance        TEXT    NOT NULL PRIMARY KEY,
    task            INTEGER NOT NULL,               -- no reference: the limit is to be set back whatever becomes of the task
    number          INTEGER NOT NULL,               -- of the attempt
    memory          INTEGER NOT NULL,               -- bytes meanwhile
    max             INTEGER NOT NULL,               -- bytes before: memory.max
    high            INTEGER                         -- bytes before: memory.high; NULL: none
) WITHOUT ROWID;
