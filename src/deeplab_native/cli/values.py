"""Numbers and lists of them as users write them."""

from __future__ import annotations

from contextlib import suppress

_MOST_VALUES = 1000


def numbers(option: str, text: str) -> list[float]:
    """Numbers of "3,4,5" or "3:5:1"; ValueError that names the option."""
    advice = "(give 3,4,5 or first:last:step)"
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = map(float, text.split(":"))
    except ValueError:
        raise ValueError(f"{option} {text}: not a list of numbers {advice}") from None
    if not (step > 0 and 0 <= last - first <= _MOST_VALUES * step):  # also for NaN
        raise ValueError(f"{option} {text}: expected first <= last and a step above 0 {advice}")
    # 1e-9: so that 0.1:0.3:0.1 has its last one
    return [round(first + i * step, 12) for i in range(int((last - first) / step + 1e-9) + 1)]


def class_numbers(option: str, text: str) -> list[int]:
    """The class numbers of "0,8,15", each once; ValueError that names the option."""
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ValueError(f"{option} {text}: not a list of class numbers (give 0,8,15)") from None


def scale_of(text: str) -> float | str:
    """The value of --scale; ValueError for what is neither "auto" nor a number above 0 up to 1."""
    if text == "auto":
        return text
    with suppress(ValueError):
        if 0 < (scale := float(text)) <= 1:  # not for NaN
            return scale
    raise ValueError(f"--scale: expected auto, or a number above 0 and at most 1, got {text}")
