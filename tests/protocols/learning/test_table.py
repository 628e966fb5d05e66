"""A table gets past its schema whole and typed, or not at all, and no error shows a value."""

from pathlib import Path

import pandas as pd
import pytest

from protocols.learning.draft import draft_columns
from protocols.learning.schema import Category, Column, Date, Identifier, Integer, Number
from protocols.learning.table import conform, read_table
from services.errors import DataError

COLUMNS: dict[str, Column] = {
    "age": Integer(type="integer", min=0, max=120),
    "pulse": Number(type="number", min=0, max=300, step=0.5, missing=True),
    "sex": Category(type="category", categories=("female", "male"), missing=True),
    "seen": Date(type="date", min="2020-01-01", max="2025-01-01", missing=True),
}
GOOD = "id,age,pulse,sex,seen,note\n1, 40 ,71.5,female,2021-03-01,x\n2,41,,male,,y\n3,0,NA,,2020-01-01,z\n"
PERSON = Identifier(column="id")


@pytest.fixture(autouse=True, params=[1, 2, 16_384])
def _block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a table says, it says alike in blocks of any size."""
    monkeypatch.setattr("protocols.learning.table.BLOCK_ROWS", request.param)


def _read(tmp_path: Path, text: str, identifier: Identifier | None = PERSON) -> tuple[pd.Series, pd.DataFrame]:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return read_table(path, COLUMNS, identifier)


def test_a_good_table_comes_in_typed_and_only_with_the_schema_s_columns(tmp_path: Path) -> None:
    ids, table = _read(tmp_path, GOOD)
    assert ids.tolist() == ["1", "2", "3"]
    assert list(table.columns) == list(COLUMNS)
    assert [str(kind) for kind in table.dtypes] == ["Int64", "float64", "category", "datetime64[s]"]
    assert table["age"].tolist() == [40, 41, 0]
    assert table.isna().sum().to_dict() == {"age": 0, "pulse": 2, "sex": 1, "seen": 1}


def test_parquet_and_csv_read_alike(tmp_path: Path) -> None:
    _, table = _read(tmp_path, GOOD)
    table.assign(id=[1, 2, 3]).to_parquet(tmp_path / "table.parquet")
    ids, again = read_table(tmp_path / "table.parquet", COLUMNS, PERSON)
    assert ids.tolist() == ["1", "2", "3"]
    pd.testing.assert_frame_equal(again, table)
    pd.testing.assert_frame_equal(conform(table, COLUMNS), table)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("female", "SECRET", "column 'sex': 1 of 3 values hold a category outside the schema"),
        ("41", "1234567", "column 'age': 1 of 3 values lie outside the bounds"),
        ("41", "41.5", "column 'age': 1 of 3 values are not whole numbers"),
        ("41", "SECRET", "column 'age': 1 of 3 values are not finite numbers"),
        ("41", "inf", "column 'age': 1 of 3 values are not finite numbers"),
        ("41", "", "column 'age': 1 of 3 values are missing, which the schema does not allow"),
        ("2021-03-01", "01.03.2021", "column 'seen': 1 of 3 values are not dates"),
        ("2021-03-01", "1999-03-01", "column 'seen': 1 of 3 values lie outside the bounds"),
        ("pulse", "puls", "lacks 1 column(s) of the schema: pulse"),
        ("pulse", "age", "names these columns more than once: age"),
        ("2,41", ",41", "1 of 3 rows have no identifier"),
        ("2,41", "1 ,41", "2 of 3 rows share their identifier"),
    ],
)
def test_what_contradicts_the_schema_is_counted_and_never_shown(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, GOOD.replace(old, new, 1))
    assert words in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert "1234567" not in str(caught.value)


def test_all_contradictions_are_said_at_once_in_the_schema_s_order(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, GOOD.replace("female", "x").replace("41", "99.5").replace(",0,", ",999,"))
    said = [line.strip() for line in str(caught.value).splitlines() if "column" in line]
    assert said == [
        "- column 'age': 1 of 3 values lie outside the bounds",
        "- column 'age': 1 of 3 values are not whole numbers",
        "- column 'sex': 1 of 3 values hold a category outside the schema",
    ]


@pytest.mark.parametrize(("text", "words"), [("id,age\n", "has no rows"), ("", "cannot be read"), (None, "no table")])
def test_an_absent_or_empty_table_is_a_clear_error(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(path, COLUMNS, PERSON)


def test_identifiers_are_compared_in_their_canonical_form(tmp_path: Path) -> None:
    ids, _ = _read(tmp_path, GOOD.replace("\n1,", "\n 007 ,"), Identifier(column="id", form="integer"))
    assert ids.tolist() == ["7", "2", "3"]
    ids, _ = _read(tmp_path, GOOD.replace("\n1,", "\n ﬁnN ,"))
    assert ids.tolist() == ["finn", "2", "3"]
    with pytest.raises(DataError, match="1 of 3 identifiers"):
        _read(tmp_path, GOOD.replace("\n1,", "\n1a,"), Identifier(column="id", form="integer"))


def test_a_draft_guesses_types_and_leaves_bounds_blank(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "age,pulse,sex,seen,note\n" + "".join(f"{i},{i}.5,m,2021-01-0{i},text {i}\n" for i in range(1, 10)) * 3
    )
    draft = draft_columns(path)
    assert "age: {type: integer, min: , max: }" in draft
    assert "sex: {type: category, categories: [m]}" in draft
    assert "seen: {type: date" in draft
    assert "9.5" not in draft
