"""The guards of SECURITY.md's section Transport."""

from . import Mutant

MUTANTS: list[Mutant] = []
