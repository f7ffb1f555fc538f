#!/usr/bin/env bash
# Whether everything that Rowcast depends on has a licence that deny.toml accepts, is not banned there, and comes from where
# crates come from. `scripts/deny.sh advisories` looks for known vulnerabilities too, whose database has to be fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

brought=${CARGO_TARGET_DIR:-target}/tools/cargo-deny/bin/cargo-deny
if [[ -x $brought ]]; then
    program=$brought
elif ! program=$(command -v cargo-deny); then
    echo "deny: there is no cargo-deny: run \`make setup\`, or \`cargo install cargo-deny --locked\`" >&2
    exit 1
fi
# Two versions of a crate are a warning in deny.toml, of which there are many: errors alone are shown.
exec "$program" --log-level error --all-features check "$@" licenses bans sources
