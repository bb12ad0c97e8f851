"""Claims: one of many gets it, the dead are told from the silent without a clock in common, the late are fenced off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from isoflop import claims as module
from isoflop.claims import Claims, Observer, crews, device_hours, hold, joined, replaced
from isoflop.errors import InputError, RunError
from isoflop.store import StudyDirectory

#: A crew that lives in another process until its standard input ends.
ELSEWHERE = "import sys; from pathlib import Path; from isoflop.claims import *\n{}\n"


def elsewhere(script: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE.format(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def foreign(crew):
    """The same crew as one on another machine would see it."""
    return replace(crew, boot="another machine")


def test_of_many_who_try_one_gets_it_and_the_tokens_count_up(tmp_path):
    script = f"""
study = Path({str(tmp_path)!r})
with joined(study) as crew:
    print("ready", flush=True); sys.stdin.readline()
    print(sum(Claims(study, crew).take(f"run-{{number}}") is not None for number in range(200)), flush=True)
    sys.stdin.read()
"""
    rivals = [elsewhere(script) for _ in range(4)]
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    won = [int(rival.stdout.readline()) for rival in rivals]
    for rival in rivals:
        rival.communicate()
    assert sum(won) == 200
    owners = {Claims(tmp_path).latest(f"run-{number}").crew.id for number in range(200)}
    assert len(owners) == sum(count > 0 for count in won)

    with joined(tmp_path) as crew:
        claims = Claims(tmp_path, crew)
        assert claims.take("run-0") is None
        claims.end(claims.latest("run-0"), "lost")
        assert claims.take("run-0").token == 2


def test_a_late_owner_finds_itself_replaced_and_cannot_rewrite_the_end(tmp_path):
    with joined(tmp_path) as crew:
        claims = Claims(tmp_path, crew)
        first = claims.take("run")
        assert claims.holds(first)
        assert not replaced(tmp_path, "run", 1)
        assert claims.end(first, "lost")
        second = claims.take("run")
        assert replaced(tmp_path, "run", first.token)
        assert not claims.holds(first)
        assert claims.holds(second)
        assert not claims.end(first, "done")
        assert [claim.end and claim.end["outcome"] for claim in claims.history("run")] == ["lost", None]


def test_on_this_machine_the_kernel_says_who_is_dead(tmp_path):
    script = f"""
with joined(Path({str(tmp_path)!r})) as crew:
    print("ready", flush=True); sys.stdin.read()
"""
    process = elsewhere(script)
    (crew,) = crews(tmp_path)
    assert Observer(tmp_path).verdict(crew) == "alive"
    assert Observer(tmp_path).seems_alive(crew)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Observer(tmp_path).verdict(crew) == "dead"
    # Its number may be another's by now: then its start tells.
    assert Observer(tmp_path).verdict(replace(crew, pid=os.getpid())) == "dead"


def test_elsewhere_the_change_of_a_beat_on_ones_own_clock_says_so(tmp_path):
    now = [0.0]
    observer = Observer(tmp_path, clock=lambda: now[0])
    with joined(tmp_path, lease=30) as crew:
        far = foreign(crew)
        assert observer.verdict(far) == "silent"
        now[0] = 29
        assert observer.verdict(far) == "silent"
        module._write_beat(tmp_path, crew.id, 1234.5)
        assert observer.verdict(far) == "alive"
        now[0] = 59
        assert observer.verdict(far) == "alive"
        now[0] = 60
        assert observer.verdict(far) == "dead"
        # Only thought dead: it was away, and beats again.
        module._write_beat(tmp_path, crew.id, 1300.0)
        assert observer.verdict(far) == "alive"
    assert observer.verdict(far) == "dead"


def test_neither_clock_nor_date_of_another_machine_matters(tmp_path):
    with joined(tmp_path, lease=30) as crew:
        beat = tmp_path / "crews" / f"{crew.id}.beat"
        for skew in (-1e6, 1e6):
            os.utime(beat, (time.time() + skew,) * 2)
            now = [0.0]
            observer = Observer(tmp_path, clock=lambda now=now: now[0])
            observer.verdict(foreign(crew))
            now[0] = 31
            assert observer.verdict(foreign(crew)) == "dead"


def test_a_beat_keeps_its_file_and_its_size(tmp_path):
    with joined(tmp_path) as crew:
        path = tmp_path / "crews" / f"{crew.id}.beat"
        before = path.stat()
        module._write_beat(tmp_path, crew.id, 86400 * 365.0)
        assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)


def test_hours_are_the_beats_of_those_who_hold_devices(tmp_path):
    with joined(tmp_path, devices=8), joined(tmp_path):
        pass
    for crew in crews(tmp_path):
        module._write_beat(tmp_path, crew.id, 1800.0)
    assert device_hours(tmp_path) == 4.0


def test_a_second_launcher_is_refused_and_told_who_works(tmp_path):
    study = StudyDirectory(tmp_path)
    assert not study.worked_on
    with hold(tmp_path):
        assert study.worked_on
        refused = pytest.raises(RunError, match=rf"one launcher at a time .* but process {os.getpid()} on ")
        with refused, hold(tmp_path, patience=0.1):
            pass
    assert not study.worked_on
    with hold(tmp_path, patience=0):
        pass


def test_a_killed_launcher_leaves_no_lock(tmp_path):
    process = elsewhere(f'with hold(Path({str(tmp_path)!r})): print("ready", flush=True); sys.stdin.read()')
    with pytest.raises(RunError), hold(tmp_path, patience=0.1):
        pass
    process.kill()
    process.communicate()
    with hold(tmp_path, patience=0):
        pass


def test_a_name_that_is_no_file_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="a name must be letters"):
        Claims(tmp_path).latest("../run")
    with pytest.raises(RunError, match="a crew must be joined to claim"):
        Claims(tmp_path).take("run")
