"""The guards of SECURITY.md's section Origins."""

from . import Mutant

MUTANTS: list[Mutant] = []
