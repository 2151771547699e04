"""Where a benchmark writes its results; imports nothing, for processes whose memory is measured."""

from __future__ import annotations

import argparse


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """--json and --html, which `_timing.write_results` and `write_document` go by."""
    parser.add_argument("--json", metavar="PATH", help="write the results there")
    parser.add_argument("--html", metavar="PATH", help="a report of them, in one file")
