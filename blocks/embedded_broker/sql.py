"""The embedded broker's statements. States: 0 ready, 1 delayed, 2 held; see the schema."""

from typing import Final

#: Values as `message_row` gives them.
INSERT: Final = (
    "INSERT INTO messages (queue, state, priority, due, lease, deliveries, generation,"
    " published_at, id, key, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

#: Whether a receive would find anything or has something to promote; answered without the write
#: lock.
ANYTHING: Final = (
    "SELECT EXISTS (SELECT 1 FROM messages WHERE queue = :queue AND state = 0"
    " AND priority <= :lowest)"
    " OR EXISTS (SELECT 1 FROM messages WHERE queue = :queue AND state = 1 AND due <= :now)"
    " OR EXISTS (SELECT 1 FROM messages WHERE queue = :queue AND state = 2 AND due <= :now"
    " AND priority <= :lowest)"
)
NEXT_DUE: Final = (
    "SELECT min(due) FROM (SELECT min(due) AS due FROM messages WHERE queue = :queue AND state = 1"
    " UNION ALL SELECT min(due) FROM messages WHERE queue = :queue AND state = 2"
    " AND priority <= :lowest)"
)
PROMOTE_DUE: Final = (
    "UPDATE messages SET state = 0, due = 0 WHERE seq IN (SELECT seq FROM messages"
    " WHERE queue = :queue AND state = 1 AND due <= :now ORDER BY due LIMIT 5000)"
)
#: Both answer rows as `delivery` reads them, in any order.
TAKE_EXPIRED: Final = (
    "UPDATE messages SET state = 2, due = :due, lease = :lease, deliveries = deliveries + 1"
    " WHERE seq IN (SELECT seq FROM messages WHERE queue = :queue AND state = 2 AND due <= :now"
    " AND priority <= :lowest ORDER BY due LIMIT :limit)"
    " RETURNING seq, lease, priority, deliveries, generation, published_at, id, key, headers, body"
)
TAKE_READY: Final = (
    "UPDATE messages SET state = 2, due = :due, lease = :lease, deliveries = deliveries + 1"
    " WHERE seq IN (SELECT seq FROM messages WHERE queue = :queue AND state = 0"
    " AND priority <= :lowest ORDER BY priority, seq LIMIT :limit)"
    " RETURNING seq, lease, priority, deliveries, generation, published_at, id, key, headers, body"
)

DELETE: Final = "DELETE FROM messages WHERE seq = ? AND lease = ?"
RENEW: Final = "UPDATE messages SET due = ? WHERE seq = ? AND lease = ?"
PUT_BACK: Final = (
    "UPDATE messages SET state = ?, due = ?, lease = 0, deliveries = deliveries - ?"
    " WHERE seq = ? AND lease = ?"
)
BURY: Final = (
    "INSERT INTO dead (queue, priority, deliveries, generation, published_at, id, key, headers,"
    " body, died_at, reason, error, error_type, run_id) SELECT queue, priority, deliveries,"
    " generation, published_at, id, key, headers, body, ?, ?, ?, ?, ? FROM messages"
    " WHERE seq = ? AND lease = ?"
)

#: Rows as `dead_letter` reads them; a page of letters, so that any number fits in memory.
BROWSE_DEAD: Final = (
    "SELECT seq, priority, deliveries, generation, published_at, died_at, id, key, reason, error,"
    " error_type, run_id, headers, body FROM dead WHERE queue = ? AND seq > ? ORDER BY seq LIMIT 50"
)
DELETE_DEAD: Final = "DELETE FROM dead WHERE seq = ? AND queue = ?"

#: Ready, overdue (due or expired, and so as good as ready), delayed, in flight, dead.
COUNTS: Final = (
    "SELECT (SELECT count(*) FROM messages WHERE queue = :queue AND state = 0),"
    " (SELECT count(*) FROM messages WHERE queue = :queue AND state = 1 AND due <= :now)"
    " + (SELECT count(*) FROM messages WHERE queue = :queue AND state = 2 AND due <= :now),"
    " (SELECT count(*) FROM messages WHERE queue = :queue AND state = 1 AND due > :now),"
    " (SELECT count(*) FROM messages WHERE queue = :queue AND state = 2 AND due > :now),"
    " (SELECT count(*) FROM dead WHERE queue = :queue)"
)
#: Ready rows of one priority stand in the order of their publishing: one seek finds the oldest.
OLDEST_READY: Final = (
    "SELECT published_at FROM messages WHERE queue = :queue AND state = 0 AND priority = :priority"
    " ORDER BY seq LIMIT 1"
)
OLDEST_TIMED: Final = (
    "SELECT min(published_at) FROM messages WHERE queue = :queue AND state = 2 UNION ALL"
    " SELECT * FROM (SELECT published_at FROM messages WHERE queue = :queue AND state = 1"
    " AND due <= :now ORDER BY due LIMIT 1)"
)

SUBSCRIBE: Final = (
    "INSERT INTO subscriptions (topic, queue, is_pattern) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
)
SUBSCRIBERS: Final = "SELECT queue FROM subscriptions WHERE topic = ?"
PATTERNS: Final = "SELECT topic, queue FROM subscriptions WHERE is_pattern"
