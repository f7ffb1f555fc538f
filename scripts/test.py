#!/usr/bin/env python3
"""Runs every check and every test suite of the workspace and of the clients, and ends with one line that counts them all.

A check (format, lints, build, packages) counts as one. A suite that crashes, or that tells no result, counts as one
failure. The exit status is 0 only when nothing failed and tests were executed. Nothing is retried.

    scripts/test.py             what must hold before a change is taken
    scripts/test.py --clients   that part of it which is about the clients: packages, contract, browser
    scripts/test.py --compat    this release's programs and clients beside the previous release's
    scripts/test.py --long      the tests marked #[ignore], in release mode; Autobahn's suite; fuzzing; the same beside the previous
"""

import argparse
import shutil
import sys

from suites import ROOT, TARGET, TOOLS, Outcome, Step, run_all, run_beside, run_cargo_tests, run_check, run_optional_check
from suites import run_unittest, run_vitest

# What `cargo clippy` sets before it runs `cargo check`. The same before `cargo build` makes clippy, which is the compiler with more
# lints, compile the workspace's own code: everything is read once, and what is not the workspace's is built once, where a check
# beside the build takes two and a half minutes more of both cores.
LINTER = {"RUSTC_WORKSPACE_WRAPPER": "clippy-driver", "CLIPPY_ARGS": "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__"}

CLIENTS = ROOT / "clients"
PYTHON_TESTS = CLIENTS / "socketio-python"
# Arguments of npm, minutes.
NPM = {
    "clients: install": (["ci"], 10),
    "clients: build": (["run", "build", "--workspaces", "--if-present"], 5),
    "clients: types": (["run", "check", "--workspaces", "--if-present"], 5),
    "clients: packages": (["run", "package-check"], 5),
}
# What tests that need the previous release's programs have in their names.
PREVIOUS = "previous_release"
# Workspace, script, minutes. The last ones start the workspace's own binaries.
UNIT_TESTS = [("client", "test", 5), ("react", "test", 5), ("react-18", "test", 5), ("demo", "test", 5)]
SYSTEM_TESTS = [("client", "contract", 8), ("socketio", "system", 8)]
BROWSER_TESTS = [("e2e", "e2e", 12), ("socketio", "browser", 4)]


def run_everything():
    """What fails fast comes first. Packages are brought and checked while the compiler runs; tests of the workspace, which watch
    the clock, have the machine for themselves."""
    # Both steps see the same: cargo builds anew what another compiler, or the same with other settings, has built.
    linter = dict(LINTER)
    before = [
        # Tests and programs together: what tests alone depend on gives features to what programs depend on too, so that apart
        # from each other most of the workspace is built twice.
        Step("lints and build", ["cargo", "build", "--workspace", "--all-targets"], 30, lint_and_build, environment=linter),
        *dependency_checks(),
    ]
    tests = Step("tests", ["cargo", "test", "--workspace", "--no-fail-fast"], 20, run_cargo_tests, environment=linter)
    outcomes = run_all([Step("format", ["cargo", "fmt", "--all", "--check"], 2, run_check)])
    outcomes += run_beside(before, client_checks())
    return outcomes + run_all([tests]) + run_system_tests()


def lint_and_build(step):
    """Where a lint has something to say, tests are built and run without: they have their own things to say."""
    outcomes = run_check(step)
    if any(outcome.failed for outcome in outcomes):
        step.environment.clear()
        outcomes += run_all([build_step()])
    return outcomes


def dependency_checks():
    return [] if deny_missing() else [Step("dependencies: licences, bans, sources", ["scripts/deny.sh"], 5, run_check)]


def deny_missing():
    """Why there is no cargo-deny, if so."""
    note = TOOLS / "cargo-deny.missing"
    return note.read_text().strip() if note.exists() and not shutil.which("cargo-deny") else None


def build_step():
    # Tests start each other's binaries, so all of them must be there, and new.
    return Step("build", ["cargo", "build", "--workspace", "--bins"], 20, run_check)


def long_steps():
    # Ignored tests are long or heavy; one at a time, so that none disturbs another's figures. What is beside the previous release
    # is told where that is, and is left out where that is not to be had.
    run = ["cargo", "test", "--workspace", "--release", "--no-fail-fast", "--", "--ignored", "--test-threads=1", "--skip", PREVIOUS]
    build = ["cargo", "build", "--workspace", "--release", "--bins"]
    return [
        Step("build", build, 30, run_check),
        Step("Autobahn's suite", ["scripts/autobahn.py"], 20, run_optional_check),
        Step("fuzzing", ["cargo", "run", "--release", "-p", "rowcast-fuzzing", "--", "--seconds", "20"], 30, run_check),
        Step("cargo-fuzz's package", ["cargo", "check"], 15, run_check, ROOT / "fuzz", {"CARGO_TARGET_DIR": str(TARGET / "fuzz")}),
        Step("long tests", run, 180, run_cargo_tests),
        *npm_steps(("clients: install", "clients: build")),
        previous_step("release"),
    ]


def compat_steps():
    """Built as `make test` builds, so that what that has built is not built again."""
    build = ["cargo", "build", "--workspace", "--all-targets"]
    npm = npm_steps(("clients: install", "clients: build"))
    return [Step("build", build, 30, run_check, environment=dict(LINTER)), *npm, previous_step("debug")]


def previous_step(profile):
    return Step("the previous release", ["scripts/previous.py", profile], 30, beside_the_previous)


