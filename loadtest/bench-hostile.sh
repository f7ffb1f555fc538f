#!/bin/sh
# Good clients beside each attack in turn, and quiet: how much later events are, what the edge takes. Starts a `rowcast dev`
# with one edge, at its default limits, in a temporary folder and ends it. SECONDS_EACH, SOCKETS, ROOMS, RATE, ATTACKS
# (separated by commas) can be set; further arguments go to `rowcast-generator hostile`. PROFILE=debug uses what a test built.
set -eu
cd "$(dirname "$0")/.."
. loadtest/with-dev.sh
start_dev --listeners 1 --edges 1
"$binaries/rowcast-generator" hostile --dev "$folder" --sockets "${SOCKETS:-2000}" --rooms "${ROOMS:-20}" \
    --rate "${RATE:-50}" --seconds "${SECONDS_EACH:-30}" ${ATTACKS:+--attacks "$ATTACKS"} "$@"
