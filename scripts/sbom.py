#!/usr/bin/env python3
"""Writes what Rowcast is made of as CycloneDX 1.6: one bill for its three programs, one for each npm package.

    scripts/sbom.py [FOLDER]    into FOLDER, target/sbom unless given

In a bill of programs stands what is linked into them on this platform, with the checksums of Cargo.lock; what only builds
or tests them does not. Equal sources make equal bills. Where Python has the package `cyclonedx` with its validation
(cyclonedx-python-lib[json-validation]), the bills are held to the schema; what can be seen without is checked anywhere. It
runs on Python 3.11 or newer.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
import tomllib
import uuid
from pathlib import Path

from suites import ROOT, TARGET

PROGRAMS = ["rowcast-cli", "rowcast-edge", "rowcast-listener"]
NPM_PACKAGES = ["client", "react"]


def output(command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def made_at():
    """The commit's time, or what reproducible builds say it is."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or output(["git", "log", "-1", "--format=%ct"])
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch)))


def bill(component, components, dependencies):
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": made_at(), "component": component},
        "components": sorted(components, key=lambda one: one["bom-ref"]),
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(dependencies.items())],
    }
    text = json.dumps(content, sort_keys=True).encode()
    serial = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(text).hexdigest())
    return {**content, "serialNumber": f"urn:uuid:{serial}"}


def component(kind, name, version, purl, licence, checksum=None):
    # Before SPDX had operators, a slash stood for a choice.
    one = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
    one["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    return one if checksum is None else {**one, "hashes": [{"alg": "SHA-256", "content": checksum}]}


def programs():
    host = next(line.split()[1] for line in output(["rustc", "-vV"]).splitlines() if line.startswith("host:"))
    told = json.loads(output(["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host]))
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in locked}
    packages = {one["id"]: one for one in told["packages"]}
    linked = {
        node["id"]: [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        for node in told["resolve"]["nodes"]
    }
    roots = [one["id"] for one in told["packages"] if one["name"] in PROGRAMS]
    # A procedural macro runs in the compiler, and so does what it is made of.
    macros = {key for key, one in packages.items() if any("proc-macro" in target["kind"] for target in one["targets"])}
    reached, waiting = set(), list(roots)
    while waiting:
        if (one := waiting.pop()) not in reached:
            reached.add(one)
            waiting += [other for other in linked[one] if other not in macros]

    def of(key):
        one = packages[key]
        purl = f"pkg:cargo/{one['name']}@{one['version']}"
        kind = "application" if key in roots else "library"
        return component(kind, one["name"], one["version"], purl, one["license"], checksums[one["name"], one["version"]])

    refs = {key: of(key)["bom-ref"] for key in reached}
    dependencies = {refs[key]: {refs[other] for other in linked[key] if other in reached} for key in reached}
    version = packages[roots[0]]["version"]
    whole = component("application", "rowcast", version, f"pkg:generic/rowcast@{version}", packages[roots[0]]["license"])
    dependencies[whole["bom-ref"]] = {refs[key] for key in roots}
    return bill(whole, [of(key) for key in reached], dependencies)


def npm_purl(name, version):
    return f"pkg:npm/{name.replace('@', '%40')}@{version}"


def npm_package(folder):
    """Its dependencies are packages of this repository: anything else would have to be looked at first."""
    manifests = {one["name"]: one for one in (manifest(other) for other in NPM_PACKAGES)}
    own = manifest(folder)
    needed = own.get("dependencies", {})
    if strangers := set(needed) - set(manifests):
        sys.exit(f"{own['name']} depends on {', '.join(sorted(strangers))}: add what that needs to scripts/sbom.py")
    of = lambda one: component("library", one["name"], one["version"], npm_purl(one["name"], one["version"]), one["license"])
    others = [of(manifests[name]) for name in needed]
    dependencies = {other["bom-ref"]: set() for other in others}
    dependencies[of(own)["bom-ref"]] = set(dependencies)
    return bill(of(own), others, dependencies)


def manifest(folder):
    return json.loads((ROOT / "clients" / folder / "package.json").read_text())


def check(name, content):
    refs = [one["bom-ref"] for one in [content["metadata"]["component"], *content["components"]]]
    assert len(set(refs)) == len(refs), f"{name}: a component stands there twice"
    for one in content["dependencies"]:
        assert {one["ref"], *one["dependsOn"]} <= set(refs), f"{name}: {one} names what is not there"
    assert {one["ref"] for one in content["dependencies"]} == set(refs), f"{name}: a component without its dependencies"
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        return "not held to the schema: there is no cyclonedx here"
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(content))
    assert fault is None, f"{name}: {fault}"
    return "valid by the schema"


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    bills = {"rowcast": programs(), **{f"rowcast-{name}": npm_package(name) for name in NPM_PACKAGES}}
    for name, content in bills.items():
        said = check(name, content)
        path = folder / f"{name}.cdx.json"
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        print(f"sbom: {path}: {len(content['components'])} components; {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
