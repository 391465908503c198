from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import diffedit_speed
from benchmarks.contenders import HEADER, Contender, line, race
from benchmarks.diffedit_speed import FEWER, Settings, contenders, lines
from benchmarks.tasks import Task, recolouring


@pytest.fixture
def task(picture):
    return Task(picture, "a red apple on grass", ("a green pear on grass",))


@pytest.mark.slow
def test_evaluations_at_the_papers_settings(pipe, task):
    """diffusers makes 200 evaluations and we make 140, or 80 when reusing an inversion."""
    settings = Settings()
    racing = contenders(pipe, task, settings)
    race(racing, pipe.unet, repeats=0)
    by_default = racing.pop(FEWER).evaluations
    assert [one.evaluations for one in racing.values()] == [200, 140, 80]
    assert by_default in (38, 48)  # of colours and of objects


@pytest.mark.parametrize(("steps", "maps", "least", "most"), [(20, 5, 38, 48), (25, 4, 43, 55)])
def test_evaluations_by_the_default_preset(monkeypatch, steps, maps, least, most):
    own = replace(diffedit_speed.DEFAULT, num_inference_steps=steps, num_maps_per_mask=maps)
    monkeypatch.setattr(diffedit_speed, "DEFAULT", own)
    settings = Settings().by_default()
    assert settings == Settings(steps, maps, "default")
    assert (settings.least_evaluations, settings.evaluations) == (least, most)
    assert Settings(10, 2).by_default() == Settings(steps // 5, 1, "default")
    assert Settings().least_evaluations == Settings().evaluations == 140


def test_a_tenth_of_the_evaluations_keeps_their_ratio():
    few, paper = Settings(5, 1), Settings()
    assert (paper.evaluations, paper.upstream_evaluations) == (140, 200)
    assert (few.evaluations, few.upstream_evaluations) == (14, 20)


def test_lines_are_a_tables(pipe, task):
    made = lines(pipe, task, Settings(5, 1), repeats=1)
    assert all(one.count("|") == HEADER.splitlines()[0].count("|") for one in made)
    assert ["14 evaluations" in made[0], "20 evaluations" in made[0], "S = 5, n = 1" in made[0]] == [True] * 3


def test_an_edit_that_skips_evaluations_is_refused(pipe, task, monkeypatch):
    monkeypatch.setattr(Settings, "evaluations", 15)
    with pytest.raises(AssertionError, match=r"evaluated .* where .* were expected"):
        lines(pipe, task, Settings(2, 1), repeats=1)


def test_a_line_gives_the_ratios_of_each_round():
    here = Contender(lambda: None, 3, [1.0, 2.0, 4.0])
    against = Contender(lambda: None, 4, [2.0, 2.0, 12.0])
    expected = "2.00 (1.00 to 4.00) s, 3 evaluations | 2.00 (2.00 to 12.00) s, 4 evaluations | **2.00 (1.00 to 3.00)**"
    assert line("what", here, against) == f"| what | {expected} |"


def test_prompts_of_a_task_differ():
    task = recolouring(64, edits=4)
    assert task.image.size == (64, 64)
    assert len({task.source_prompt, *task.prompts}) == 5
