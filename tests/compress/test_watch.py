"""How long a job still takes is told only where something was done to tell it by."""

from edgesvit.compress.watch import Told, readable


def test_nothing_is_told_until_something_is_done():
    told = []
    watch = Told(told.append, pause_s=0)
    for share in (0.2, 0.2, 0.4, 1.0):
        watch("moves", share)
    assert told == ["moves: 40%, about 0 s left"]


def test_a_stage_that_falls_back_begins_anew():
    told = []
    watch = Told(told.append, pause_s=0)
    for share in (0.5, 0.3, 0.6):
        watch("moves", share)
    assert len(told) == 1 and told[0].startswith("moves: 60%")


def test_durations_are_readable():
    assert [readable(seconds) for seconds in (5.4, 89, 91, 3599, 5400, 7300)] == [
        "5 s", "89 s", "2 min", "60 min", "1 h 30 min", "2 h 2 min"]
