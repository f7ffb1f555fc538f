#!/usr/bin/env python3
"""Takes out one mechanism at a time and shows that a test fails without it.

Each mutant is one text of one file, replaced in a copy of the tree (target/mutants, with a target folder of its own),
and the tests that guard it. A mutant that no test catches, or whose text is no longer there, ends with exit code 1.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants"

LISTENER = ["-p", "rowcast-listener", "--lib"]
SCRIPTS = ["-p", "rowcast-bus", "--test", "scripts"]
ROOMS = ["-p", "rowcast-edge", "--test", "room_model", "--test", "session_model"]
PAGES = ["-p", "rowcast-edge", "--lib", "--", "http::page"]
READING = ["-p", "rowcast-store", "--test", "it", "--", "model", "reading"]


@dataclass
class Mutant:
    """A mechanism, what stands for it, what stands there without it, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    # The tests start binaries, which must be built without it too.
    binaries: bool = False


MUTANTS = [
    Mutant(
        "the fence: a leader publishes only while its proof of the lock is fresh",
        "services/listener/src/election.rs",
        "now.saturating_duration_since(proved_at) < PROOF_LIFETIME => true",
        "proved_at <= now => true",
        LISTENER,
    ),
    Mutant(
        "the fence in Redis: an older epoch is refused",
        "crates/bus/src/append.lua",
        "if at[3] and tonumber(at[3]) > tonumber(epoch) then",
        "if false then",
        SCRIPTS,
    ),
    Mutant(
        "compare-and-append: another offset than the expected one changes nothing",
        "crates/bus/src/append.lua",
        "if at[1] ~= stream or at[2] ~= ARGV[4] then",
        "if at[1] ~= stream then",
        SCRIPTS,
    ),
    Mutant(
        "compare-and-append: another stream than the expected one changes nothing",
        "crates/bus/src/append.lua",
        "if at[1] ~= stream or at[2] ~= ARGV[4] then",
        "if at[2] ~= ARGV[4] then",
        SCRIPTS,
    ),
    Mutant(
        "the fence of what edges go by: only the leader whose claim stands writes it",
        "crates/bus/src/mirror.lua",
        "if known ~= ARGV[1] then return {1} end",
        "",
        SCRIPTS,
    ),
    Mutant(
        "what edges go by stands in Redis before a heartbeat tells of it",
        "services/listener/src/core.rs",
        " || !self.publisher.mirrors.stand()",
        "",
        LISTENER,
    ),
    Mutant(
        "the grace of the doorbell: whoever may have found it silent is waited for",
        "services/listener/src/doorbell.rs",
        "self.state = State::Awaiting { writers, since: now };",
        "drop(writers);\n            self.state = State::Awaiting { writers: Vec::new(), since: now };",
        LISTENER,
    ),
    Mutant(
        "snapshot reading: transactions that the last snapshot found running are read when they have ended",
        "crates/store/src/reading.rs",
        "tx < self.xmin || (tx < self.xmax && self.running.binary_search(&tx).is_err())",
        "tx < self.xmax",
        READING,
    ),
    Mutant(
        "snapshot reading: a window leaves out what its snapshot does not see",
        "crates/store/src/outbox.rs",
        "AND pg_visible_in_snapshot(tx, $5::text::pg_snapshot)",
        "AND $5::text IS NOT NULL",
        READING,
    ),
    Mutant(
        "snapshot reading: windows begin below the ids of whoever may be running",
        "crates/store/src/reading.rs",
        "if next_tx <= snapshot.xmax {",
        "if next_tx > 0 {",
        READING,
    ),
    Mutant(
        "the floor: it passes nothing that is not deleted",
        "services/listener/src/floor.rs",
        "candidate.round < *oldest",
        "candidate.round <= *oldest",
        LISTENER,
    ),
    Mutant(
        "the generation: a Redis whose history is gone raises it before anything is published",
        "services/listener/src/history.rs",
        "if !known.redis.raised {",
        "if false {",
        ["-p", "rowcast-listener", "--test", "redis_faults", "--test", "takeover", "--", "flush", "snapshot", "a_restarted_redis"],
        binaries=True,
    ),
    Mutant(
        "the generation: a cursor of an older one is not resumed",
        "services/edge/src/room.rs",
        "        if cursor.generation != self.generation {\n            return vec![Action::Answer(",
        "        if cursor.generation > self.generation {\n            return vec![Action::Answer(",
        ROOMS,
    ),
    Mutant(
        "gaps: an event that does not follow the last one makes the room read the log",
        "services/edge/src/room.rs",
        "&& record.offset == self.offset.next() {\n            return vec![self.apply(record)];",
        "&& record.offset > self.offset {\n            return vec![self.apply(record)];",
        ROOMS,
    ),
    Mutant(
        "repeats: an event that a room has had is left out",
        "services/edge/src/room.rs",
        "if record.stream == self.stream && record.offset <= self.offset {\n            return Vec::new();",
        "if record.stream == self.stream && record.offset <= self.offset {\n            return vec![self.apply(record)];",
        ROOMS,
    ),
    Mutant(
        "lost messages: a sweep of the heads finds a room that is behind",
        "services/edge/src/room.rs",
        "head.offset <= self.offset && head.offset >= then",
        "head.offset >= then",
        ROOMS,
    ),
    Mutant(
        "pages: the session's own place counts only where all that was queued is in the page",
        "services/edge/src/session.rs",
        "let all_taken = self.phase == Phase::Open && self.queue.is_empty();",
        "let all_taken = self.phase == Phase::Open;",
        PAGES,
    ),
    Mutant(
        "pages: who is owed a resync keeps its cursor until it has it",
        "services/edge/src/http/reach.rs",
        "if *resumed || place.cursor.is_none() {",
        "if true {",
        PAGES,
    ),
    Mutant(
        "pages: what came before a resync is not in the page",
        "services/edge/src/http/page.rs",
        "        self.events.retain(|event| event.room != room);\n",
        "",
        PAGES,
    ),
]


def cargo(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(COPY / "target")}
    return subprocess.run(
        ["cargo", *arguments], cwd=COPY / "tree", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def copy_tree() -> None:
    """The files as they are now; one that has not changed keeps its time, so that nothing is built twice."""
    tree = COPY / "tree"
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


def run_tests(mutant: Mutant) -> tuple[bool, str]:
    """Whether the tests passed, and what they said."""
    if mutant.binaries:
        built = cargo(["build", "--quiet", "--workspace", "--bins"])
        if built.returncode != 0:
            sys.exit(f"it does not build:\n{built.stdout}")
    test = list(mutant.tests)
    compiled = cargo(["test", "--quiet", "--no-run", *test[: test.index("--") if "--" in test else None]])
    if compiled.returncode != 0:
        sys.exit(f"it does not build:\n{compiled.stdout}")
    done = cargo(["test", "--quiet", *test])
    return done.returncode == 0, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of mutants' names; all unless given")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.only or any(part in m.name for part in arguments.only)]
    if not chosen:
        parser.error("no mutant has such a name; there are: " + "; ".join(m.name for m in MUTANTS))
    copy_tree()
    # Without any: what fails must fail because of the mutant.
    for tests, binaries in {(tuple(m.tests), m.binaries) for m in chosen}:
        passed, output = run_tests(Mutant("none", "", "", "", list(tests), binaries))
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
            passed, output = run_tests(mutant)
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
