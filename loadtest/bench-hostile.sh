#!/bin/sh
# Good clients beside each attack in turn, and quiet: how much later events are, what the edge takes. Starts a `rowcast dev`
# with one edge, at its default limits, in a temporary folder and ends it. SECONDS_EACH, SOCKETS, ROOMS, RATE, ATTACKS
# (separated by commas) can be set; further arguments go to `rowcast-generator hostile`. PROFILE=debug uses what a test built.
set -eu
cd "$(dirname "$0")/.."
binaries=${CARGO_TARGET_DIR:-target}/${PROFILE:-release}
folder=$(mktemp -d)
"$binaries/rowcast" dev --dir "$folder" --no-demo --restart-after never --listeners 1 --edges 1 >"$folder/output" 2>&1 &
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
"$binaries/rowcast-generator" hostile --dev "$folder" --sockets "${SOCKETS:-2000}" --rooms "${ROOMS:-20}" \
    --rate "${RATE:-50}" --seconds "${SECONDS_EACH:-30}" ${ATTACKS:+--attacks "$ATTACKS"} "$@"
