"""Which run comes next: the first that is open and free; the dead are buried, the silent waited for."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from isoflop.claims import Claims, Observer, joined
from isoflop.files import publish_json, write_json
from isoflop.launching.causes import FAILED, GIVEN_BACK, Cause
from isoflop.launching.selection import Selection, unclaimed
from isoflop.launching.states import pardon
from isoflop.store import StudyDirectory


@pytest.fixture
def place(tmp_path):
    return StudyDirectory(tmp_path)


@pytest.fixture
def crew(tmp_path):
    with joined(tmp_path) as crew:
        yield crew


def selection(place, crew, order="abc", observer=None):
    return Selection(place, Claims(place.root, crew, observer), list(order))


def done(place, run):
    place.run(run).publish({"run": run, "loss": 1.0})


def test_the_order_is_kept_and_what_is_done_failed_or_cancelled_is_passed_over(place, crew):
    done(place, "a")
    place.run("b").write_status("failed", cause="error")
    write_json(place.run("c").cancelled_file, {})
    chosen = selection(place, crew, "abcde")
    assert [chosen.take().name, chosen.take().name, chosen.take()] == ["d", "e", None]
    assert not chosen.waiting


def test_a_run_in_living_hands_is_left_there(place, crew, tmp_path):
    with joined(tmp_path) as other:
        assert selection(place, other, "a").take().name == "a"
        mine = selection(place, crew, "a")
        assert mine.take() is None
        assert not mine.waiting


def test_a_dead_crews_run_is_taken_over_and_counted(place, crew, tmp_path):
    for token in range(1, 5):
        with joined(tmp_path) as other:
            claim = selection(place, other, "a").take()
            assert claim.token == token
    # That was the fourth without a step: once too often.
    assert selection(place, crew, "a").take() is None
    status = place.run("a").status()
    assert (status["state"], status["cause"]) == ("failed", "node failure")
    assert [end.end["cause"] for end in Claims(tmp_path).history("a")] == [Cause.NODE_FAILURE] * 4


def test_a_run_whose_retries_are_used_up_is_not_taken_before_its_status_says_so(place, crew, tmp_path):
    with joined(tmp_path) as other:
        claims = Claims(tmp_path, other)
        for _ in range(2):
            claims.end(claims.take("a"), FAILED, cause=Cause.ERROR, message="as before", step=3)
    # Its crew has written how its claim ended, and nothing else yet.
    assert place.run("a").status()["state"] == "planned"
    assert selection(place, crew, "a").take() is None
    status = place.run("a").status()
    assert (status["state"], status["cause"], status["message"], status["step"]) == ("failed", "error", "as before", 3)


def test_a_silent_crew_is_waited_for_until_its_lease_is_over(place, crew, tmp_path):
    with joined(tmp_path, lease=30) as other:
        far = replace(other, boot="another machine")
        Claims(tmp_path, far).take("a")
        now = [0.0]
        mine = selection(place, crew, "a", Observer(tmp_path, clock=lambda: now[0]))
        assert mine.take() is None
        assert mine.waiting
        now[0] = 31
        assert mine.take().token == 2


def test_a_result_that_came_meanwhile_is_not_worked_for_again(place, crew, monkeypatch):
    chosen = selection(place, crew, "a")
    take = Claims.take

    def late(self, name):
        done(place, name)
        return take(self, name)

    monkeypatch.setattr(Claims, "take", late)
    assert chosen.take() is None
    assert Claims(place.root).latest("a").end["outcome"] == "done"


@pytest.fixture
def trunk(place):
    """A trunk of three runs, longest last; nothing of it stands yet."""
    trunk = place.trunk("t")
    write_json(trunk.trunk_file, {"branches": {"a": 80, "b": 160, "c": 320}})
    return trunk


def reach(trunk, step):
    write_json(trunk.checkpoints / f"step-{step:08d}-0123456789abcdef.pt", {})


def test_one_run_trains_the_trunk_and_the_others_wait_until_it_has_passed_them(place, crew, trunk):
    chosen = selection(place, crew, "cbxa")
    assert [chosen.take().name, chosen.take().name, chosen.take()] == ["c", "x", None]
    assert chosen.waiting
    reach(trunk, 80)
    assert chosen.take().name == "a"
    assert chosen.take() is None
    reach(trunk, 160)
    assert chosen.take().name == "b"
    assert [claim.end for claim in Claims(place.root).history("t")] == [None]


def test_when_the_run_ends_another_may_train_the_trunk_on(place, crew, trunk):
    chosen = selection(place, crew, "cba")
    assert chosen.take().name == "c"
    chosen.release("c", FAILED, cause=Cause.ERROR)
    chosen.release("c", FAILED, cause=Cause.ERROR)
    place.run("c").write_status("failed", cause="error")
    assert chosen.take().name == "b"
    assert not chosen.lost_trunk("b")
    assert [claim.end and claim.end["cause"] for claim in Claims(place.root).history("t")] == ["error", None]


@pytest.mark.parametrize(("runs", "waits"), [("abc", False), ("c", True), (None, True)])
def test_a_trunk_in_another_crews_hands_is_left_to_it_with_the_runs_that_it_may_take(
    place, crew, trunk, tmp_path, runs, waits
):
    part = "" if runs is None else "s/worker-0"
    write_json(place.submissions / "s" / "submission.json", {"parts": {"worker-0": {"runs": list(runs or "")}}})
    with joined(tmp_path, part=part) as other:
        assert selection(place, other, "cba").take().name == "c"
        mine = selection(place, crew, "cba")
        assert mine.take() is None
        assert mine.waiting is waits
        reach(trunk, 80)
        assert mine.take().name == "a"
    # The other has died: its run is taken over, and the trunk with it.
    assert mine.take().name == "c"
    assert [claim.crew.id for claim in Claims(place.root).history("t")] == [other.id, crew.id]


def test_whose_trunk_was_taken_over_is_told_and_who_gets_no_run_gives_the_trunk_back(place, crew, trunk, tmp_path):
    mine = selection(place, crew, "c")
    assert mine.take().name == "c"
    with joined(tmp_path) as other:
        claims = Claims(tmp_path, other)
        claims.end(claims.latest("t"), "lost")
        assert not mine.lost_trunk("c")
        assert selection(place, other, "b").take().name == "b"
        assert mine.lost_trunk("c")
        assert not mine.lost_trunk("b")
        mine.release("c", FAILED)
        assert claims.latest("t").end is None
    done(place, "b")
    late = Claims.take

    def publish(self, name):
        if name == "c":
            done(place, name)
        return late(self, name)

    Claims(place.root, crew).end(Claims(place.root).latest("c"), "lost")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Claims, "take", publish)
        assert mine.take() is None
    assert [claim.end["outcome"] for claim in Claims(place.root).history("t")] == ["lost", "failed", "given back"]


def test_a_trunk_is_given_back_where_the_disk_has_no_room_for_its_runs_claim(place, crew, trunk, monkeypatch):
    chosen = selection(place, crew, "cb")
    take = Claims.take

    def full(self, name):
        if name == "c":
            raise OSError(errno.ENOSPC, "no space")
        return take(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(Claims, "take", full)
        with pytest.raises(OSError, match="no space"):
            chosen.take()
    write_json(place.run("c").cancelled_file, {})
    assert chosen.take().name == "b"
    assert [claim.end and claim.end["outcome"] for claim in Claims(place.root).history("t")] == ["given back", None]


def test_an_end_is_written_once_even_where_two_bury(place, crew, tmp_path):
    with joined(tmp_path) as other:
        claim = Claims(tmp_path, other).take("a")
    assert Claims(tmp_path, crew).end(claim, FAILED, cause=Cause.NODE_FAILURE)
    assert not Claims(tmp_path, crew).end(claim, FAILED, cause=Cause.NODE_FAILURE)
    assert not publish_json(tmp_path / "claims" / "a" / "000001.json", {})


def test_what_nobody_holds_is_unclaimed_until_it_is_done_failed_or_cancelled(place, crew):
    claims = Claims(place.root, crew)
    assert unclaimed(place, claims, "ab")
    held = [claims.take(run) for run in "ab"]
    assert not unclaimed(place, claims, "ab")
    claims.end(held[1], FAILED, cause=Cause.ERROR)
    assert unclaimed(place, claims, "ab")
    write_json(place.run("b").cancelled_file, {})
    assert not unclaimed(place, claims, "ab")
    place.run("b").cancelled_file.unlink()
    place.run("b").write_status("failed", cause="error")
    assert not unclaimed(place, claims, "ab")
    claims.end(held[0], FAILED, cause=Cause.ERROR)
    done(place, "a")
    assert not unclaimed(place, claims, "ab")


def test_what_waits_for_a_trunk_is_with_those_who_train_it(place, crew, trunk):
    claims = Claims(place.root, crew)
    assert unclaimed(place, claims, "a")
    held = claims.take("t")
    claims.take("c")
    assert not unclaimed(place, claims, "abc")
    reach(trunk, 80)
    assert unclaimed(place, claims, "abc")
    claims.take("a")
    assert not unclaimed(place, claims, "abc")
    claims.end(held, GIVEN_BACK)
    assert unclaimed(place, claims, "abc")


def test_what_a_diverged_trunk_leads_to_is_not_trained_again_unless_it_is_pardoned(place, crew, trunk):
    mine = selection(place, crew, "cb")
    claim = mine.take()
    mine.release("c", FAILED, cause=Cause.DIVERGED)
    Claims(place.root, crew).end(claim, FAILED, cause=Cause.DIVERGED)
    place.run("c").write_status("failed", cause=Cause.DIVERGED)
    assert mine.take() is None
    status = place.run("b").status()
    assert (status["state"], status["cause"]) == ("failed", "diverged")
    assert "its trunk diverged" in status["message"]
    assert pardon(place, Claims(place.root, crew), ["b"]) == ["b"]
    assert mine.take().name == "b"


def test_a_trunk_whose_claim_could_not_be_ended_on_a_full_disk_is_given_back_later(place, crew, trunk, monkeypatch):
    mine, claims = selection(place, crew, "c"), Claims(place.root)
    take, end, full = Claims.take, Claims.end, [True]

    def no_room(self, claim, outcome, **details):
        if full[0] and claim.name == "t":
            raise OSError(28, "No space left on device")
        return end(self, claim, outcome, **details)

    monkeypatch.setattr(Claims, "take", lambda self, name: None if name == "c" and full[0] else take(self, name))
    monkeypatch.setattr(Claims, "end", no_room)
    with pytest.raises(OSError, match="No space"):
        mine.take()
    full[0] = False
    assert mine.take().name == "c"
    assert [(claim.end or {}).get("outcome") for claim in claims.history("t")] == [GIVEN_BACK, None]
