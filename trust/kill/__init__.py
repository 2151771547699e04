"""Runs that are killed at any moment, and begun again, end as undisturbed ones do."""
