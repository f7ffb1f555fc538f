"""The guards of SECURITY.md's section Revocation."""

from . import Mutant

MUTANTS: list[Mutant] = []
