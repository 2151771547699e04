"""What the package does under load, faults and hostile input: long runs, and the page of them.

Each `python -m trust.<name>` shows one thing and writes its figures to results/<name>.json;
promises/*.yaml say what is promised and what shows it; `python -m trust.page --update` writes
docs/trust.md from both. Tests with small figures of the same code are in python_tests.
"""
