-- What the result of a task has to fit, as a JSON schema; a plan is such a result.
ALTER TABLE tasks ADD COLUMN schema TEXT;

-- What teams show: what their members have spent since midnight, without reading a page of the attempts themselves.
CREATE INDEX attempts_spent ON attempts (finished, instance, cost) WHERE finished IS NOT NULL;
