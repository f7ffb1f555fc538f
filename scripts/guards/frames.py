"""The guards of SECURITY.md's section Frames, messages and requests."""

from . import Mutant

MUTANTS: list[Mutant] = []
