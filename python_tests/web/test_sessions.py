"""Visitors do not mix, are bounded, and go."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace

import pytest

from deeplab_native.web.limits import Limits
from deeplab_native.web.sessions import Session, Sessions, Upload
from python_tests.web.web_cases import LIMITS, photo, workspace


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def make(clock):
    made = []

    def new(**changes):
        limits = replace(LIMITS, **changes)
        made.append(Sessions(limits, lambda: workspace(limits), lambda: clock[0]))
        return made[-1]

    yield new
    for sessions in made:
        sessions.end()


def take(session: Session) -> None:
    session.workspace.set_photo(photo(), "photo.png")


def test_each_has_its_own(make):
    sessions = make()
    first, second = sessions.open("one"), sessions.open("two")
    assert first != second and len(first) >= 32
    sessions.run(first, take)
    assert sessions.get(second).workspace.photo is None
    sessions.close("one")
    with pytest.raises(KeyError):
        sessions.get(first)
    sessions.close("one")
    sessions.close("never opened")
    assert sessions.run(second, lambda session: session.workspace.photos) == 0
    with pytest.raises(KeyError):
        sessions.run("made up", take)


def test_a_class_of_students_fits(make):
    """Nobody's page goes because fifty are in use; their memory has a limit of its own."""
    sessions = make(sessions=Limits().sessions)
    opened = [sessions.open(f"page {number}") for number in range(50)]
    for secret in opened:
        sessions.run(secret, take)
    assert all(sessions.get(secret).workspace.photo is not None for secret in opened)


def test_too_many(make, clock):
    sessions = make(sessions=2)
    first, second = sessions.open("one"), sessions.open("two")
    clock[0] = 1
    sessions.get(first)
    third = sessions.open("three")
    with pytest.raises(KeyError):
        sessions.get(second)  # idle for longest
    sessions.get(first), sessions.get(third)


def test_too_much_memory(make):
    sessions = make(memory=photo().nbytes * 2)
    secrets = [sessions.open(name) for name in "abcd"]
    for secret in secrets:
        sessions.run(secret, take)
    left = [secret for secret in secrets if _there(sessions, secret)]
    assert left == secrets[-2:]
    sessions.get(left[-1]).pending["photo"] = Upload("a", bytes(photo().nbytes * 3))
    sessions.tidy()
    assert [s for s in secrets if _there(sessions, s)] == secrets[-1:]  # its own size is bounded


def _there(sessions, secret):
    try:
        sessions.get(secret)
    except KeyError:
        return False
    return True


def test_idle_ones_go(make, clock):
    sessions = make(idle=10)
    first = sessions.open("one")
    clock[0] = 9
    sessions.get(first)
    clock[0] = 18
    sessions.tidy()
    sessions.get(first)
    clock[0] = 30
    sessions.open("two")
    with pytest.raises(KeyError):
        sessions.get(first)


def test_one_at_a_time_of_a_visitor_and_two_of_all(make):
    sessions = make()
    secrets = [sessions.open(name) for name in "abc"]
    running, most, of_one, lock = [], [], [], threading.Lock()

    def work(session):
        with lock:
            running.append(session)
            most.append(len(running))
            of_one.append(running.count(session))
        time.sleep(0.01)
        with lock:
            running.remove(session)

    threads = [threading.Thread(target=sessions.run, args=(s, work)) for s in secrets * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 12 and max(most) <= 2 and max(of_one) == 1


def test_what_takes_too_long(make):
    sessions, end = make(seconds=0.05), threading.Event()
    secret = sessions.open("one")
    with pytest.raises(TimeoutError, match=r"no result within 0\.05 s"):
        sessions.run(secret, lambda _: end.wait())
    end.set()

    def own(_):
        raise TimeoutError("of the work itself")

    sessions = make()
    with pytest.raises(TimeoutError, match="of the work itself"):
        sessions.run(sessions.open("one"), own)


def test_errors_come_through(make):
    sessions = make()
    secret = sessions.open("one")
    with pytest.raises(ZeroDivisionError):
        sessions.run(secret, lambda _: 1 // 0)
    assert sessions.run(secret, lambda _: 7) == 7


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a.png", "a.png"),
        ("a\nb\x00.png", "ab.png"),
        ("", "file"),
        ("x" * 300 + ".png", "x" * 96 + ".png"),
    ],
)
def test_names_of_uploads(given, name):
    assert Upload(given, b"").name == name


def test_sizes_are_asked_for_while_uploads_come_and_go(make):
    """`tidy` looks at all pages, and others are at work: one in 9,000 uploads once failed by it."""
    sessions = make()
    session = sessions.get(sessions.open("one"))
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            for what in ("photo", "labels"):
                session.pending[what] = Upload(what, b"content")
            session.workspace.set_photo(photo(), "photo.png")
            session.pending.clear()
            session.workspace.photo = None

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert session.nbytes() >= 0
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)
