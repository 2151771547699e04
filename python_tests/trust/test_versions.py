"""What trust.versions reads in the output of .ci/versions, alone or among the steps of .ci/run."""

from __future__ import annotations

from trust.versions import read

LOG = """torch 2.6.0 NumPy 1.26.4 Python 3.10.13
=== 7 passed, 2 skipped in 3.00s ===
=== 4 passed in 1.00s ===
the drop-in on Python 3.12
=== 3 passed in 1.00s ===
!!! NOT CHECKED: Python 3.14 is not here"""
STEPS = f"""==> known vulnerabilities
!!! NOT CHECKED: no database
==> oldest and newest versions: begins
==> the CPU's kernels
torch 2.13.0 NumPy 2.4 Python 3.11.7
=== 9 passed in 1.00s ===
==> oldest and newest versions
{LOG}
==> oldest and newest versions: 5 s
!!! NOT CHECKED: the network"""


def test_runs_and_what_was_not_checked():
    for log in (LOG, STEPS):
        found = read(log.splitlines())
        assert [(run["tests"], run["python"], run["passed"]) for run in found["runs"]] == [
            ("torch's part", "3.10.13", 7),
            ("the drop-in", "3.10.13", 4),
            ("the drop-in", "3.12", 3),
        ]
        assert found["environments"] == 3 and found["passed"] == 14
        assert found["not_checked"] == ["Python 3.14 is not here"]
