package store

// ACL is the command that makes a user for wxproxy in Redis 6 or newer: what the store, the counters,
// usage and forget need, and no more. PASSWORD has to be replaced; where store.prefix is not wxp, the
// pattern ~wxp:* too. In a cluster each master needs it.
const ACL = "ACL SETUSER wxproxy reset on >PASSWORD ~wxp:*" +
	" +ping +info +select" + // connections and the checks at start; HELLO and AUTH are allowed to all
	" +eval +evalsha +time +hmget +hset +hgetall +expireat" + // counters, usage
	" +get +set +del" + // tokens, records, leases, probes, pace
	" +zadd +zremrangebyscore +zcard +zrange +expire" + // which gateways are running
	" +scan +unlink" + // forget
	" +command +cluster|slots" // a cluster's slots
