"""The guards of SECURITY.md's section Redis."""

from . import Mutant

MUTANTS: list[Mutant] = []
