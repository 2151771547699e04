"""Images whose values do not fit the standard deviation of their colours.

An image of 0..1 beside a sigma of a few levels of 0..255 is the most common mistake there is: the
CRF then sees no colour at all, and says nothing.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence

# A net's input lies between these, however it was normalised; no photo of 0..255 does.
_LARGEST_NORMALISED = 16.0
# 0..255 with room for what interpolation overshoots
LARGEST_ORDINARY = 2 * 255.0
_BEYOND_IMAGES = 2.0**32  # no image at all, of which the lattice has an error

_warned: set[str] = set()  # kinds, once each in a process

_EFFECTS = {
    "unit": "hardly any colour is seen",
    "normalised": "hardly any colour is seen",
    "wide": "nearly every pixel has a colour of its own",
}
REMEDIES = {
    "unit": "multiply {image} by 255, or give {sigma} in its units",
    "normalised": "give the image's own values, 0..255, or {sigma} in the units of these",
    "wide": "divide {image}, by 257 where it has 16 bits, or give {sigma} in its units",
}
"""By the kind of misfit, where there is no argument that says the image's range."""


def misfit(low: float, high: float, sigmas: Sequence[float]) -> str | None:
    """Why values from low to high cannot be what the sigmas of their channels were made for.

    A key of `REMEDIES`, or None where they may.

    Only differences of values count, so an image without any fits, and so does one of 0..255 with
    its mean taken away. A sigma below 1 is one in the units of such an image.
    """
    if not low < high or not sigmas:  # also for NaN
        return None
    of_levels = min(sigmas) >= 1
    if of_levels and low >= 0 and high <= 1:
        return "unit"
    if of_levels and low < 0 and max(-low, high) <= _LARGEST_NORMALISED:
        return "normalised"
    if LARGEST_ORDINARY < max(-low, high) < _BEYOND_IMAGES and high - low > 255 * max(sigmas):
        return "wide"
    return None


def warn_of_values(
    image: str,
    found: tuple[float, float],
    sigma: str,
    sigmas: Sequence[float],
    remedies: Mapping[str, str] = REMEDIES,
) -> None:
    """Of `found`, the least and largest value of an image, beside its sigmas; both by their names.

    Once in a process for each kind of misfit; nothing where the values may fit.
    """
    kind = misfit(*found, sigmas)
    if kind is None:
        return
    value = f"{sigmas[0]:g}" if len(set(sigmas)) == 1 else str(tuple(sigmas))
    remedy = remedies[kind].format(image=image, sigma=sigma)
    warn_once(
        kind,
        f"{image}: values from {found[0]:.4g} to {found[1]:.4g}, but {sigma}={value} is in levels "
        f"of 0..255, so that {_EFFECTS[kind]} ({remedy})",
    )


def warn_once(kind: str, message: str) -> None:
    """A UserWarning at the line that called this package, the first of its kind in the process."""
    if kind in _warned:
        return
    level, frame = 1, sys._getframe()
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(f"{message}; this is said once", UserWarning, stacklevel=level)
    _warned.add(kind)  # not where the warning was made an error


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
