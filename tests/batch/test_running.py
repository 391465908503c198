"""Never lost, never twice: whatever ends the work, and however many processes go on."""

from __future__ import annotations

import contextlib
import itertools
import json
import tarfile
from dataclasses import replace

import pytest
from PIL import Image, ImageOps

from semantic_edit.batch import running, stores
from semantic_edit.batch.kept import read_left_out
from semantic_edit.batch.merging import merge_results, merged_results
from semantic_edit.batch.running import survey
from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.team import Team
from semantic_edit.disk import writing
from tests.batch.conftest import Negatives, drawn


class Killed(BaseException):
    pass


@pytest.fixture
def write_with(monkeypatch):
    """Puts a function in place of what writes bytes to a file, in a folder and in a shard."""

    def patch(write):
        def into_shard(self, content):
            write(self._file, content)
            return len(content)

        monkeypatch.setattr(writing, "_write_all", write)
        monkeypatch.setattr(stores._Whole, "write", into_shard)

    yield patch
    monkeypatch.undo()


WHOLE = writing._write_all


def picture_of(out, result):
    if "shard" not in result:
        return Image.open(out / result["image"])
    with tarfile.open(out / result["shard"]) as shard:
        return Image.open(shard.extractfile(result["image"])).copy()


def check_whole(out, results, count):
    """Every row is there once, with its own picture."""
    assert sorted(int(one["prompt"].split()[1]) for one in results) == [*range(count)]
    for one in results:
        expected = ImageOps.invert(drawn(int(one["prompt"].split()[1])))
        assert picture_of(out, one).tobytes() == expected.tobytes()


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 8, 13])
def test_killed_at_any_write_and_continued_by_others_each_row_is_there_once(
    make_table, run_batch, results_of, write_with, monkeypatch, tmp_path, number, sharded
):
    table, left = make_table(7), itertools.count(number, -1)

    def write(file, content):
        if next(left) <= 0:
            file.write(bytes(content[:5]))
            raise Killed
        WHOLE(file, content)

    write_with(write)
    with contextlib.suppress(Killed):  # late numbers come after all writes
        run_batch(table, 0, 2, sharded)
        run_batch(table, 1, 2, sharded)
    monkeypatch.undo()
    for index in range(3):
        run_batch(table, index, 3, sharded)
    check_whole(tmp_path / "out", results_of(), 7)
    editor = Negatives()
    status = run_batch(table, sharded=sharded, editor=editor)
    assert editor.calls == []
    assert (status.done, status.before) == (7, 7)


def test_a_line_that_was_cut_off_is_done_again(make_table, run_batch, results_of, tmp_path):
    table = make_table(5)
    for index in range(2):
        run_batch(table, index, 2)
    for name in ("results.jsonl", "results-1.jsonl"):
        path = tmp_path / "out" / name
        path.write_bytes(path.read_bytes()[:-3])
    editor = Negatives()
    run_batch(table, editor=editor)
    assert len(editor.calls) == 2
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 4  # two of three are left, two are new
    assert len(merged_results(tmp_path / "out").edits) == 5


@pytest.mark.parametrize("sharded", [False, True])
def test_a_full_disk_ends_with_what_was_whole_before(
    make_table, run_batch, results_of, write_with, monkeypatch, tmp_path, sharded
):
    table, left = make_table(7), itertools.count(9 if sharded else 4, -1)

    def full(file, content):
        if next(left) <= 0:
            file.write(bytes(content[:7]))
            raise OSError(28, "No space left on device")
        WHOLE(file, content)

    write_with(full)
    name = r"shards/00000-000000\.tar" if sharded else r"images/.+\.png"
    with pytest.raises(OSError, match=rf"No space left on device: '.*out/{name}'"):
        run_batch(table, sharded=sharded)
    done = results_of()
    assert 0 < len(done) < 7
    for one in done:
        assert (
            picture_of(tmp_path / "out", one).tobytes()
            == ImageOps.invert(drawn(int(one["prompt"][5:]))).tobytes()
        )
    monkeypatch.undo()
    run_batch(table, sharded=sharded)
    check_whole(tmp_path / "out", results_of(), 7)


def test_bad_rows_are_left_out_counted_and_tried_again(make_table, run_batch, tmp_path):
    table = make_table(
        4, "nonsense", {"image": "gone.png", "prompt": "x"}, {"image": "0.png", "prompt": "a bad one"}
    )
    (table.parent / "3.png").write_bytes((table.parent / "3.png").read_bytes()[:60])  # its header is whole
    told = []
    status = run_batch(table, skips=True, report=told.append)
    assert (status.done, status.bad) == (3, 4)
    assert sorted(row.where for row in told) == ["line 4", "line 5", "line 6", "line 7"]
    errors = {one["where"]: one["error"] for one in read_left_out(tmp_path / "out")}
    assert "the prompt is bad" in errors["line 7"]
    assert "the image '3.png' cannot be read: damaged?" in errors["line 4"]
    drawn(3).save(table.parent / "3.png")
    status = run_batch(table, skips=True)
    assert (status.done, status.before, status.bad) == (4, 3, 3)
    merged = merge_results(tmp_path / "out")
    assert [one["where"] for one in merged.bad] == ["line 5", "line 6", "line 7"]
    assert len(merged.edits) == 4


