"""Every way in which a row can be wrong is told with its line and the reason, and costs no other row."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest

from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.team import ALONE, Team
from semantic_edit.datasets.items import BadRow
from tests.batch.conftest import drawn


def read(name, method="diffedit", team=ALONE, **choice):
    rows = [*open_source(DataChoice(str(name), **choice), method, team).read()]
    return [row for row in rows if not isinstance(row, BadRow)], [
        row for row in rows if isinstance(row, BadRow)
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "malformed JSON at column 1"),
        ("[1]", "must be an object with keys"),
        ('{"prompt": "a"}', "`image` or `file_name` is missing"),
        ('{"image": 3, "prompt": "a"}', "`image` must be text, got 3"),
        ('{"image": "gone.png", "prompt": "a"}', "there is no file 'gone.png'"),
        ('{"image": "../0.png", "prompt": "a"}', "must lie in the dataset's folder"),
        ('{"image": "0.png"}', "`prompt` is missing; there is image"),
        ('{"image": "0.png", "prompt": "a", "prompt": "b"}', "`prompt` is there twice"),
        ('{"image": "0.png", "prompt": "a", "id": "\\ud800."}', "`id` holds half of a surrogate pair"),
        (
            '{"image": "0.png", "prompt": "a", "negative_prompt": "\\ud800"}',
            "`negative_prompt` holds half of a surrogate pair",
        ),
        (
            '{"image": "0.png", "prompt": "a", "local_blend": ["a", "\\ud800"]}',
            "`local_blend` holds half of a surrogate pair",
        ),
        ('{"image": "0.png", "prompt": []}', "`prompt` is an empty list"),
        ('{"image": "0.png", "prompt": ["a", 3]}', "`prompt` must be text, got 3"),
        ('{"image": "0.png", "prompt": "a", "seed": -1}', "`seed` must be a whole number"),
        ('{"image": "0.png", "prompt": "a", "id": [1]}', "`id` must be text or a whole number"),
        ('{"image": "0.png", "prompt": "a", "guidance_scale": "high"}', "`guidance_scale` must be a number"),
        (
            '{"image": "0.png", "prompt": "a", "num_maps_per_mask": 0}',
            "`num_maps_per_mask` must be an integer",
        ),
        ('{"image": "0.png", "prompt": "a", "focus": 1}', "`focus` must be true or false, got 1"),
        ('{"image": "0.png", "prompt": "a", "preset": "best"}', "`preset` must be one of paper, default"),
        ('{"image": "0.png", "prompt": "a", "negative_prompt": 1}', "`negative_prompt` must be text, got 1"),
        (
            '{"image": "0.png", "prompt": "a", "local_blend": [1]}',
            "`local_blend` must be a word or a list of words",
        ),
        ('{"image": {"path": 1}, "prompt": "a"}', "`image` has neither bytes nor a path"),
        ('{"image": "0.png", "prompt": "a", "mask_image": "gone.png"}', "there is no file 'gone.png'"),
        ('{"image": "0.png", "prompt": "edit 0"}', "the same edit, or the same id '0-"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_the_reason(make_table, line, reason):
    table = make_table(2, line, '{"image": "1.png", "prompt": "after it"}')
    rows, (bad,) = read(table)
    assert [row.prompt for row in rows] == ["edit 0", "edit 1", "after it"]
    assert (bad.file, bad.where) == (table, "line 3")
    assert reason in bad.reason


def test_one_record_may_ask_for_several_edits_and_set_options(make_table):
    more = {
        "id": "x.y",
        "image": "0.png",
        "prompt": ["a", "b"],
        "num_inference_steps": 7,
        "seed": 3,
        "other": 1,
    }
    rows, bad = read(make_table(1, more))
    assert not bad
    first, second = rows[1:]
    assert [row.options for row in rows[1:]] == [{"num_inference_steps": 7}] * 2
    assert first.picture == second.picture
    assert first.name.startswith("x_y-")
    assert first.name != second.name
    assert "." not in first.name + second.name
    assert [row.seed_under(0) for row in rows[1:]] == [3, 3]


def test_a_name_and_a_seed_depend_on_the_row_and_on_nothing_around_it(make_table):
    rows, _ = read(make_table(3))
    alone, _ = read(make_table(0, {"image": "2.png", "prompt": "edit 2"}))
    assert (rows[2].name, rows[2].seed_under(5)) == (alone[0].name, alone[0].seed_under(5))
    assert len({row.seed_under(5) for row in rows}) == 3
    assert rows[2].seed_under(6) != alone[0].seed_under(5)


def test_csv_holds_numbers_truth_and_lists_as_text(make_table):
    folder = make_table(1).parent
    (folder / "edits.csv").write_text(
        "image,prompt,num_inference_steps,inpaint_strength,focus,local_blend,seed\n"
        '0.png,a,12,0.5,False,"[""x"", ""y""]",4\n0.png,b,,,,,\n0.png,c,many,,,,\n'
    )
    (first, second), (bad,) = read(folder / "edits.csv")
    assert first.options == {
        "num_inference_steps": 12,
        "inpaint_strength": 0.5,
        "focus": False,
        "local_blend": ["x", "y"],
    }
    assert (first.seed, second.seed, second.options) == (4, None, {})
    assert bad.where == "line 4"
    assert "`num_inference_steps` must be an integer from 1 to 1000, got 'many'" in bad.reason


def test_a_folder_with_a_table_is_that_table_and_columns_may_have_other_names(make_table):
    table = make_table(1, {"image": "0.png", "target": "b"})
    rows, bad = read(table, columns={"prompt": "target"})
    assert [row.prompt for row in rows] == ["b"]
    (missing,) = bad
    assert missing.reason == "there is no column 'target' to take `prompt` from; there is image, prompt"
    table.rename(table.with_name("prompts.jsonl"))
    assert [row.prompt for row in read(table.parent)[0]] == ["edit 0"]


def test_a_column_that_a_row_lacks_is_told_even_if_the_row_could_do_without(make_table):
    table = make_table(1, source_prompt="an apple", maks=None)
    _, (bad,) = read(table, columns={"source_prompt": "captoin"})
    assert "there is no column 'captoin' to take `source_prompt` from; there is image, prompt" in bad.reason
    (row,), none = read(table, columns={"mask_image": "maks"})  # null counts as not given
    assert (row.mask, none) == (None, [])


def test_columns_for_what_no_row_has_are_refused(make_table):
    with pytest.raises(
        ValueError, match="`columns` promt=prompt: a row has no 'promt'; did you mean prompt\\?"
    ):
        read(make_table(1), columns={"promt": "prompt"})
    with pytest.raises(ValueError, match=r"a row has no 'xyz'\. It may have image, "):
        read(make_table(1), columns={"xyz": "prompt"})


def test_keys_that_nothing_reads_are_counted_by_rows(make_table):
    table = make_table(2, {"image": "0.png", "prompt": ["a", "b"], "steps": 3, "target": "c"}, tau_v=0.5)
    source = open_source(DataChoice(str(table)), "diffedit", ALONE)
    for _ in range(2):  # each reading counts anew
        assert len([*source.read()]) == 4
        assert source.ignored == {"tau_v": 2, "steps": 2, "target": 2}
    renamed = open_source(DataChoice(str(table), columns={"id": "steps"}), "diffedit", ALONE)
    assert [*renamed.read()]
    assert "steps" not in renamed.ignored


def test_a_folder_without_a_table_that_it_is_read_by_names_the_table_to_pass(make_table):
    table = make_table(1)
    with pytest.raises(
        ValueError, match=f"has none of the tables .*prompts.jsonl.* Name the table itself: {table}"
    ):
        read(table.parent)


def test_a_csv_with_other_separators_is_told(make_table):
    table = make_table(1).with_name("edits.csv")
    for separator in (";", "\t"):
        table.write_text(separator.join(("image", "source_prompt", "prompt")) + "\n")
        with pytest.raises(ValueError, match="separate the columns by commas instead of"):
            read(table)


def test_a_dataset_that_cannot_be_opened_is_told_in_one_line(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Couldn't reach it.\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fail))
    with pytest.raises(
        ValueError, match="'owner/name' is no file or folder here, and as a dataset it cannot be ope"
    ):
        read("owner/name")


def test_restyling_needs_words_under_which_a_picture_is_learned(make_table):
    table = make_table(1, {"image": "0.png", "source_prompt": "an apple", "prompt": "a pear", "tau_v": 0.2})
    (row,), (bad,) = read(table, "restyle")
    assert row.options == {"tau_v": 0.2}
    assert "`source_prompt` is missing" in bad.reason


def test_parquet_holds_pictures_as_bytes(make_table, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    content = io.BytesIO()
    drawn(5).save(content, "PNG")
    images = [{"bytes": content.getvalue(), "path": "a/b.png"}] * 2 + [{"bytes": b"no image", "path": None}]
    table = pyarrow.table({"image": images, "prompt": ["a", "b", "c"], "guidance_scale": [None, 3.0, None]})
    parquet.write_table(table, tmp_path / "edits.parquet")
    rows, bad = read(tmp_path / "edits.parquet")
    assert not bad
    assert [row.options for row in rows] == [{}, {"guidance_scale": 3.0}, {}]
    assert rows[0].picture == rows[1].picture
    assert rows[0].name.startswith("b-")
    assert rows[0].picture.read().tobytes() == drawn(5).tobytes()
    with pytest.raises(ValueError, match="is not a picture in a format"):
        rows[2].picture.size()
    (tmp_path / "edits.parquet").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read(tmp_path / "edits.parquet")


class Streamed(list):
    """As much of a dataset of the `datasets` library as is used."""

    features: dict = {}  # noqa: RUF012
    num_shards = 1


def test_a_dataset_is_streamed_by_the_library(monkeypatch):
    asked = []
    image = drawn(3)
    data = Streamed([{"image": image, "prompt": "a"}, {"image": image, "prompt": "b"}, {"prompt": "c"}])
    library = SimpleNamespace(
        load_dataset=lambda *args, **given: asked.append((args, given)) or data, Image=str
    )
    monkeypatch.setitem(sys.modules, "datasets", library)
    source = open_source(DataChoice("owner/name", split="test"), "diffedit", Team(1, 2))
    assert asked == [(("owner/name",), {"split": "test", "streaming": True})]
    assert not source.is_table
    first, second, bad = source.read()
    assert first.picture.key == second.picture.key
    assert first.picture.size() == (16, 16)
    assert bad.where == "row 3"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "neither a file nor a folder"),
        ("nowhere.jsonl", "There is no file or folder 'nowhere.jsonl'"),
        ("owner/nowhere.csv", "There is no file or folder 'owner/nowhere.csv'"),
        ("tests/nowhere", "There is no file or folder 'tests/nowhere'"),
        ("{file}.txt", r"must end in one of \.jsonl"),
        ("owner/name", 'needs `datasets`, .* pip install "diffusers-semantic-edit\\[data\\]"'),
        ("{file}.parquet", r"Reading edits\.parquet needs `pyarrow.parquet`"),
    ],
)
def test_data_that_cannot_be_opened_is_told(tmp_path, monkeypatch, name, reason):
    for suffix in ("txt", "parquet"):
        (tmp_path / f"edits.{suffix}").write_text("")
    for library in ("datasets", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=reason):
        read(name.replace("{file}", str(tmp_path / "edits")))


def test_a_library_that_a_folder_hides_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace())
    with pytest.raises(ValueError, match="hides the library of that name"):
        read("owner/name")


def test_a_table_is_read_line_by_line_and_its_encoding_checked(make_table):
    table = make_table(1)
    table.write_bytes(
        b"\xef\xbb\xbf" + table.read_bytes() + json.dumps({"image": "0.png", "prompt": "b"}).encode()
    )
    assert [row.prompt for row in read(table)[0]] == ["edit 0", "b"]
    table.write_bytes(table.read_bytes() + b"\n\xff\n")
    with pytest.raises(ValueError, match="line 3, is not UTF-8"):
        read(table)
