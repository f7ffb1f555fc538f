#!/usr/bin/env python3
"""Takes out one mechanism at a time and shows that a test fails without it.

Each mutant (scripts/guards) is one text of one file, replaced in a copy of the tree (target/mutants, with a target folder of its own),
and the tests that guard it. A mutant that no test catches, or whose text is no longer there, ends with exit code 1.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from guards import all_mutants

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants"


def cargo(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(COPY / "target")}
    return subprocess.run(
        ["cargo", *arguments], cwd=COPY / "tree", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def copy_tree() -> None:
    """The files as they are now, beside the tools that setup has brought; one that has not changed keeps its time, so that nothing
    is built twice."""
    tree = COPY / "tree"
    tools = COPY / "target" / "tools"
    tools.parent.mkdir(parents=True, exist_ok=True)
    if not tools.exists():
        tools.symlink_to(ROOT / "target" / "tools")
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    wanted = {name for name in files if name and (ROOT / name).is_file()}
    for stale in [path for path in tree.rglob("*") if path.is_file() and str(path.relative_to(tree)) not in wanted]:
        stale.unlink()
    for name in wanted:
        source, target = ROOT / name, tree / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)


def run_tests(tests: list[str], binaries: bool) -> tuple[bool, str]:
    """Whether the tests passed, and what they said."""
    if binaries:
        built = cargo(["build", "--quiet", "--workspace", "--bins"])
        if built.returncode != 0:
            sys.exit(f"it does not build:\n{built.stdout}")
    compiled = cargo(["test", "--quiet", "--no-run", *tests[: tests.index("--") if "--" in tests else None]])
    if compiled.returncode != 0:
        sys.exit(f"it does not build:\n{compiled.stdout}")
    done = cargo(["test", "--quiet", *tests])
    return done.returncode == 0, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of mutants' names; all unless given")
    arguments = parser.parse_args()
    mutants = all_mutants()
    chosen = [m for m in mutants if not arguments.only or any(part in m.name for part in arguments.only)]
    if not chosen:
        parser.error("no mutant has such a name; there are: " + "; ".join(m.name for m in mutants))
    copy_tree()
    # Without any: what fails must fail because of the mutant.
    for tests, binaries in {(tuple(m.tests), m.binaries) for m in chosen}:
        passed, output = run_tests(list(tests), binaries)
        if not passed:
            print(output)
            sys.exit(f"{' '.join(tests)} fails although nothing is taken out")
    survivors = 0
    for mutant in chosen:
        path = COPY / "tree" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.file} does not hold once: {mutant.old}")
        began = time.monotonic()
        path.write_text(text.replace(mutant.old, mutant.new))
        try:
            passed, output = run_tests(mutant.tests, mutant.binaries)
        finally:
            path.write_text(text)
        failed = sorted(set(re.findall(r"^(?:test )?([\w:]+) (?:\.\.\. |--- )FAILED", output, re.MULTILINE)))
        survivors += passed
        print(f"{'SURVIVES' if passed else 'caught  '} {mutant.name} ({time.monotonic() - began:.0f} s)", flush=True)
        for test in failed:
            print(f"         by {test}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
