"""States from the last to the first: in order, in few steps, and few of them at a time."""

import gc
from functools import cache

import pytest

from deeplab_native.ops._checkpoints import CHECKPOINTS, from_last, steps_made


@cache
def fewest(states, checkpoints):
    if states == 1:
        return 0
    if checkpoints == 1:
        return states * (states - 1) // 2
    rest = range(1, states)
    return min(m + fewest(states - m, checkpoints - 1) + fewest(m, checkpoints) for m in rest)


class State:
    """Counts those that live, and the steps."""

    made = 0
    alive = 0
    most = 0

    def __init__(self, number):
        self.number = number
        State.alive += 1
        State.most = max(State.most, State.alive)

    def __del__(self):
        State.alive -= 1

    def step(self):
        State.made += 1
        return State(self.number + 1)


@pytest.mark.parametrize("checkpoints", range(1, 7))
@pytest.mark.parametrize("iterations", [0, 1, 2, 4, 5, 6, 10, 17, 30])
def test_order_steps_and_memory(iterations, checkpoints):
    gc.collect()
    State.made = State.alive = State.most = 0
    numbers = []
    for state in from_last(State(0), iterations, State.step, checkpoints):
        numbers.append(state.number)
        del state
    assert numbers == list(range(iterations, -1, -1))
    assert State.made == fewest(iterations + 1, checkpoints) == steps_made(iterations, checkpoints)
    assert State.most <= checkpoints + 2
    assert State.alive == 0


def test_what_the_documentation_says():
    assert [steps_made(n) for n in (CHECKPOINTS, 10, 100)] == [CHECKPOINTS, 15, 320]
