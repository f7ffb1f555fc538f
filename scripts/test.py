#!/usr/bin/env python3
"""Runs every check and every test suite of the workspace, and ends with one line that counts them all.

A check (format, lints, build) counts as one. A suite that crashes, or that tells no result, counts as one failure. The
exit status is 0 only when nothing failed and tests were executed. Nothing is retried.

    scripts/test.py           what must hold before a change is taken
    scripts/test.py --long    the tests marked #[ignore], in release mode
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE = re.compile(r"^\s+(?:Running (?P<path>\S.*) \(.*?(?P<binary>[^/]+)-[0-9a-f]+\)|Doc-tests (?P<documented>\w+))$")
RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    """What one suite or check came to."""

    name: str
    passed: int
    failed: int
    seconds: float
    is_test: bool = True


@dataclass
class Step:
    """A command to run. Checks are not tests: they do not keep a run without tests from failing."""

    name: str
    command: list
    minutes: float
    is_cargo_test: bool = False


def steps(long):
    """What is run, in this order: what fails fast comes first."""
    if long:
        # Ignored tests are long or heavy; one at a time, so that none disturbs another's figures.
        run = ["cargo", "test", "--workspace", "--release", "--no-fail-fast", "--", "--ignored", "--test-threads=1"]
        build = ["cargo", "build", "--workspace", "--release", "--bins"]
        return [Step("build", build, 30), Step("long tests", run, 180, is_cargo_test=True)]
    return [
        Step("format", ["cargo", "fmt", "--all", "--check"], 2),
        Step("lints", ["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], 20),
        # Tests start each other's binaries, so all of them must be there, and new.
        Step("build", ["cargo", "build", "--workspace", "--bins"], 20),
        Step("tests", ["cargo", "test", "--workspace", "--no-fail-fast"], 20, is_cargo_test=True),
    ]


def environment():
    """This environment, without what would make a test connect to somebody's servers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ROWCAST_", "PG", "REDIS"))}
    return {**kept, "RUST_BACKTRACE": "1", "CARGO_TERM_COLOR": "never"}


def stream(step):
    """Runs a step, passing its output on. Yields its lines, then its exit status (None: it was too slow)."""
    child = subprocess.Popen(
        step.command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )
    too_slow = threading.Event()

    def end():
        too_slow.set()
        os.killpg(child.pid, signal.SIGKILL)

    timer = threading.Timer(step.minutes * 60, end)
    timer.start()
    try:
        for line in child.stdout:
            print(line, end="", flush=True)
            yield COLOUR.sub("", line.rstrip("\n"))
        status = child.wait()
    except BaseException:
        # An interrupted run leaves nothing behind; servers die with the test that started them.
        os.killpg(child.pid, signal.SIGKILL)
        raise
    finally:
        timer.cancel()
    yield None if too_slow.is_set() else status


def run_check(step):
    begun = time.monotonic()
    *_, status = stream(step)
    passed = int(status == 0)
    return [Outcome(describe(step, status), passed, 1 - passed, time.monotonic() - begun, is_test=False)]


def run_tests(step):
    """One outcome a suite. A suite is open from its `Running` line to its result."""
    outcomes, open_suite, begun, status = [], None, time.monotonic(), None
    started = begun

    def crashed():
        outcomes.append(Outcome(f"{open_suite}: crashed, no result", 0, 1, time.monotonic() - started))

    for line in stream(step):
        if not isinstance(line, str):
            status = line
            break
        if suite := SUITE.match(line):
            if open_suite:
                crashed()
            open_suite, started = suite_name(suite), time.monotonic()
        elif open_suite and (result := RESULT.match(line)):
            passed, failed = int(result.group(1)), int(result.group(2))
            outcomes.append(Outcome(open_suite, passed, failed, time.monotonic() - started))
            open_suite = None
    if open_suite:
        crashed()
    if status != 0 and not any(outcome.failed for outcome in outcomes):
        outcomes.append(Outcome(describe(step, status), 0, 1, time.monotonic() - begun))
    return outcomes


def suite_name(match):
    if documented := match["documented"]:
        return f"{documented}: doc-tests"
    # Unit tests of all crates have the same path; integration tests have one that says more than their binary.
    return match["path"].replace("unittests", f"{match['binary']}:")


def describe(step, status):
    if status == 0:
        return step.name
    return f"{step.name}: " + (f"killed after {step.minutes:g} minutes" if status is None else f"exit status {status}")


def report(outcomes):
    """Prints one line a suite and the closing line. Returns the exit status."""
    executed = sum(outcome.passed + outcome.failed for outcome in outcomes if outcome.is_test)
    if executed == 0:
        outcomes = [*outcomes, Outcome("no test was executed", 0, 1, 0)]
    print("\n" + "-" * 72)
    for outcome in outcomes:
        if outcome.passed + outcome.failed:
            mark = "FAILED" if outcome.failed else "ok"
            print(f"{mark:6} {outcome.passed:4} passed {outcome.failed:3} failed {outcome.seconds:7.1f} s  {outcome.name}")
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="the tests marked #[ignore]")
    outcomes = []
    for step in steps(parser.parse_args().long):
        print(f"\n== {step.name}: {' '.join(step.command)}", flush=True)
        outcomes += run_tests(step) if step.is_cargo_test else run_check(step)
    return report(outcomes)


if __name__ == "__main__":
    sys.exit(main())
