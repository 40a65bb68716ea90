#!/usr/bin/env bash
# Write what the service keeps into a new folder, while it runs: Redis as it is at one moment, and all secrets.
#   deploy/backup.sh FOLDER
# Whoever reads the folder reads every prompt that Redis holds, and every key. COMPOSE: see roll.sh.
set -euo pipefail
[ $# = 1 ] || { echo "backup: expected a folder to make, got $# arguments" >&2; exit 2; }
umask 077
mkdir -- "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
read -r -a compose <<<"${COMPOSE:-docker compose}"

# As a replica is given it: the server goes on meanwhile. The password goes by standard input, where nobody sees it.
"${compose[@]}" run --rm -T --no-deps --entrypoint cat admin /secrets/password </dev/null 2>/dev/null |
  "${compose[@]}" exec -T redis sh -c 'read -r REDISCLI_AUTH && export REDISCLI_AUTH && trap "rm -f /data/backup.rdb" EXIT &&
    redis-cli --user dsdq-admin --rdb /data/backup.rdb >/dev/null 2>&1 && cat /data/backup.rdb' >"$folder/redis.rdb" || true
[ "$(head -c 5 "$folder/redis.rdb")" = REDIS ] || { echo "backup: expected a snapshot of Redis, got none" >&2; exit 1; }
"${compose[@]}" run --rm -T --no-deps --entrypoint sh secrets -c 'cd /roles && tar -cf - *' </dev/null 2>/dev/null >"$folder/secrets.tar"
tar -tf "$folder/secrets.tar" redis/users.acl >/dev/null
echo "backup: $(du -sh "$folder" | cut -f1) in $folder"