def beside_the_previous(step):
    """Builds it, and runs what is run beside it; where it is not to be had, nothing is, and that is said."""
    outcomes = run_optional_check(step)
    if any(outcome.passed for outcome in outcomes):
        outcomes += run_all(neighbour_steps(step.command[-1]))
    return outcomes


def neighbour_steps(profile):
    previous = TARGET / "previous"
    release, linter = (["--release"], {}) if profile == "release" else ([], LINTER)
    tests = ["--test", "neighbours", "--test", "secured"]
    command = ["cargo", "test", "--workspace", *release, "--no-fail-fast", *tests, "--", "--ignored", "--test-threads=1", PREVIOUS]
    surroundings = {**linter, "PREVIOUS_BIN_DIR": str(previous / "bin")}
    steps = [Step("beside the previous release", command, 30, run_cargo_tests, environment=surroundings)]
    # All of it is the previous release's but the clients; and then one part alone, as scripts/previous.py has mixed them.
    folders = [("all", previous / "bin"), *((part, previous / "mixed" / part) for part in ("edge", "listener", "schema"))]
    steps += [vitest_step("client", "contract", 8, folder, f", previous {part}") for part, folder in folders]
    steps += [vitest_step("socketio", "system", 8, folder, f", previous {part}") for part, folder in folders[:3]]
    if python_missing() is None:
        steps += [python_step(folder, f", previous {part}") for part, folder in folders[:2]]
    return steps


def client_checks():
    """What needs no server."""
    return npm_steps(NPM) + [vitest_step(*suite) for suite in UNIT_TESTS]


def npm_steps(names):
    return [Step(name, ["npm", *NPM[name][0]], NPM[name][1], run_check, CLIENTS) for name in names]


def run_system_tests():
    """The clients, ours and the stock ones of Socket.IO, against the real edges; in a real browser too, where there is one. Each
    suite has servers of its own. One after the other: what a client does by the clock must not depend on another suite."""
    suites = [vitest_step(*suite) for suite in SYSTEM_TESTS] + ([python_step()] if python_missing() is None else [])
    in_browser = [vitest_step(*suite) for suite in BROWSER_TESTS] if browser_missing() is None else []
    return run_all(suites + in_browser)


def python_step(programs=TARGET / "debug", which=""):
    # Without -B the folders of compiled modules would be taken for sources of the packages.
    command = ["python3", "-B", "-m", "unittest", "discover", "--verbose", "--start-directory", str(PYTHON_TESTS)]
    surroundings = {"ROWCAST_BIN_DIR": str(programs), "PYTHONPATH": str(TOOLS / "python-socketio")}
    return Step(f"{PYTHON_TESTS.name}{which}", command, 5, run_unittest, ROOT, surroundings)


def python_missing():
    """Why setup could not bring Socket.IO's client in Python, if so."""
    note = TOOLS / "python-socketio.missing"
    return note.read_text().strip() if note.exists() else None


def vitest_step(workspace, script, minutes, programs=TARGET / "debug", which=""):
    report = TARGET / "reports" / f"{workspace}-{script}.json"
    reporters = ["--reporter=default", "--reporter=json", f"--outputFile.json={report}"]
    command = ["npm", "run", script, "--workspace", workspace, "--", *reporters]
    surroundings = {"ROWCAST_BIN_DIR": str(programs)}
    if (browser := TOOLS / "chromium.path").exists():
        surroundings["CHROMIUM"] = browser.read_text().strip()
    return Step(f"{workspace} {script}{which}", command, minutes, run_vitest, CLIENTS, surroundings, report)


def browser_missing():
    """Why setup found no browser that can be used, if so."""
    note = TOOLS / "chromium.missing"
    return note.read_text().strip() if note.exists() else None


def report(outcomes):
    """Prints one line a suite and the closing line. Returns the exit status."""
    executed = sum(outcome.passed + outcome.failed for outcome in outcomes if outcome.is_test)
    if executed == 0:
        outcomes = [*outcomes, Outcome("no test was executed", 0, 1, 0)]
    print("\n" + "-" * 72)
    for outcome in outcomes:
        if outcome.passed + outcome.failed + outcome.skipped:
            mark = "FAILED" if outcome.failed else "ok" if outcome.passed else "SKIP"
            skipped = f" ({outcome.skipped} skipped)" if outcome.skipped else ""
            figures = f"{mark:6} {outcome.passed:4} passed {outcome.failed:3} failed {outcome.seconds:7.1f} s"
            print(f"{figures}  {outcome.name}{skipped}")
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def not_run(chosen):
    """What could not be run here, each with the reason, or None where it was."""
    if chosen.long or chosen.compat:
        return []
    clients = [(f"{workspace} {script}", browser_missing()) for workspace, script, _ in BROWSER_TESTS]
    clients.append((PYTHON_TESTS.name, python_missing()))
    return clients + ([] if chosen.clients else [("dependencies", deny_missing())])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="the tests marked #[ignore], Autobahn's suite, fuzzing")
    parser.add_argument("--compat", action="store_true", help="beside the previous release's programs")
    parser.add_argument("--clients", action="store_true", help="the clients' checks and tests alone")
    chosen = parser.parse_args()
    if chosen.long:
        outcomes = run_all(long_steps())
    elif chosen.compat:
        outcomes = run_all(compat_steps())
    elif chosen.clients:
        outcomes = run_all([build_step(), *client_checks()]) + run_system_tests()
    else:
        outcomes = run_everything()
    outcomes += [Outcome(f"{what}: NOT RUN: {reason}", 0, 0, 0, skipped=1) for what, reason in not_run(chosen) if reason]
    return report(outcomes)


if __name__ == "__main__":
    sys.exit(main())
