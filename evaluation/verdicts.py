"""What the judge's answer about an edited still life means."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from semantic_edit.datasets.items import EditItem
from semantic_edit.evaluation.metrics.edit_metrics import JUDGE, EditMetric
from semantic_edit.still_life.cases import EditCase
from semantic_edit.still_life.judge import judged, load_judge
from semantic_edit.still_life.scenes import Scene


def shown_objects(answer: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and kind of each object that the judge sees, from the left; `answer` is one row of `judged`."""
    _, left_kind, left_colour, right_kind, right_colour = answer
    pairs = [(left_colour, left_kind)]
    return pairs if "nothing" in (right_kind, right_colour) else [*pairs, (right_colour, right_kind)]


def told_objects(scene: Scene) -> list[tuple[str, str]]:
    """Colour and kind of each object of a scene, from the left."""
    return [(item.colour, item.kind) for item in scene.objects]


def shows_edit(case: EditCase, answer: Sequence[str]) -> bool:
    """Whether the judge sees what the prompt asks for: the surface, or the edited object's kind and colour."""
    if case.kind == "surface":
        return answer[0] == case.target_scene.surface
    shown = shown_objects(answer)
    return case.index < len(shown) and shown[case.index] == told_objects(case.target_scene)[case.index]


def judge_metric() -> EditMetric:
    """`shows_edit` as the metric "judge", for still lifes."""
    judge = load_judge()

    def measure(item: EditItem, image: Image.Image) -> float:
        assert item.case is not None, "EditMetric asks only where there is one"
        (answer,) = judged(judge, [image])
        return float(shows_edit(item.case, answer))

    return EditMetric(JUDGE, "case", measure)
