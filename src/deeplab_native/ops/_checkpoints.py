"""The states of an iteration from the last to the first, in memory that its length does not change.

Griewank and Walther, "Algorithm 799: Revolve", ACM TOMS 26, 2000: with c states in memory, each
step made at most r times, the iteration may have C(c + r, c) states; so many are reached by halving
at binomial coefficients. Of n states, with the least such r, the steps that are made are

    r n - C(c + r, r - 1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import comb
from typing import TypeVar

S = TypeVar("S")

CHECKPOINTS = 5
"""States that are kept: up to 5 iterations make no step twice, 10 make 15 steps, 100 make 320."""


def from_last(
    first: S, iterations: int, step: Callable[[S], S], checkpoints: int = CHECKPOINTS
) -> Iterator[S]:
    """The states after `iterations`, ..., 1, 0 steps from the first.

    At most `checkpoints` of them are kept, the first among them; beside these are the one that is
    given and, while a step is made, the one before: checkpoints + 2 states in all, if the caller
    keeps none.
    """
    return _from_last([first], iterations + 1, step, checkpoints)


def _from_last(
    first: list[S], states: int, step: Callable[[S], S], checkpoints: int
) -> Iterator[S]:
    """Takes the first one out of its list when it is given, so that nothing here keeps it on."""
    while states > 1:
        left = _left_part(states, checkpoints) if checkpoints > 1 else states - 1
        state = first[0]
        for _ in range(left):
            state = step(state)
        if checkpoints > 1:
            middle = [state]
            del state
            yield from _from_last(middle, states - left, step, checkpoints - 1)
        else:
            yield state
            del state
        states = left
    yield first.pop()


def _left_part(states: int, checkpoints: int) -> int:
    """How many of the states come before the next one that is kept."""
    times = repetitions(states, checkpoints)
    with_one_less = states - comb(checkpoints - 1 + times - 1, times - 1)
    return max(1, min(comb(checkpoints + times - 1, checkpoints), with_one_less))


def repetitions(states: int, checkpoints: int) -> int:
    """The least r with C(checkpoints + r, checkpoints) >= states."""
    times = 0
    while comb(checkpoints + times, checkpoints) < states:
        times += 1
    return times


def steps_made(iterations: int, checkpoints: int = CHECKPOINTS) -> int:
    """By `from_last`, the formula above."""
    states = iterations + 1
    times = repetitions(states, checkpoints)
    return times * states - comb(checkpoints + times, times - 1) if times else 0
