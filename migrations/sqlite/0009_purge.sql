-- What purging looks for: credentials that have long been dead, by the end that they came to. Those that died with
-- their owner's watermark are found through their owner.

CREATE INDEX credentials_revoked ON credentials (revoke_time) WHERE revoke_time IS NOT NULL;
CREATE INDEX credentials_expiring ON credentials (expire_time) WHERE expire_time IS NOT NULL;
