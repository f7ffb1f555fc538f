# For a benchmark's script, which sources it from the repository's root: starts a `rowcast dev` without its demo in a temporary folder,
# $folder, with these further arguments, and ends it with the script. $binaries is where the programs are; PROFILE=debug uses
# what a test built.
binaries=${CARGO_TARGET_DIR:-target}/${PROFILE:-release}
folder=$(mktemp -d)

start_dev() {
    "$binaries/rowcast" dev --dir "$folder" --no-demo --restart-after never "$@" >"$folder/output" 2>&1 &
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
}
