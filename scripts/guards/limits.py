"""The guards of SECURITY.md's section Limits and addresses."""

from . import Mutant

MUTANTS: list[Mutant] = []
