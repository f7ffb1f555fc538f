#!/bin/sh
# Prints both tables of the spike: costs, then behaviour. RUNS and SOCKETS can be set.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --quiet -p rowcast-spike-socket
program=${CARGO_TARGET_DIR:-target}/release/rowcast-spike-socket
taskset -c 1 "$program" measure --runs "${RUNS:-5}" --sockets "${SOCKETS:-4000}"
echo
taskset -c 1 "$program" probe
