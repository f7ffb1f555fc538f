#!/bin/sh
# Commit → client: Rowcast, with native clients and with those of Socket.IO, beside a bare LISTEN → socket loop on the same
# PostgreSQL, runs of all in turn.
# Starts a `rowcast dev` of its own in a temporary folder and ends it. RUNS, SOCKETS, ROOMS, RATE, EVENTS, LISTENERS and
# EDGES can be set; further arguments go to `rowcast-generator compare`. PROFILE=debug uses what a test built.
set -eu
cd "$(dirname "$0")/.."
. loadtest/with-dev.sh
start_dev --listeners "${LISTENERS:-1}" --edges "${EDGES:-1}"
"$binaries/rowcast-generator" compare --dev "$folder" --socketio --runs "${RUNS:-5}" --sockets "${SOCKETS:-100}" \
    --rooms "${ROOMS:-10}" --rate "${RATE:-200}" --events "${EVENTS:-2000}" "$@"
