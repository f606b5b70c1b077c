-- What purging looks for: credentials that were revoked long ago. Those that expired are found by the index that lists
-- go by, and those that died with their owner's watermark through their owner.

CREATE INDEX credentials_revoked ON credentials (revoke_time) WHERE revoke_time IS NOT NULL;
