#!/usr/bin/env bash
# Replace verifiers and batch workers one by one by containers of the image and the settings that compose has now:
#   deploy/roll.sh [SERVICE ...]     verifier and batch unless others are named
# One more is started and waited for until it is healthy; then an old one is told to stop. It finishes what it has
# begun and hands its sessions over. So there is room for one more, and at no time one too few.
#
# Not the gateway: its port on this machine can be one container's only. `docker compose up -d --no-deps gateway`
# replaces it in place: the old one finishes its requests, and until the new one answers, clients are refused.
#
# COMPOSE is the command to use: "docker compose", or docker-compose 1.29.
set -euo pipefail
cd "$(dirname "$0")/.."
read -r -a compose <<<"${COMPOSE:-docker compose}"
WAIT_S=${WAIT_S:-900}

state() { docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$1"; }

until_healthy() { # ID
  local deadline=$((SECONDS + WAIT_S))
  until [ "$(state "$1")" = healthy ]; do
    if [ "$(docker inspect --format '{{.State.Running}} {{.RestartCount}}' "$1")" != "true 0" ] || ((SECONDS > deadline)); then
      echo "roll: expected $1 to become healthy, it is $(state "$1"); the old ones are left running:" >&2
      docker logs --tail 5 "$1" >&2
      return 1
    fi
    sleep 1
  done
}

roll() { # SERVICE
  local old fresh one said
  mapfile -t old < <("${compose[@]}" ps -q "$1")
  [ ${#old[@]} -gt 0 ] || { echo "roll: expected containers of $1, found none" >&2; return 1; }
  for one in "${old[@]}"; do
    said=$("${compose[@]}" up -d --no-deps --no-recreate --scale "$1=$((${#old[@]} + 1))" "$1" 2>&1) ||
      { echo "roll: one more $1 could not be started: $said" >&2; return 1; }
    for fresh in $("${compose[@]}" ps -q "$1"); do
      [[ " ${old[*]} " == *" $fresh "* ]] || until_healthy "$fresh"
    done
    docker stop --time 60 "$one" >/dev/null
    docker rm "$one" >/dev/null
    echo "roll: $1 ${one:0:12} is replaced"
  done
}

services=("$@")
for service in "${services[@]:-verifier batch}"; do
  for each in $service; do roll "$each"; done
done
