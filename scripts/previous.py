#!/usr/bin/env python3
"""Builds the programs of the release that scripts/previous-release.txt names, from the repository's own history, and lays out
folders in which programs of both releases stand side by side, for tests that start whatever stands beside `rowcast`.

    target/previous/source     what the release was made of
    target/previous/build      its own build, kept between runs
    target/previous/bin        its programs
    target/previous/mixed/…    the same names, some of them of this release

    scripts/previous.py [debug|release]     which build of this release; debug unless given

Ends with status 3 and a reason where that release is not to be had here: in a shallow clone, or without git.
"""

import os
import shutil
import subprocess
import sys

from suites import NOT_RUN, ROOT, TARGET, environment

FOLDER = TARGET / "previous"
PROGRAMS = ["rowcast", "rowcast-listener", "rowcast-edge"]
# Which programs are the previous release's; the others are this one's. `rowcast` makes the schema and looks after the others.
MIXED = {
    "listener": ["rowcast-listener"],
    "edge": ["rowcast-edge"],
    "schema": ["rowcast"],
}


def main():
    release = (ROOT / "scripts" / "previous-release.txt").read_text().split()[-1]
    commit = git("rev-parse", "--quiet", "--verify", f"{release}^{{commit}}")
    if commit is None:
        print(f"the previous release, {release}, is not in this clone: git fetch --unshallow --tags brings it")
        return NOT_RUN
    own = TARGET / (sys.argv[1] if len(sys.argv) > 1 else "debug")
    unpack(commit)
    if status := build():
        return status
    for name in PROGRAMS:
        place(FOLDER / "build" / "debug" / name, FOLDER / "bin" / name)
    for folder, previous in MIXED.items():
        for name in PROGRAMS:
            place((FOLDER / "bin" if name in previous else own) / name, FOLDER / "mixed" / folder / name)
    print(f"the programs of {release} are in {FOLDER / 'bin'}")
    return 0


def git(*command):
    """What git says, or None where it fails or is not there."""
    try:
        result = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def unpack(commit):
    """Files get the commit's own time, so that what was built of them stays."""
    source, note = FOLDER / "source", FOLDER / "commit"
    if note.exists() and note.read_text() == commit:
        return
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    archive = subprocess.Popen(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", source], stdin=archive.stdout, check=True)
    if archive.wait() != 0:
        raise SystemExit(f"git archive {commit} ended with {archive.returncode}")
    note.write_text(commit)


def build():
    # Built once, for no developer: what makes the next build quicker would only take room.
    surroundings = environment({"CARGO_TARGET_DIR": str(FOLDER / "build"), "CARGO_INCREMENTAL": "0"})
    packages = [argument for package in ("rowcast-cli", "rowcast-listener", "rowcast-edge") for argument in ("-p", package)]
    command = ["cargo", "build", "--locked", *packages, "--bins"]
    return subprocess.run(command, cwd=FOLDER / "source", env=surroundings).returncode


def place(program, at):
    """A second name of the same file: a program looks for the others beside its own file, so that a symbolic link leads away."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    try:
        os.link(program, at)
    except OSError:
        shutil.copy2(program, at)


if __name__ == "__main__":
    sys.exit(main())
