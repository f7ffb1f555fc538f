"""What a step of scripts/test.py is, how it is run, and how its result is read: cargo's and unittest's from their output,
vitest's from the report that it writes. Which steps there are is not here."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
TOOLS = TARGET / "tools"
# The exit status of a check whose needs are not here.
NOT_RUN = 3
SUITE = re.compile(r"^\s+(?:Running (?P<path>\S.*) \(.*?(?P<binary>[^/]+)-[0-9a-f]+\)|Doc-tests (?P<documented>\w+))$")
RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
PYTHON_RAN = re.compile(r"^Ran (\d+) tests? in ")
PYTHON_RESULT = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \((?P<counts>.*)\))?$")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    """What one suite or check came to."""

    name: str
    passed: int
    failed: int
    seconds: float
    skipped: int = 0
    is_test: bool = True


@dataclass
class Step:
    """A command to run, and what reads its result."""

    name: str
    command: list
    minutes: float
    run: Callable
    folder: Path = ROOT
    environment: dict = field(default_factory=dict)
    report: Path = None


def environment(more):
    """This environment, without what would make a test connect to somebody's servers. Where setup has brought a newer Node
    than the system's, that one comes first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ROWCAST_", "PG", "REDIS"))}
    path = os.pathsep.join([str(TOOLS / "node" / "bin"), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "RUST_BACKTRACE": "1", "CARGO_TERM_COLOR": "never", **more}


class Lane(threading.local):
    """What a thread that is not the first has to say is kept until the first has said its own."""

    kept = None


LANE = Lane()
# What runs now, of all lanes.
CHILDREN = set()
INTERRUPTED = threading.Event()


def say(text):
    if LANE.kept is None:
        print(text, end="", flush=True)
    else:
        LANE.kept.append(text)


def run_all(steps):
    """One step after the other."""
    outcomes = []
    for step in steps:
        if INTERRUPTED.is_set():
            break
        say(f"\n== {step.name}: {' '.join(step.command)}\n")
        outcomes += step.run(step)
    return outcomes


def run_beside(steps, others):
    """Two lanes, where neither keeps the machine busy by itself. What the second says comes behind what the first does."""

    def second():
        LANE.kept = kept
        return run_all(others)

    kept = []
    with ThreadPoolExecutor(max_workers=1) as lane:
        beside = lane.submit(second)
        try:
            outcomes = run_all(steps)
            outcomes += beside.result()
        except BaseException:
            INTERRUPTED.set()
            for child in list(CHILDREN):
                end_group(child)
            raise
        finally:
            say("".join(kept))
    return outcomes


def end_group(child):
    """Servers die with the test that started them, which is in its group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stream(step):
    """Runs a step, passing its output on. Yields its lines, then its exit status (None: it was too slow)."""
    child = subprocess.Popen(
        step.command, cwd=step.folder, env=environment(step.environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )
    CHILDREN.add(child)
    too_slow = threading.Event()

    def end():
        too_slow.set()
        end_group(child)

    timer = threading.Timer(step.minutes * 60, end)
    timer.start()
    try:
        for line in child.stdout:
            say(line)
            yield COLOUR.sub("", line.rstrip("\n"))
        status = child.wait()
    except BaseException:
        # An interrupted run leaves nothing behind.
        end_group(child)
        raise
    finally:
        CHILDREN.discard(child)
        timer.cancel()
    yield None if too_slow.is_set() else status


def run_check(step):
    """A check passes or fails. It is not a test: it does not keep a run without tests from failing."""
    begun = time.monotonic()
    *_, status = stream(step)
    passed = int(status == 0)
    return [Outcome(describe(step, status), passed, 1 - passed, time.monotonic() - begun, is_test=False)]


def run_optional_check(step):
    """One that ends with NOT_RUN where what it needs is not here; it has said what that is."""
    begun = time.monotonic()
    *_, status = stream(step)
    seconds = time.monotonic() - begun
    if status == NOT_RUN:
        return [Outcome(f"{step.name}: NOT RUN, see above", 0, 0, seconds, skipped=1)]
    passed = int(status == 0)
    return [Outcome(describe(step, status), passed, 1 - passed, seconds, is_test=False)]


def run_cargo_tests(step):
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
            passed, failed, ignored = map(int, result.groups())
            outcomes.append(Outcome(open_suite, passed, failed, time.monotonic() - started, ignored))
            open_suite = None
    if open_suite:
        crashed()
    return with_status(step, status, outcomes, begun)


def suite_name(match):
    if documented := match["documented"]:
        return f"{documented}: doc-tests"
    # Unit tests of all crates have the same path; integration tests have one that says more than their binary.
    return match["path"].replace("unittests", f"{match['binary']}:")


def run_vitest(step):
    """One outcome a file, from the report, which is not there when the run crashed."""
    begun = time.monotonic()
    step.report.parent.mkdir(parents=True, exist_ok=True)
    step.report.unlink(missing_ok=True)
    *_, status = stream(step)
    try:
        files = json.loads(step.report.read_text())["testResults"]
    except (OSError, ValueError, KeyError) as error:
        say(f"{step.name}: no report ({error})\n")
        files = []
    outcomes = with_status(step, status, [file_outcome(step, file) for file in files], begun)
    if not any(outcome.passed + outcome.failed for outcome in outcomes):
        outcomes.append(Outcome(f"{step.name}: no test was executed", 0, 1, time.monotonic() - begun))
    return outcomes


def file_outcome(step, file):
    states = [test["status"] for test in file["assertionResults"]]
    passed, failed = states.count("passed"), states.count("failed")
    name, seconds = os.path.relpath(file["name"], ROOT), (file["endTime"] - file["startTime"]) / 1000
    if file["status"] != "passed" and not failed:
        # It could not be loaded, or what goes before or after its tests failed.
        name, failed = f"{name}: {first_line(file.get('message'))}", 1
    return Outcome(f"{step.name}: {name}", passed, failed, seconds, len(states) - passed - states.count("failed"))


def first_line(message):
    return ((message or "").strip().splitlines() or ["failed outside of its tests"])[0]


def run_unittest(step):
    """One outcome, from unittest's last lines. What fails before or after tests is counted by it among the errors."""
    begun, ran, counts, status = time.monotonic(), 0, None, None
    for line in stream(step):
        if not isinstance(line, str):
            status = line
        elif match := PYTHON_RAN.match(line):
            ran = int(match[1])
        elif match := PYTHON_RESULT.match(line):
            counts = {name.strip(): int(count) for name, count in re.findall(r"([a-z ]+)=(\d+)", match["counts"] or "")}
    if counts is None:
        return [Outcome(f"{describe(step, status)}: crashed, no result", 0, 1, time.monotonic() - begun)]
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpected successes"))
    skipped = counts.get("skipped", 0)
    passed = max(0, ran - failed - skipped - counts.get("expected failures", 0))
    outcomes = with_status(step, status, [Outcome(step.name, passed, failed, time.monotonic() - begun, skipped)], begun)
    if not any(outcome.passed + outcome.failed for outcome in outcomes):
        outcomes.append(Outcome(f"{step.name}: no test was executed", 0, 1, time.monotonic() - begun))
    return outcomes


def with_status(step, status, outcomes, begun):
    """A run that failed has a failure, even where no suite tells of one; one that was killed has left something out."""
    if status is None or status != 0 and not any(outcome.failed for outcome in outcomes):
        outcomes.append(Outcome(describe(step, status), 0, 1, time.monotonic() - begun))
    return outcomes


def describe(step, status):
    if status == 0:
        return step.name
    return f"{step.name}: " + (f"killed after {step.minutes:g} minutes" if status is None else f"exit status {status}")
