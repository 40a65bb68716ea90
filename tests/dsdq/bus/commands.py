"""Commands by whose they are, for the tests of users: the keys of acme are ours, those of globex theirs."""

from __future__ import annotations

from dsdq import keys

MODEL, WORKER = "builtin/target", "w1"

THEIRS, THEIR_BYTES = keys.inbox(WORKER, "globex"), keys.inbox_bytes(WORKER, "globex")
THEIR_LOG, THEIR_HEAD = keys.session_log("phone", "globex", "s1"), keys.session_head("phone", "globex", "s1")
THEIR_FEED = keys.feed("phone", "globex")
OURS, OUR_BYTES = keys.inbox(WORKER, "acme"), keys.inbox_bytes(WORKER, "acme")
OUR_LOG, OUR_HEAD = keys.session_log("phone", "acme", "s1"), keys.session_head("phone", "acme", "s1")
OUR_FEED = keys.feed("phone", "acme")
THEIR_USAGE, OUR_USAGE = keys.usage("phone", "globex", "2026-01"), keys.usage("phone", "acme", "2026-01")
STATE, SESSIONS = keys.worker_state(WORKER), keys.worker_sessions(WORKER)
FIGURES = keys.worker_figures(WORKER)

ANOTHER_TENANTS = [
    f"XADD {THEIRS} * m x",
    f"XLEN {THEIRS}",
    f"EXISTS {THEIRS}",
    f"XRANGE {THEIRS} - +",
    f"XREAD STREAMS {THEIRS} 0",
    f"XREADGROUP GROUP verify me STREAMS {THEIRS} >",
    f"XTRIM {THEIRS} MAXLEN 0",
    f"XDEL {THEIRS} 1-1",
    f"XACK {THEIRS} verify 1-1",
    f"DEL {THEIRS}",
    f"GET {THEIR_BYTES}",
    f"INCRBY {THEIR_BYTES} 1000",
    *(
        f"{command.format(key)}"
        for key in (THEIR_LOG, THEIR_FEED)
        for command in (
            "XADD {} * m x",
            "XRANGE {} - +",
            "XREVRANGE {} + -",
            "XREAD STREAMS {} 0",
            "XLEN {}",
            "XTRIM {} MAXLEN 0",
            "DEL {}",
            "PEXPIRE {} 1",
        )
    ),
    f"XREAD STREAMS {OUR_LOG} {THEIR_LOG} 0 0",
    f"HGET {THEIR_HEAD} worker",
    f"HMGET {THEIR_HEAD} worker owner",
    f"HGETALL {THEIR_HEAD}",
    f"HSET {THEIR_HEAD} status closed",
    f"HGETALL {THEIR_USAGE}",
    f"HGET {THEIR_USAGE} 1:committed",
    f"HINCRBY {THEIR_USAGE} 1:committed 1000000",
    f"DEL {THEIR_USAGE}",
    f"HGETALL {keys.quota('globex')}",
    f"HSET {keys.quota('globex')} committed_per_minute:left 0",
    f"ZADD {keys.quota_sessions('globex')} 9999999999999 phone/s1",
    f"HSET {keys.quota_reserved('globex')} phone/s1 1000000",
    f"COPY {THEIR_LOG} {OUR_LOG}",
    f"RENAME {THEIR_LOG} {OURS}",
]
THE_WORKERS = [
    f"XADD {OUR_LOG} * m x",
    f"XADD {OUR_FEED} * m x",
    f"XTRIM {OUR_LOG} MAXLEN 0",
    f"DEL {OUR_LOG}",
    f"HSET {OUR_HEAD} owner me",
    f"XRANGE {OURS} - +",
    f"XREAD STREAMS {OURS} 0",
    f"XREADGROUP GROUP verify me STREAMS {OURS} >",
    f"XGROUP DESTROY {OURS} verify",
    f"XTRIM {OURS} MAXLEN 0",
    f"XDEL {OURS} 1-1",
    f"DEL {OURS}",
    f"SET {OUR_BYTES} 0",
    f"HSET {STATE} closed 1",
    f"HGETALL {STATE}",
    f"DEL {STATE}",
    f"SMEMBERS {SESSIONS}",
    f"SREM {SESSIONS} phone/acme/s1",
    f"HGETALL {keys.worker_tries(WORKER)}",
    f"SET {FIGURES} x",
    f"PEXPIRE {FIGURES} 1",
    f"DEL {FIGURES}",
    f"ZADD {keys.workers(MODEL)} 9999999999999 evil",
    f"ZREM {keys.workers(MODEL)} {WORKER}",
    f"HSET {keys.worker_infos(MODEL)} {WORKER} x",
    f"SET {keys.recovery_claim(MODEL, WORKER)} me",
    f"SADD {keys.MODELS} evil",
    f"HINCRBY {OUR_USAGE} 1:committed -1000000",
    f"DEL {OUR_USAGE}",
    f"HSET {keys.quota('acme')} committed_per_minute:left 1000000",
    f"DEL {keys.quota('acme')}",
    f"ZREM {keys.quota_sessions('acme')} phone/s1",
    f"HSET {keys.TENANTS} acme x",
    f"INCR {keys.TENANTS_VERSION}",
    f"XRANGE {keys.DEAD_LETTERS} - +",
    f"XADD {keys.DEAD_LETTERS} * m x",
]
BATCH_ID, FILE_ID = f"batch_{24 * 'a'}", f"file-{24 * 'a'}"
THE_GATEWAYS = [
    *(
        command
        for tenant in ("acme", "globex")
        for command in (
            f"HGET {keys.file(tenant, FILE_ID)} 0",
            f"HSET {keys.file(tenant, FILE_ID)} 0 x",
            f"ZRANGE {keys.files(tenant)} 0 -1",
            f"SET {keys.stored_bytes(tenant)} 0",
            f"HGETALL {keys.batch(tenant, BATCH_ID)}",
            f"HSET {keys.batch(tenant, BATCH_ID)} status cancelling",
            f"HGET {keys.batch(tenant, BATCH_ID)}:lines 1",
            f"HSET {keys.batch(tenant, BATCH_ID)}:results 1 x",
            f"ZREM {keys.line_leases(tenant)} {BATCH_ID}/1",
            f"UNLINK {keys.active_batches(tenant)}",
        )
    ),
    f"GET {FIGURES}",
    f"PTTL {FIGURES}",
    f"SMEMBERS {keys.BATCH_TENANTS}",
    f"SADD {keys.BATCH_TENANTS} acme",
    f"HGETALL {keys.quota('acme')}",
    f"HGET {keys.TENANTS} acme",
    f"HGETALL {keys.TENANTS}",
    f"GET {keys.TENANTS_VERSION}",
    "ZRANGE arq:queue 0 -1",
    "SET arq:job:1 x",
]
SCRIPTS = [
    "EVAL return#1 0",
    f"EVAL return#redis.call('XLEN',KEYS[1]) 1 {OURS}",
    f"EVAL_RO return#1 1 {OURS}",
    "SCRIPT LOAD while#true#do#end",
    "FUNCTION LOAD #!lua#name=x",
    "FCALL x 0",
]
THE_SERVERS = [
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION LIST",
    "FUNCTION FLUSH",
    "GET x",
    "SET x 1",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "SELECT 1",
    "FLUSHALL",
    "FLUSHDB",
    "INFO",
    "CONFIG GET *",
    "CONFIG SET appendonly no",
    "CLIENT LIST",
    "CLIENT KILL ID 1",
    "CLIENT PAUSE 1000",
    "ACL LIST",
    "ACL SETUSER me on nopass +@all ~*",
    "ACL GETUSER default",
    "DEBUG SLEEP 1",
    "SLOWLOG GET",
    "MEMORY USAGE x",
    "OBJECT ENCODING x",
    "MONITOR",
    "SUBSCRIBE x",
    "PUBLISH x y",
    "WAIT 1 1000",
    "REPLICAOF 127.0.0.1 1",
    "SHUTDOWN NOSAVE",
    "SAVE",
]