def test_bad_rows_end_it_before_any_work_unless_they_may_be_left_out(make_table, run_batch, tmp_path):
    table = make_table(2, "nonsense", {"image": "0.png", "prompt": "a bad one"})
    source = open_source(DataChoice(str(table)), "diffedit", Team())
    with pytest.raises(
        ValueError, match=r"The data has a row that cannot be used: .*edits.jsonl, line 3: malformed"
    ):
        survey(source, Team(), skips=False)
    assert (survey(source, Team(), skips=True).rows, survey(source, Team(0, 3), skips=True).own) == (3, 3)
    table.write_text(table.read_text().replace("nonsense\n", ""))
    with pytest.raises(ValueError, match="line 3: the prompt is bad"):
        run_batch(table)
    (kept,) = merged_results(tmp_path / "out").edits.values()  # the other edit of the same picture
    assert kept["prompt"] == "edit 0"


def test_a_changed_row_is_done_again_under_its_id(make_table, run_batch, tmp_path):
    table = make_table(0, {"id": "7", "image": "0.png", "prompt": "edit 0"})
    drawn(0).save(table.parent / "0.png")
    run_batch(table)
    table.write_text(table.read_text().replace("edit 0", "edit 1"))
    run_batch(table)
    merged = merged_results(tmp_path / "out")
    assert [one["prompt"] for one in merged.edits.values()] == ["edit 1"]
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["7.png"]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_row_that_is_changed_and_changed_back_has_its_own_picture(
    make_table, run_batch, results_of, tmp_path, sharded
):
    table = make_table(2)
    for number in (0, 1, 0):
        table.write_text(json.dumps({"id": "7", "image": f"{number}.png", "prompt": f"edit {number}"}))
        run_batch(table, sharded=sharded)
    (kept,) = merged_results(tmp_path / "out").edits.values()
    check_whole(tmp_path / "out", [kept], 1)
    editor = Negatives()
    run_batch(table, sharded=sharded, editor=editor)
    assert editor.calls == []


def test_pictures_and_masks_that_are_gone_or_empty_are_made_again(make_table, run_batch, tmp_path):
    class Masking(Negatives):
        def outcome(self, row, image):
            return replace(super().outcome(row, image), mask=image.convert("L"))

    table, out = make_table(4), tmp_path / "out"
    run_batch(table, editor=Masking())
    images, masks = (sorted((out / name).iterdir()) for name in ("images", "masks"))
    images[0].unlink()
    images[1].write_bytes(b"")
    masks[2].unlink()
    masks[3].write_bytes(b"")
    editor = Masking(most=1)
    assert run_batch(table, editor=editor).before == 0
    assert all(path.stat().st_size for path in (*images, *masks))
    assert run_batch(table, editor=Masking()).before == 4


def test_rows_that_do_not_fit_together_are_run_in_smaller_calls(make_table, run_batch, results_of, tmp_path):
    editor = Negatives(most=16, fits=3)
    run_batch(make_table(9), editor=editor)
    assert max(map(len, editor.calls)) == 2
    check_whole(tmp_path / "out", results_of(), 9)


def test_a_result_tells_all_that_made_it(make_table, run_batch, results_of):
    table = make_table(1, source_prompt="before", seed=9, num_inference_steps=3)
    run_batch(table, told={"model": "abc"})
    (one,) = results_of()
    assert one["options"] == {"num_inference_steps": 3}
    assert (one["seed"], one["model"], one["where"], one["source"]) == (9, "abc", "line 1", "0.png")
    assert {"seconds", "together", "finished", "warnings", "image"} <= one.keys()


def test_many_rows_fill_several_shards_that_tar_reads(
    make_table, run_batch, results_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(stores, "SHARD_ROWS", 3)
    run_batch(make_table(7), sharded=True, editor=Negatives(most=1))
    shards = sorted((tmp_path / "out" / "shards").iterdir())
    assert len(shards) == 3
    names = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            names += tar.getnames()
        assert shard.stat().st_size % tarfile.RECORDSIZE == 0
    assert len(names) == len({*names}) == 14  # a picture and its result each
    check_whole(tmp_path / "out", results_of(), 7)


def test_the_table_and_the_page_show_every_row_and_escape_what_data_says(make_table, run_batch, tmp_path):
    table = make_table(2, {"image": "0.png", "prompt": "bad <script>"}, source_prompt="a <b>")
    run_batch(table, skips=True, sharded=True)
    merge_results(tmp_path / "out")
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("name,where,source,source_prompt,prompt,image")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "2 edits, 1 row left out" in page
    assert "a &lt;b&gt;" in page
    assert "<script>" not in page


def test_reading_and_writing_overlap_and_a_failed_write_ends_the_work(make_table, run_batch, monkeypatch):
    editor = Negatives(most=1)

    def fail(work, status, results):
        raise OSError(5, "the disk broke")

    monkeypatch.setattr(running, "_write", fail)
    with pytest.raises(OSError, match="the disk broke"):
        run_batch(make_table(50), editor=editor)
    assert len(editor.calls) < 50


def test_an_own_seed_and_the_base_seed_are_told(make_table):
    rows = [*open_source(DataChoice(str(make_table(1, seed=4))), "diffedit", Team()).read()]
    assert rows[0].seed_under(0) == 4
    assert replace(rows[0], seed=None).seed_under(0) != replace(rows[0], seed=None).seed_under(1)
