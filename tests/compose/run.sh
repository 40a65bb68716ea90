#!/usr/bin/env bash
# The whole service under a real engine: started, scaled, killed, rolled, cut off from Redis, taken down.
#   COMPOSE   the command: "docker compose" or docker-compose (1.29 or newer); what is there, unless set
#   IMAGE     an image that is built already; else it is built here
#   OVERRIDE  one more compose file, for what is different on this machine
# Where there is no engine it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "compose-test: skipped: $*"; exit 0; }
command -v docker >/dev/null || skip "no docker on this machine"
docker info >/dev/null 2>&1 || skip "no Docker engine answers ($(docker info 2>&1 | grep -i -m1 -E 'cannot|error|denied' || true))"
if [ -z "${COMPOSE:-}" ]; then
  if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"
  elif command -v docker-compose >/dev/null; then COMPOSE=docker-compose
  else skip "neither docker compose nor docker-compose is installed"; fi
fi

export COMPOSE_PROJECT_NAME=dsdq-test-$$ GATEWAY_PORT=${GATEWAY_PORT:-18473} VERIFIERS=1 DEVICES=1 BATCH_WORKERS=1
export COMPOSE="$COMPOSE --profile demo -f compose.yaml ${OVERRIDE:+-f $OVERRIDE}"
read -r -a compose <<<"$COMPOSE"
url=http://127.0.0.1:$GATEWAY_PORT
work=$(mktemp -d)
running=""

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
fail() { say "FAILED: $*"; "${compose[@]}" ps; "${compose[@]}" logs --tail 30; exit 1; }
quietly() { "$@" >"$work/last" 2>&1 || { cat "$work/last"; fail "$*"; }; }
end() {
  local code=$?
  [ -z "$running" ] || kill "$running" 2>/dev/null || true
  "${compose[@]}" down -v --remove-orphans >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$code"
}
trap end EXIT

ids() { "${compose[@]}" ps -q "$@"; }
health() { docker inspect --format '{{.State.Health.Status}}' "$1" 2>/dev/null || true; }
until_healthy() { # SERVICE COUNT
  local deadline=$((SECONDS + 600)) found
  while :; do
    found=0
    for one in $(ids "$1"); do [ "$(health "$one")" != healthy ] || found=$((found + 1)); done
    [ "$found" != "$2" ] || return 0
    ((SECONDS < deadline)) || fail "expected $2 healthy of $1, found $found"
    sleep 1
  done
}
crash() { docker exec "$1" sh -c 'kill -9 -1' || true; } # all but the init: as a process dies, not as an operator stops it
begin() { touch "$work/goes-on"; python3 tests/compose/asking.py check "$url" "$work/quiet" "$work/goes-on" >"$work/checked" 2>&1 & running=$!; sleep 3; }
finish() {
  rm "$work/goes-on"
  wait "$running" || { cat "$work/checked"; fail "texts were lost"; }
  running=""
  say "  $(cat "$work/checked")"
}
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
submit() { # COUNT
  local file
  python3 tests/compose/asking.py lines "$1" >"$work/in.jsonl"
  file=$(curl -sf "$url/v1/files" -F purpose=batch -F "file=@$work/in.jsonl" | field id)
  batch=$(curl -sf "$url/v1/batches" -H 'content-type: application/json' \
    -d "{\"input_file_id\": \"$file\", \"endpoint\": \"/v1/completions\", \"completion_window\": \"24h\"}" | field id)
}
until_done() { # COUNT
  local deadline=$((SECONDS + 300)) code
  while code=$(curl -s -o "$work/batch" -w '%{http_code}' "$url/v1/batches/$batch") || true; do
    [ "$code" != 200 ] || [ "$(field status <"$work/batch")" != completed ] || break
    [ "$code" != 404 ] || fail "the batch is lost: $(cat "$work/batch")"
    ((SECONDS < deadline)) || fail "expected the batch to be done, it is: $(cat "$work/batch")"
    sleep 1
  done
  curl -sf "$url/v1/files/$(field output_file_id <"$work/batch")/content" >"$work/out.jsonl"
  python3 tests/compose/asking.py results "$work/quiet" "$1" <"$work/out.jsonl" >"$work/read" 2>&1 ||
    { cat "$work/read"; fail "lines were lost"; }
  say "  $(cat "$work/read")"
}

if [ -z "${IMAGE:-}" ]; then
  say "build"
  quietly "${compose[@]}" build
fi
say "up"
quietly "${compose[@]}" up -d redis admin verifier gateway batch
for service in redis verifier gateway batch; do until_healthy "$service" 1; done
say "  every container is healthy"

say "README's request"
request=$(awk '/^## Run it as a service/ {on = 1} on && /^```/ {inside = !inside; next} on && inside' README.md |
  awk '/^curl/ {on = 1} on {print} on && /'"}'"'/ {exit}')
bash -c "${request//127.0.0.1:8000/127.0.0.1:$GATEWAY_PORT}" >"$work/answer" 2>"$work/last" || fail "no answer to: $request"
grep -q '"text":' "$work/answer" || fail "expected a text, got $(cat "$work/answer")"
say "  is answered"

say "a quiet hour"
quietly python3 tests/compose/asking.py learn "$url" "$work/quiet"
say "  $(cat "$work/last")"

say "--scale verifier=4"
quietly "${compose[@]}" up -d --no-recreate --scale verifier=4 verifier
until_healthy verifier 4
begin
spread=$("${compose[@]}" run --rm -T --no-deps --entrypoint python admin - 4 <tests/compose/spread.py 2>/dev/null | tr -d '\r')
[ "$spread" = 4 ] || fail "expected sessions at 4 verifiers, got them at $spread"
say "  all 4 have sessions"
finish

say "verifiers, and a batch worker, are killed while texts and a batch run"
begin
submit 120
for number in 1 2 3; do
  crash "$(ids verifier | sed -n "${number}p")"
  sleep 4
done
crash "$(ids batch)"
until_done 120
until_healthy verifier 4
until_healthy batch 1
finish

say "rolling restart, while texts and a batch run"
before=$(ids verifier batch | sort)
begin
submit 120
quietly deploy/roll.sh
until_done 120
finish
[ -z "$(comm -12 <(echo "$before") <(ids verifier batch | sort))" ] || fail "expected new containers"
until_healthy verifier 4
say "  all verifiers and batch workers are new ones"

say "Redis is restarted, then killed, while texts and a batch run"
begin
submit 120
quietly "${compose[@]}" restart redis
until_healthy redis 1
sleep 3
crash "$(ids redis)"
until_healthy redis 1
until_done 120
finish

say "profile demo: 2 devices"
quietly "${compose[@]}" up -d --no-recreate --scale device=2 --scale verifier=4 device
for one in $(ids device); do
  deadline=$((SECONDS + 120))
  until [ "$(docker logs "$one" 2>/dev/null | grep -c '^text ')" -ge 2 ]; do
    ((SECONDS < deadline)) || fail "expected texts of a device, got $(docker logs "$one" 2>&1 | tail -3)"
    sleep 1
  done
  say "  $(docker logs "$one" 2>/dev/null | tail -1)"
done

say "down"
quietly "${compose[@]}" down -v --remove-orphans
label=label=com.docker.compose.project=$COMPOSE_PROJECT_NAME
left="$(docker ps -aq --filter "$label")$(docker network ls -q --filter "$label")$(docker volume ls -q --filter "$label")"
[ -z "$left" ] || fail "expected nothing to be left, found $left"
say "  no container, network or volume is left"
say "passed"
