#!/usr/bin/env python3
"""Runs Autobahn's WebSocket suite against the frame decoder and encoders of the edge (services/edge/examples/echo.rs).

The suite runs on Python 2.7 alone. Where there is none (PYTHON27=/path, `python2.7`, or one of pyenv's) it is skipped, with
exit status 3. It is installed into target/tools/autobahn. The cases that are left out are listed below with the reason; any
other that does not pass ends with exit status 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from suites import NOT_RUN, ROOT, TARGET

FOLDER = TARGET / "tools" / "autobahn"
REPORTS = TARGET / "reports" / "autobahn"
VERSION = "0.8.2"

LEFT_OUT = {
    "1.2.*": "echoes of binary messages, of which rowcast.v1 has none",
    "9.2.*": "large binary messages",
    "9.4.*": "large binary messages in fragments",
    "9.6.*": "binary messages in small pieces",
    "9.8.*": "many binary messages",
    "12.*": "compression, which the edge never agrees to",
    "13.*": "compression, which the edge never agrees to",
}
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


def find_python():
    candidates = [os.environ.get("PYTHON27"), shutil.which("python2.7")]
    candidates += sorted(map(str, Path.home().glob(".pyenv/versions/2.7*/bin/python2.7")))
    for candidate in filter(None, candidates):
        said = subprocess.run([candidate, "-m", "pip", "--version"], capture_output=True, check=False)
        if said.returncode == 0:
            return candidate
    return None


def install(python):
    mark = FOLDER / "version"
    if mark.exists() and mark.read_text() == VERSION:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    command = [python, "-W", "ignore", "-m", "pip", "install", "--quiet", "--target", str(FOLDER), f"autobahntestsuite=={VERSION}"]
    subprocess.run(command, check=True)
    mark.write_text(VERSION)


def run_suite(python, address):
    """The suite's own index: what became of each case."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    spec = {
        "outdir": str(REPORTS),
        "servers": [{"agent": "rowcast", "url": f"ws://{address}"}],
        "cases": ["*"],
        "exclude-cases": list(LEFT_OUT),
        "exclude-agent-cases": {},
    }
    (REPORTS / "spec.json").write_text(json.dumps(spec))
    # Some of its packages share a name space, which works for folders of packages alone.
    start = f"import site; site.addsitedir({str(FOLDER)!r}); from autobahntestsuite.wstest import run; run()"
    command = [python, "-W", "ignore", "-c", start, "-m", "fuzzingclient", "-s", str(REPORTS / "spec.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((REPORTS / "index.json").read_text())["rowcast"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help="build without optimisation; the suite takes longer")
    profile = "debug" if parser.parse_args().debug else "release"
    python = find_python()
    if python is None:
        print("autobahn: NOT RUN: there is no Python 2.7 with pip here (PYTHON27=/path/to/python2.7)", flush=True)
        return NOT_RUN
    install(python)
    optimised = [] if profile == "debug" else ["--release"]
    subprocess.run(["cargo", "build", *optimised, "-p", "rowcast-edge", "--example", "echo"], cwd=ROOT, check=True)
    server = subprocess.Popen([TARGET / profile / "examples" / "echo"], stdout=subprocess.PIPE, text=True)
    try:
        cases = run_suite(python, server.stdout.readline().strip())
    finally:
        server.kill()
        server.wait()
    return report(cases)


def report(cases):
    bad = 0
    for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
        case = cases[name]
        if {case["behavior"], case["behaviorClose"]} <= GOOD:
            continue
        bad += 1
        print(f"FAILED {name}: {case['behavior']}, closing {case['behaviorClose']}, code {case['remoteCloseCode']}")
    counts = Counter(case["behavior"] for case in cases.values())
    print(f"autobahn: {len(cases)} cases: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    print(f"autobahn: {bad} failed; the reports are in {REPORTS / 'index.html'}", flush=True)
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
