"""Rows from files, frames and lists; what is kept, and what is refused with its place and remedy."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptopt.core.split import Split
from promptopt.data import Dataset
from promptopt.errors import DataError

ROWS = [{"text": "hi", "label": "greet", "n": 1}, {"text": "où, ça?", "label": "ask", "n": 2}]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, **columns: Any) -> DataError:
    wanted: Any = {"inputs": ["text"], "expected": "label", **columns}
    with pytest.raises(DataError) as caught:
        Dataset.read(path, **wanted)
    assert str(caught.value).startswith(f"{path}")
    return caught.value


def told(path: Path, **columns: Any) -> str:
    return str(refusal(path, **columns)).removeprefix(str(path))


class TestFormats:
    @pytest.fixture(params=["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "JSONL"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        path = tmp_path / f"rows.{request.param}"
        frame = pd.DataFrame(ROWS)
        match request.param:
            case "csv":
                frame.to_csv(path, index=False)
            case "tsv":
                frame.to_csv(path, index=False, sep="\t")
            case "json":
                frame.to_json(path, orient="records")
            case "parquet":
                frame.to_parquet(path)
            case _:
                frame.to_json(path, orient="records", lines=True)
        return path

    def test_every_format_gives_the_same_examples(self, path: Path):
        data = Dataset.read(path, inputs=["text"], expected="label", group="n")
        assert [(row.inputs, row.expected, row.group) for row in data] == [
            ({"text": "hi"}, "greet", "1"),
            ({"text": "où, ça?"}, "ask", "2"),
        ]
        assert data[0].label == "greet"
        assert int(data[1]["n"]) == 2
        assert repr(data) == f"Dataset(2 rows of {path})"

    def test_a_format_can_be_named_where_the_ending_does_not(self, tmp_path: Path):
        for read, content in (
            (Dataset.from_csv, "text,label\nhi,greet\n"),
            (Dataset.from_jsonl, '{"text": "hi", "label": "greet"}\n'),
            (Dataset.from_json, '[{"text": "hi", "label": "greet"}]'),
        ):
            data = read(written(tmp_path / "export.txt", content), inputs="text", expected="label")
            assert data[0].inputs == {"text": "hi"}
        pd.DataFrame(ROWS).to_parquet(tmp_path / "export")
        assert len(Dataset.from_parquet(tmp_path / "export", inputs="text")) == 2

    def test_frames_and_dictionaries_give_what_files_give(self):
        frame = Dataset.from_frame(pd.DataFrame(ROWS, index=[5, 6]), inputs=["text"], expected="label")
        dicts = Dataset.from_rows(iter(ROWS), inputs=["text"], expected="label")
        assert frame.examples == dicts.examples
        assert dicts[0].meta == {"label": "greet", "n": 1}


def test_a_dataset_can_be_split():
    data = Dataset.from_rows(
        [{"text": str(i), "label": "ab"[i % 2]} for i in range(20)], inputs="text", expected="label"
    )
    drawn = data.split(train=0.5, val=4, test=6)
    assert [len(part) for part in (drawn.train, drawn.val, drawn.test)] == [10, 4, 6]
    assert [row.expected for row in drawn.val].count("a") == 2


class TestValues:
    def test_csv_cells_stay_text(self, tmp_path: Path):
        path = written(tmp_path / "a.csv", 'text,label,x\n007,1.0,\n"a ""b""\nc",true,NA\n null ,NaN,1e5\n')
        data = Dataset.read(path, inputs=["text"], expected="label")
        assert [(row.text, row.label, row.x) for row in data] == [
            ("007", "1.0", ""),
            ('a "b"\nc', "true", "NA"),
            (" null ", "NaN", "1e5"),
        ]

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1),
        sep=st.sampled_from([("csv", ","), ("tsv", "\t")]),
    )
    def test_any_text_survives_csv(self, texts: list[str], sep: tuple[str, str], tmp_path: Path):
        path = tmp_path / f"a.{sep[0]}"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=sep[1], quoting=csv.QUOTE_ALL)
            writer.writerows([["text"], *([text] for text in texts)])
        assert [row.text for row in Dataset.read(path, inputs="text")] == texts

    def test_a_byte_order_mark_crlf_and_blank_lines_do_no_harm(self, tmp_path: Path):
        for name, content in (
            ("a.csv", "\r\ntext,label\r\nhi,x\r\n\r\nho,y\r\n"),
            ("a.jsonl", '\r\n{"text": "hi", "label": "x"}\r\n\r\n{"text": "ho", "label": "y"}'),
            ("a.json", '[{"text": "hi", "label": "x"},\r\n{"text": "ho", "label": "y"}]\r\n'),
        ):
            path = written(tmp_path / name, b"\xef\xbb\xbf" + content.encode())
            assert [(row.text, row.label) for row in Dataset.read(path, inputs=["text"])] == [("hi", "x"), ("ho", "y")]

    def test_values_become_plain_json(self):
        row = {
            "text": np.str_("hi"),
            "whole": np.int64(3),
            "part": np.float32(0.5),
            "flag": np.bool_(True),
            "many": np.array([1, 2]),
            "when": pd.Timestamp("2026-01-02 03:04"),
            "stamp": np.datetime64("2026-01-02", "ns"),
            "day": date(2026, 1, 2),
            "price": Decimal("12.50"),
            "nested": {"a": (1, math.nan), 2: datetime(2026, 1, 2)},
            "nan": math.nan,
            "inf": math.inf,
            "nat": pd.NaT,
            "na": pd.NA,
            "none": None,
        }
        plain = dict(Dataset.from_rows([row], inputs=["text"])[0].meta)
        assert plain == {
            "whole": 3,
            "part": 0.5,
            "flag": True,
            "many": [1, 2],
            "when": "2026-01-02T03:04:00",
            "stamp": "2026-01-02T00:00:00",
            "day": "2026-01-02",
            "price": "12.50",
            "nested": {"a": [1, None], "2": "2026-01-02T00:00:00"},
            **dict.fromkeys(["nan", "inf", "nat", "na", "none"]),
        }
        assert [type(plain[name]) for name in ("whole", "part", "flag")] == [int, float, bool]
        json.dumps(plain, allow_nan=False)

    def test_parquet_and_frames_keep_types(self, tmp_path: Path):
        table = pa.table(
            {
                "text": ["a", "b"],
                "n": pa.array([1, None], pa.int64()),
                "tags": [["x"], []],
                "deep": [{"k": 1}, {"k": 2}],
                "at": pa.array([1_700_000_000_000_000_000, None], pa.timestamp("ns")),
                "image": [b"\xff", b"\xfe"],
            }
        )
        pq.write_table(table, tmp_path / "a.parquet")
        data = Dataset.read(tmp_path / "a.parquet", inputs=["text", "tags", "deep"])
        assert data[0].inputs == {"text": "a", "tags": ["x"], "deep": {"k": 1}}
        assert data[0].meta == {"n": 1, "at": "2023-11-14T22:13:20"}
        assert data[1].meta == {"n": None, "at": None}
        with pytest.raises(DataError, match="row 1: column 'image' holds a bytes, which JSON cannot hold"):
            Dataset.read(tmp_path / "a.parquet", inputs=["image"])
        frame = Dataset.from_frame(table.to_pandas(), inputs=["text", "tags", "deep"])
        assert [row.inputs for row in frame] == [row.inputs for row in data]

    def test_several_expected_columns_are_a_mapping_and_columns_can_be_renamed(self):
        rows = [{"Customer message": "hi", "a": 1, "b": 2}]
        row = Dataset.from_rows(rows, inputs={"text": "Customer message"}, expected=["a", "b"])[0]
        assert (row.inputs, row.expected) == ({"text": "hi"}, {"a": 1, "b": 2})
        assert row.text == row["Customer message"] == "hi"
        assert Dataset.from_rows(rows, inputs="a", expected={"total": "b"})[0].expected == {"total": 2}

    def test_an_unknown_role_is_refused(self):
        with pytest.raises(TypeError, match="input"):
            Dataset.from_rows(ROWS, input=["text"])  # pyright: ignore
        with pytest.raises(DataError, match="inputs names no column"):
            Dataset.from_rows(ROWS, inputs=[])


class TestIds:
    def test_ids_come_from_their_column(self):
        assert [row.id for row in Dataset.from_rows(ROWS, inputs="text", id="n")] == ["1", "2"]

    @given(order=st.permutations(range(6)), extra=st.lists(st.sampled_from("abcxyz")))
    def test_made_ids_do_not_change_when_rows_move_or_are_added(self, order: list[int], extra: list[str]):
        rows = [{"text": text, "label": label} for text, label in zip("abcaab", "112211", strict=True)]
        data = Dataset.from_rows(rows, inputs="text", expected="label")
        more = [rows[i] for i in order] + [{"text": text, "label": "1"} for text in extra]
        moved = Dataset.from_rows(more, inputs="text", expected="label")
        assert len({row.id for row in moved}) == len(more)
        assert {(row.id, row.text, row.label) for row in data} <= {(row.id, row.text, row.label) for row in moved}

    def test_repeated_ids_are_listed_with_their_lines(self, tmp_path: Path):
        path = written(tmp_path / "a.csv", 'k,text,label\n1,"a\nb",x\n2,b,x\n1,c,x\n2,d,x\n')
        error = refusal(path, id="k")
        assert (error.row, error.column) == (5, "k")
        assert str(error) == (
            f"{path}, line 5: ids repeat: '1' on lines 2 and 5, '2' on lines 4 and 6. "
            "Make column 'k' unique, or leave id out to have ids made from the content."
        )
        with pytest.raises(DataError, match="'1' on rows 1 and 2"):
            Dataset.from_rows([{"t": "a", "k": 1}, {"t": "b", "k": "1"}], inputs="t", id="k")

    @pytest.mark.parametrize("bad", ["", [1], {"a": 1}])
    def test_ids_and_groups_must_say_something(self, bad: object):
        for role, what in (("id", "an id"), ("group", "a group")):
            with pytest.raises(DataError, match=f"row 2: column 'k' must hold {what}"):
                Dataset.from_rows([{"t": "a", "k": "1"}, {"t": "b", "k": bad}], inputs="t", **{role: "k"})


class TestRefusals:
    def test_files_that_are_not_there(self, tmp_path: Path):
        written(tmp_path / "train.csv", "text,label\na,b\n")
        assert told(tmp_path / "trian.csv") == f": there is no such file. Did you mean {tmp_path / 'train.csv'}?"
        assert told(tmp_path / "other" / "x.csv") == ": there is no such file. Check the path."
        (tmp_path / "folder.csv").mkdir()
        assert told(tmp_path / "folder.csv") == ": this is a directory. Name a file in it."

    def test_unknown_endings(self, tmp_path: Path):
        path = written(tmp_path / "a.xlsx", "x")
        assert told(path) == (
            ": the ending '.xlsx' is not known. Known are .csv, .tsv, .jsonl, .ndjson, .json, .parquet."
        )
        assert "the name has no ending" in told(written(tmp_path / "a", "x"))

    @pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
    def test_empty_files(self, ending: str, tmp_path: Path):
        assert told(written(tmp_path / f"a.{ending}", b"")) == ": the file is empty. Nothing was spent."

    @pytest.mark.parametrize(
        ("name", "content"), [("a.csv", "text,label\n"), ("a.jsonl", "\n \n"), ("a.json", "[]"), ("b.csv", "\n\n")]
    )
    def test_files_without_rows(self, name: str, content: str, tmp_path: Path):
        assert told(written(tmp_path / name, content)) == ": there are no rows. Nothing was spent."

    def test_a_frame_or_list_without_rows(self):
        for empty in (
            lambda: Dataset.from_rows([], inputs="t"),
            lambda: Dataset.from_frame(pd.DataFrame(), inputs="t"),
        ):
            with pytest.raises(DataError, match="there are no rows"):
                empty()

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet"])
    def test_a_missing_column_names_the_nearest_and_those_there_are(self, name: str, tmp_path: Path):
        path = tmp_path / name
        frame = pd.DataFrame([{"Text": "hi", "label": "x"}])
        if name == "a.csv":
            frame.to_csv(path, index=False)
        elif name == "a.parquet":
            frame.to_parquet(path)
        else:
            frame.to_json(path, orient="records", lines=name == "a.jsonl")
        error = refusal(path)
        assert str(error) == f"{path}: there is no column 'text'. Did you mean 'Text'? There are: Text, label"
        assert error.column == "text"
        assert told(path, inputs=["query"]) == ": there is no column 'query'. There are: Text, label"

    def test_a_column_missing_in_a_later_row_gives_its_line(self, tmp_path: Path):
        path = written(tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\n\n{"text": "b", "lable": "x"}\n')
        assert told(path) == ", line 3: there is no column 'label'. Did you mean 'lable'? There are: text, lable"

    @pytest.mark.parametrize("empty", [None, math.nan, pd.NA, pd.NaT])
    @pytest.mark.parametrize("role", ["inputs", "expected", "id", "group"])
    def test_a_needed_value_that_is_missing_gives_row_and_column(self, empty: object, role: str):
        rows = [{"t": "a", "x": 1}, {"t": "b", "x": empty}]
        columns: dict[str, Any] = {"inputs": "t", role: "x"}
        with pytest.raises(DataError, match=r"row 2: column 'x' is empty \(null or NaN\)") as caught:
            Dataset.from_rows(rows, **columns)
        assert (caught.value.row, caught.value.column) == (2, "x")
        with pytest.raises(DataError, match="row 2: column 'x' is empty"):
            Dataset.from_frame(pd.DataFrame(rows), **columns)

    def test_broken_json_gives_line_and_column(self, tmp_path: Path):
        path = written(tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\n{"text": "some"  "label": "x"}\n')
        assert told(path) == ", line 2: not valid JSON (Expecting ',' at column 18). Nothing was spent."
        path = written(tmp_path / "b.jsonl", '{"text": "a", "label": "x"}\n{"text": "a"\n')
        assert told(path) == ", line 2: not valid JSON (Expecting ',' at column 13). Nothing was spent."
        path = written(tmp_path / "a.json", '[{"text": "a", "label": "x"},\n {"text" "a"}]')
        assert told(path) == ", line 2: not valid JSON (Expecting ':' at column 10). Nothing was spent."

    def test_json_lines_in_a_json_file_are_recognised(self, tmp_path: Path):
        path = written(tmp_path / "a.json", '{"text": "a"}\n{"text": "b"}\n')
        assert told(path).endswith("If every line is an object, name the file .jsonl.")

    def test_json_that_is_no_list_of_objects(self, tmp_path: Path):
        path = written(tmp_path / "a.json", '{"data": []}')
        assert told(path).startswith(": an array of objects is needed")
        assert told(path).endswith("and this is an object.")
        path = written(tmp_path / "b.json", '[{"text": "a", "label": "x"}, ["b"]]')
        assert told(path).startswith(", row 2: not an object but an array.")
        path = written(tmp_path / "c.jsonl", '{"text": "a", "label": "x"}\n"b"\n')
        assert told(path).startswith(", line 2: not a JSON object but a text.")
        with pytest.raises(DataError, match=r"row 1: not an object but a number \(7\)"):
            Dataset.from_rows([7], inputs="t")  # pyright: ignore

    @pytest.mark.parametrize("value", ["[" * 100_000, "[" * 700 + "]" * 700, "1" * 5000, '"\\ud800"'])
    def test_hostile_json_is_refused_and_not_a_crash(self, value: str, tmp_path: Path):
        path = written(tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\n{"label": "x", "text": ' + value + "}\n")
        assert told(path).startswith(", line 2: ")

    def test_ragged_rows_give_the_line_they_start_on(self, tmp_path: Path):
        path = written(tmp_path / "a.csv", 'text,label\n"two\nlines",x\nhi, there,x\n')
        assert told(path).startswith(", line 4: 3 fields where the header has 2. A text that holds a comma")
        path = written(tmp_path / "a.tsv", "text\tlabel\nhi\n")
        assert told(path).startswith(", line 2: 1 fields where the header has 2. A text that holds a tab")

    def test_quotes_that_are_never_closed_give_the_line_they_open_on(self, tmp_path: Path):
        path = written(tmp_path / "a.csv", 'text,label\na,b\n"never closed,x\n' + "more,x\n" * 10)
        assert told(path).startswith(", line 3: not valid CSV (unexpected end of data). Close every quote")
        path = written(tmp_path / "b.csv", 'text,label\na,b\n"never closed,x\n' + "more,x\n" * 50_000)
        assert told(path).startswith(
            ", line 3: not valid CSV (field larger than field limit (131072)). Close every quote"
        )
        assert "texts above 131,072 characters belong in JSONL or Parquet" in told(path)

    def test_headers_that_repeat_a_name(self, tmp_path: Path):
        path = written(tmp_path / "a.csv", "text,label,text\na,b,c\n")
        assert told(path) == ": columns are named twice: 'text'. Rename one of each."
        pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "a.parquet")
        assert "columns are named twice: 'text'" in told(tmp_path / "a.parquet")
        with pytest.raises(DataError, match="columns are named twice: 'text'"):
            Dataset.from_frame(pd.DataFrame([["a", "b"]], columns=["text", "text"]), inputs="text")

    @pytest.mark.parametrize(
        ("ending", "head", "row"),
        [
            ("csv", "text,label\n", "a,b\n"),
            ("jsonl", "\n", '{"text": "a", "label": "x"}\n'),
            ("json", "[\n", '{"text": "a", "label": "x"},\n'),
        ],
    )
    def test_other_encodings_give_line_and_byte(self, ending: str, head: str, row: str, tmp_path: Path):
        path = written(tmp_path / f"a.{ending}", (head + row * 30_000 + "caf\xe9\n").encode("latin-1"))
        assert told(path) == (
            ", line 30002: not UTF-8: byte 0xe9 at position 4 of the line. Save the file as UTF-8. Nothing was spent."
        )

    def test_utf_16_and_nul_bytes(self, tmp_path: Path):
        assert "line 1: not UTF-8: byte 0xff" in told(written(tmp_path / "a.csv", "text,label\na,b\n".encode("utf-16")))
        assert ", line 2: a NUL byte" in told(written(tmp_path / "b.csv", "text,label\na\0,b\n"))

    @pytest.mark.parametrize("content", [b"text,label\n", b"PAR1 and then nothing PAR1"])
    def test_files_that_are_not_parquet(self, content: bytes, tmp_path: Path):
        assert told(written(tmp_path / "a.parquet", content)).startswith(": not a readable Parquet file (")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
    @given(
        content=st.binary(min_size=1) | st.text('{}[]",:\n\r\t\\u0d8 aNlte1', min_size=1).map(str.encode),
        ending=st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet"]),
    )
    def test_no_file_whatever_ends_in_another_error(self, content: bytes, ending: str, tmp_path: Path):
        with suppress(DataError):
            Dataset.read(written(tmp_path / f"a.{ending}", content), inputs="text")


class TestOfDspy:
    """DSPy's own examples, as its users have them."""

    def test_inputs_go_in_and_labels_are_the_answer(self):
        row = dspy.Example(text="hi", label="greet").with_inputs("text")
        (example,) = Dataset.from_dspy([row])
        assert (example.inputs, example.expected, example.meta) == ({"text": "hi"}, "greet", {"label": "greet"})
        (same,) = Dataset.from_rows([{"text": "hi", "label": "greet"}], inputs="text", expected="label")
        assert example == same

    def test_several_labels_are_a_mapping_and_none_is_none(self):
        row = dspy.Example(text="hi", label="greet", tone="warm")
        assert Dataset.from_dspy([row.with_inputs("text")])[0].expected == {"label": "greet", "tone": "warm"}
        assert Dataset.from_dspy([row.with_inputs("text", "label", "tone")])[0].expected is None

    def test_typed_values_become_plain(self):
        class Sender(pydantic.BaseModel):
            name: str

        row = dspy.Example(text="hi", sender=Sender(name="Ida"), tags={"a"}, day=date(2026, 1, 2))
        (example,) = Dataset.from_dspy([row.with_inputs("text", "sender")])
        assert example.inputs == {"text": "hi", "sender": {"name": "Ida"}}
        assert example.expected == {"tags": ["a"], "day": "2026-01-02"}

    def test_what_loaders_add_for_themselves_is_left_out(self):
        row = dspy.Example(text="hi", label="greet", dspy_uuid="1b2c", dspy_split="train").with_inputs("text")
        assert Dataset.from_dspy([row])[0].meta == {"label": "greet"}

    def test_a_part_of_a_split_may_be_a_list_of_them(self):
        rows = [dspy.Example(text=f"t{n}", label="a").with_inputs("text") for n in range(6)]
        split = Split.given(rows[:2], rows[2:4], rows[4:])
        assert [len(part) for part in split.parts.values()] == [2, 2, 2]
        assert len({example.id for part in split.parts.values() for example in part}) == 6
        with pytest.raises(DataError, match="equal inputs"):
            Split.given(rows[:2], rows[1:4])

    def test_equal_rows_have_ids_of_their_own(self):
        row = dspy.Example(text="hi", label="greet").with_inputs("text")
        first, second = Dataset.from_dspy([row, row])
        assert second.id == f"{first.id}-2"

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (dspy.Example(text="hi"), "row 2: its inputs are not named; call with_inputs(...) on it"),
            (
                dspy.Example(text="hi").with_inputs("txt"),
                "row 2: it has none of the fields that with_inputs(...) names",
            ),
            (dspy.Example(text=print).with_inputs("text"), "row 2: field 'text' holds a builtin_function_or_method"),
            ({"text": "hi"}, "row 2: dict where a dspy.Example with inputs and labels belongs"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_row(self, row: Any, message: str):
        with pytest.raises(DataError) as caught:
            Dataset.from_dspy([dspy.Example(text="fine").with_inputs("text"), row])
        assert str(caught.value).startswith(message)


def test_a_hundred_thousand_rows_load_fast_and_small(tmp_path: Path):
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=6)) for _ in range(2000)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "n"])
        writer.writerows([" ".join(rng.choices(words, k=14)), f"l{i % 70}", i] for i in range(100_000))
    code = (
        "import sys, time\n"
        "from promptopt.data import Dataset\n"
        "started = time.process_time()\n"
        "data = Dataset.read(sys.argv[1], inputs=['text'], expected='label')\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(len(data), time.process_time() - started, int(peak.split()[1]) / 1024)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.csv")], capture_output=True, text=True, check=True
    )
    rows, seconds, mebibytes = map(float, run.stdout.split())
    assert rows == 100_000
    assert seconds < 5
    assert mebibytes < 250
