"""The guards of SECURITY.md's section PostgreSQL."""

from . import Mutant

MUTANTS: list[Mutant] = []
