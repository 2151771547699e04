"""Bits, errors, instruction sets and special values of every op: `python -m trust.numerics`."""
