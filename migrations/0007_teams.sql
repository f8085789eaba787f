-- What teams show: what their members have spent since midnight, without reading a page of the attempts themselves.
CREATE INDEX attempts_spent ON attempts (finished, instance, cost) WHERE finished IS NOT NULL;
