"""A schedule's file: what goes in comes out, what is damaged is one sentence; and what other software reads."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule

PROCESSES = [Process.linear(40), Process.cosine(40, 1 / 16), Process.edm(25, 0.01, 50)]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """On the grid or off it, of any number of steps."""
    process = draw(st.sampled_from(PROCESSES))
    if draw(st.booleans()):
        inner = draw(st.sets(st.integers(1, process.T - 1)))
        return Schedule.on_grid([0, *sorted(inner), process.T], process)
    positions = draw(st.sets(st.integers(1000, 1000 * process.T - 1), max_size=8))
    return Schedule([0, *(position / 1000 / process.T for position in sorted(positions)), 1], process)


def written(tmp_path: Path) -> tuple[Path, dict]:
    path = tmp_path / "schedule.json"
    Schedule.on_grid([0, 3, 8, 40], PROCESSES[1], {"search": "dp"}).save(path)
    return path, json.loads(path.read_text(encoding="utf-8"))


@given(schedules(), st.dictionaries(st.text(), json_values, max_size=3))
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, schedule: Schedule, provenance: dict) -> None:
    path = tmp_path_factory.mktemp("schedules") / "schedule.json"
    Schedule(schedule.times, schedule.process, provenance).save(path)
    again = Schedule.load(path)
    assert again == schedule
    assert torch.equal(again.times, schedule.times)  # to the last bit
    assert again.provenance == provenance
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["timesteps"] == schedule.timesteps()
    assert content["sigmas"] == schedule.sigmas()
    assert (content["steps"], content["version"]) == (schedule.steps, 1)


def test_a_file_truncated_at_any_byte_is_a_sentence(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    whole = path.read_bytes()
    assert whole.endswith(b"}\n")
    for length in range(len(whole) - 1):  # the last byte is a line feed, which JSON does not need
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"schedule\.json is not valid JSON"):
            Schedule.load(path)


@given(st.data())
def test_a_wrong_byte_is_the_same_schedule_or_a_sentence(tmp_path_factory, data: st.DataObject) -> None:
    path, _ = written(tmp_path_factory.mktemp("schedules"))
    schedule, content = Schedule.load(path), bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = Schedule.load(path)
    except UserError:
        return
    assert loaded.process == schedule.process
    torch.testing.assert_close(loaded.times, schedule.times, rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "diffusers"}, 'does not say "format": "fewstep-schedule"'),
        ({"version": 2}, "version is 2, newer than the 1"),
        ({"version": 0}, "version is 0; this fewstep reads version 1"),
        ({"version": "1"}, "version is '1'"),
        ({"version": True}, "version is True"),
        ({"times": [0, 0.5, 0.2, 1]}, "ascend without repeats; time 1 is 0.5, the next 0.2"),
        ({"times": [0, 0.2, 0.2, 1]}, "ascend without repeats"),
        ({"times": [0, math.nan, 0.5, 1]}, "times must be a list of finite numbers"),
        ({"times": [0, math.inf]}, "times must be a list of finite numbers"),
        ({"times": [0, 10**400]}, "times must be a list of finite numbers"),
        ({"times": [0, "0.5", 1]}, "times must be a list of finite numbers"),
        ({"times": [0, True]}, "times must be a list of finite numbers"),
        ({"times": "all"}, "times must be a list of finite numbers"),
        ({"times": [[0, 1]]}, "times must be a list of finite numbers"),
        ({"times": []}, "at least two times"),
        ({"times": [0.075, 0.2, 1]}, "starts at time 0 and ends at 1"),
        ({"times": [0, 0.075, 0.2]}, "starts at time 0 and ends at 1"),
        ({"times": [0, 0.001, 0.2, 1]}, "Time 0.001 is not on"),
        ({"times": [0, 0.1, 0.2, 1]}, "sigmas are not those"),
        ({"sigmas": [100.0, 1.0, 0.1, 0.0]}, "sigmas are not those"),
        ({"sigmas": [1.0, 0.0]}, "sigmas are not those"),
        ({"sigmas": None}, "sigmas are not those"),
        ({"steps": 4}, "says steps = 4 but holds 4 times"),
        ({"process": {"name": "cosine", "T": 40, "smallest_noise_level": None}}, "sigmas are not those"),
        ({"process": {"name": "warp", "T": 40}}, "no process 'warp'"),
        ({"process": "cosine"}, "must be JSON objects"),
        ({"provenance": [1]}, "must be JSON objects"),
    ],
)
def test_a_file_that_was_edited_badly_is_a_sentence(tmp_path: Path, change: dict, sentence: str) -> None:
    path, content = written(tmp_path)
    path.write_text(json.dumps(content | change), encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as raised:
        Schedule.load(path)
    assert "schedule.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["format", "version", "process", "times", "steps", "sigmas"])
def test_a_file_that_lacks_a_key_is_a_sentence(tmp_path: Path, key: str) -> None:
    path, content = written(tmp_path)
    del content[key]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=key):
        Schedule.load(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "[" * 100_000, "\x00", "{"])
def test_a_file_that_is_no_schedule_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"schedule\.json"):
        Schedule.load(path)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Schedule.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        Schedule.load(tmp_path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path, content = written(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        Schedule([0, 1], PROCESSES[0], {"loss": math.nan}).save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert [file.name for file in tmp_path.iterdir()] == ["schedule.json"]


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ([0.0], "at least two times"),
        ([[0.0, 1.0]], "at least two times"),
        ([0.0, math.nan, 1.0], "finite"),
        ([0.0, 0.5, 0.5, 1.0], "time 1 is 0.5, the next 0.5"),
        ([1.0, 0.0], "ascend"),
        ([0.0, 0.99], "runs from 0.0 to 0.99"),
        ([0.0, 0.02, 1.0], "Time 0.02 is not on"),
    ],
)
def test_times_that_are_no_schedule(times: list, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Schedule(times, PROCESSES[0])


@pytest.mark.parametrize("indices", [[-1, 3, 40], [0, 3, 41], [0, 5, 3, 40], [0, 3, 3, 40], [1, 40], [0, 39], [0]])
def test_indices_that_are_no_schedule(indices: list[int]) -> None:
    with pytest.raises(UserError):
        Schedule.on_grid(indices, PROCESSES[0])


@given(st.sampled_from(PROCESSES), st.data())
def test_grid_indices_survive(process: Process, data: st.DataObject) -> None:
    indices = [0, *sorted(data.draw(st.sets(st.integers(1, process.T - 1)))), process.T]
    schedule = Schedule.on_grid(indices, process)
    assert schedule.indices == indices
    assert schedule.steps == len(indices) - 1


def test_a_schedule_off_the_grid_has_no_indices() -> None:
    with pytest.raises(UserError, match="between the timesteps"):
        Schedule([0, 0.333, 1], PROCESSES[0]).indices  # noqa: B018


def test_timesteps_index_the_published_list_of_alphas() -> None:
    """Timestep k of OpenAI and diffusers is the entry k of ᾱ = Π (1 − β), counted from 0: grid index k + 1."""
    alphas_cumprod = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    schedule = Schedule.on_grid([0, 1, 20, 500, 1000], Process.linear(1000))
    timesteps, sigmas = schedule.timesteps(), schedule.sigmas()
    assert timesteps == [999, 499, 19, 0]
    assert all(isinstance(timestep, int) for timestep in timesteps)
    expected = [math.sqrt((1 - alphas_cumprod[k]) / alphas_cumprod[k]) for k in timesteps]
    assert sigmas[:-1] == pytest.approx(expected, rel=1e-10)
    assert (len(sigmas), sigmas[-1]) == (5, 0.0)


def test_timesteps_off_the_grid_keep_their_fractions() -> None:
    schedule = Schedule([0, 2.5 / 40, 10 / 40, 1], PROCESSES[0])
    assert schedule.timesteps() == pytest.approx([39, 9, 1.5], abs=1e-12)
    assert any(isinstance(timestep, float) for timestep in schedule.timesteps())


@given(schedules())
def test_sigmas_descend_to_zero(schedule: Schedule) -> None:
    sigmas = schedule.sigmas()
    assert len(sigmas) == schedule.steps + 1
    assert sigmas[-1] == 0
    assert all(a > b for a, b in pairwise(sigmas))
    assert sigmas[0] == schedule.process.noise_level(schedule.process.grid[-1]).item()


def test_a_schedule_made_for_another_process_is_refused() -> None:
    schedule = Schedule([0, 1], Process.cosine(40))
    schedule.require_process(Process.cosine(40))
    for other in (Process.cosine(41), Process.cosine(40, 0.1), Process.linear(40), Process.edm(40)):
        with pytest.raises(UserError, match=r"made for Process\.cosine.*cannot be used with"):
            schedule.require_process(other)
        assert schedule != Schedule([0, 1], other)
