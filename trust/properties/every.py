"""All properties by name, how hypothesis tries one, and which public names have none."""

from __future__ import annotations

import importlib
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import deeplab_native
from deeplab_native import crf, layers, metrics
from deeplab_native.pydensecrf import densecrf, eigen, utils

from . import (
    convolutions,
    dropin_ops,
    fields,
    labels,
    losses,
    modules,
    moves,
    pixels,
    refining,
)
from . import utils as of_utils
from .contract import Property, check
from .sequences import Sequences
from .strategies import Case, cases

MACHINE = "pydensecrf.sequences"
PROPERTIES: dict[str, Property] = {
    prop.name: prop
    for module in (
        *(convolutions, moves, fields, pixels, losses, modules, labels, refining),
        *(dropin_ops, of_utils),
    )
    for prop in module.OPS
}
NAMES = [*PROPERTIES, MACHINE]

EXEMPT = {
    "set_output_stride": "takes a net and a number, and no values",
    "metrics.SegmentationScores": "is made by segmentation_scores",
    "pydensecrf.densecrf.KernelType": "an enumeration, which the properties pass",
    "pydensecrf.densecrf.NormalizationType": "an enumeration, which the properties pass",
    "pydensecrf.densecrf.Unary": "has no energies itself",
    "pydensecrf.densecrf.get_num_threads": "takes nothing",
    "pydensecrf.densecrf.set_num_threads": "is a rule of the sequences",
    "pydensecrf.eigen.MatrixXf": "matrixXf makes them",
    "pydensecrf.eigen.VectorXf": "vectorXf makes them",
}
"""Public functions and classes without a property, and why."""


def public_names() -> set[str]:
    """Functions and classes that take arrays or numbers: ops, layers, the CRF, figures, drop-in."""
    found = {name for name in deeplab_native._HOMES if callable(getattr(deeplab_native, name))}
    for prefix, module in (("layers", layers), ("crf", crf), ("metrics", metrics)):
        of = {name for name in module.__all__ if callable(getattr(module, name))}
        found |= {f"{prefix}.{name}" for name in of - found}
    for module in (densecrf, utils):
        own = importlib.import_module(module.__name__)
        of = {name for name in own.__all__ if callable(getattr(own, name))}
        found |= {f"pydensecrf.{module.__name__.rpartition('.')[2]}.{name}" for name in of}
    made = {name for name in vars(eigen) if name.lower().endswith("xf")}
    return found | {f"pydensecrf.eigen.{name}" for name in made}


def covered() -> set[str]:
    """Public names that a property tries; "crf.refine" and "refine" are one."""
    found = {name for prop in PROPERTIES.values() for name in prop.covers}
    return found | {name.partition(".")[2] for name in found if name.count(".") == 1}


def run(name: str, examples: int, *, random_seed: int | None = None) -> None:
    """Tries so many examples; raises what breaks the property, with the example in its notes.

    random_seed: None for the same examples every time.
    """
    how = settings(
        max_examples=examples,
        stateful_step_count=25,
        derandomize=random_seed is None,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    if name == MACHINE:
        machine: Any = type("Sequences", (Sequences,), {})
        machine = machine if random_seed is None else seed(random_seed)(machine)
        run_state_machine_as_test(machine, settings=how)
        return
    prop = PROPERTIES[name]

    @how
    @given(cases(prop))
    def property_holds(case: Case) -> None:
        check(prop, case.specs, usual=case.usual, threads=case.threads)

    test: Any = property_holds if random_seed is None else seed(random_seed)(property_holds)
    test()
