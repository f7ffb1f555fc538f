"""The guards of SECURITY.md's section Tokens."""

from . import Mutant

MUTANTS: list[Mutant] = []
