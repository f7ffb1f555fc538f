"""The guards that `scripts/mutants.py` takes out, one file an area. A file that is not of an area of SECURITY.md is about the
promises that hold without an attacker."""

from dataclasses import dataclass


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


def all_mutants():
    """Those of every area, in the order of the areas' names."""
    from importlib import import_module
    from pkgutil import iter_modules

    return [mutant for module in iter_modules(__path__) for mutant in import_module(f"{__name__}.{module.name}").MUTANTS]
