"""What a child says comes whole, in lines, and its end is heard."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from isoflop.child import Child

#: Says half a line, waits for a word, says the rest and what it heard.
CODE = """
import sys
print('{"first": 1}\\n{"sec', end="", flush=True)
heard = sys.stdin.readline().strip()
print('ond": ' + heard + '}', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child = Child(process)
    yield child
    child.close()
    process.kill()
    process.wait()


def heard(child, number):
    """The next `number` messages; None for the end."""
    found, deadline = [], time.monotonic() + 30
    while len(found) < number:
        assert time.monotonic() < deadline
        messages = child.messages()
        found += [None] if messages is None else messages
        time.sleep(0.01)
    return found


def test_a_child_is_heard_line_by_line_to_its_end(child):
    assert heard(child, 1) == [{"first": 1}]
    assert child.messages() == []
    child.send({"told": [2]})
    assert heard(child, 1) == [{"second": {"told": [2]}}]
    child.dismiss()
    assert heard(child, 1) == [None]
    assert child.process.wait(30) == 0


def test_one_that_has_died_is_told_without_an_error(child):
    assert heard(child, 1) == [{"first": 1}]
    child.process.kill()
    child.process.wait()
    child.send({"are you": "there"})
    assert heard(child, 1) == [None]
