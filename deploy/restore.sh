#!/usr/bin/env bash
# Put back what backup.sh has written, into a service that has no data yet; then start it: `docker compose up -d`.
#   deploy/restore.sh FOLDER
# Nothing that is there is replaced: take the old service down with `down -v` first, or give this one another name.
set -euo pipefail
if [ $# != 1 ] || [ ! -f "$1/redis.rdb" ] || [ ! -f "$1/secrets.tar" ]; then
  echo "restore: expected a folder of backup.sh" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
read -r -a compose <<<"${COMPOSE:-docker compose}"
inside() { "${compose[@]}" run --rm -T --no-deps --entrypoint sh secrets -c "$1"; }

inside 'test ! -e /data/appendonlydir && test ! -e /roles/redis/users.acl' </dev/null ||
  { echo "restore: expected a service without data, there are some: docker compose down -v removes them" >&2; exit 1; }
inside 'tar -C /roles -xf -' <"$folder/secrets.tar"
# A server that keeps an append-only file reads no other: the snapshot becomes the beginning of one.
inside 'mkdir /data/appendonlydir && cd /data/appendonlydir && cat >appendonly.aof.1.base.rdb &&
  echo "file appendonly.aof.1.base.rdb seq 1 type b" >appendonly.aof.manifest' <"$folder/redis.rdb"
echo "restore: done; docker compose up -d starts it"
