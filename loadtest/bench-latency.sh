#!/bin/sh
# Commit → client: Rowcast beside a bare LISTEN → socket loop on the same PostgreSQL, runs of both in turn.
# Starts a `rowcast dev` of its own in a temporary folder and ends it. RUNS, SOCKETS, ROOMS, RATE, EVENTS, LISTENERS and
# EDGES can be set; further arguments go to `rowcast-generator compare`. PROFILE=debug uses what a test built.
set -eu
cd "$(dirname "$0")/.."
binaries=${CARGO_TARGET_DIR:-target}/${PROFILE:-release}
folder=$(mktemp -d)
"$binaries/rowcast" dev --dir "$folder" --no-demo --restart-after never \
    --listeners "${LISTENERS:-1}" --edges "${EDGES:-1}" >"$folder/output" 2>&1 &
dev=$!
trap 'kill -INT $dev 2>/dev/null || true; wait $dev || true; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
until [ -f "$folder/dev.json" ]; do
    if ! kill -0 $dev 2>/dev/null; then
        cat "$folder/output" >&2
        exit 2
    fi
    sleep 0.2
done
"$binaries/rowcast-generator" compare --dev "$folder" --runs "${RUNS:-5}" --sockets "${SOCKETS:-100}" \
    --rooms "${ROOMS:-10}" --rate "${RATE:-200}" --events "${EVENTS:-2000}" "$@"
