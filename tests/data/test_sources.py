"""Raw data from anything a user has, hostile files included. Every file is made here; nothing is fetched."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwright import home
from modelwright.data.sources import load, resolve
from modelwright.data.sources.dialect import open_quote, records
from modelwright.errors import Refusal, Stopped

SMALL, LARGE = 1 << 28, 1  # a limit above every file here, and one below: everything then goes through the cache on disk


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODELWRIGHT_DATA", raising=False)


@pytest.fixture(params=[SMALL, LARGE], ids=["in memory", "on disk"])
def limit(request):
    return request.param


def put(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return str(path)


def refused(source, **more) -> Refusal:
    with pytest.raises(Refusal) as caught:
        load(source, **more)
    problem = caught.value.problems[0]
    assert problem.what and problem.where and problem.fix and problem.code.startswith(("data.", "extra."))
    assert len(str(problem)) < 1500
    return caught.value


def told(loaded, *words: str) -> bool:
    return all(any(w in note for note in loaded.notes) for w in words)


# --- text tables ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk", "gb18030"])
def test_encodings_chinese(tmp_path, limit, encoding):
    rows = {"姓名": ["张三", "李四", "王小明"], "城市": ["北京", "上海，浦东", "广州"], "age": [30, 41, 27]}
    text = "姓名,城市,age\n张三,北京,30\n李四,上海，浦东,41\n王小明,广州,27\n"
    loaded = load(put(tmp_path, "人.csv", text, encoding), limit=limit)
    assert loaded.table.to_pydict() == rows


@pytest.mark.parametrize("encoding, said", [("latin-1", "Latin-1"), ("cp1252", "Windows-1252")])
def test_encodings_western(tmp_path, limit, encoding, said):
    loaded = load(put(tmp_path, "a.csv", "name;town\nJosé Núñez;Málaga\nJürgen;Köln\nÉmile;Besançon\n", encoding), limit=limit)
    assert loaded.table["town"].to_pylist() == ["Málaga", "Köln", "Besançon"] and told(loaded, said)


EAST_ASIAN = {
    "big5": "今天天氣很好，我們一起去公園散步吧。他們說這間餐廳的牛肉麵非常好吃。圖書館幾點關門？請問車站在哪裡？",
    "shift_jis": "今日はとても良い天気ですね。このレストランのカレーはおいしいです。駅はどこにありますか。",
    "euc_jp": "今日はとても良い天気ですね。このレストランのカレーはおいしいです。駅はどこにありますか。",
    "euc_kr": "오늘은 날씨가 아주 좋습니다. 이 식당의 음식은 정말 맛있어요. 기차역은 어디에 있습니까? 도서관은 몇 시에 문을 닫나요?",
    "gbk": "今天天气很好，我们一起去公园散步吧。他们说这家餐厅的牛肉面非常好吃。图书馆几点关门？请问车站在哪里？",
}


@pytest.mark.parametrize("encoding, said", zip(EAST_ASIAN, ["Big5", "Shift-JIS", "EUC-JP", "EUC-KR", "GBK"], strict=True))
@pytest.mark.parametrize("filler", ["", " and then a good deal of plain words as such tables have"])
def test_east_asian_pages_are_told_apart(tmp_path, limit, encoding, said, filler):
    words = [EAST_ASIAN[encoding][i : i + 9] for i in range(0, 45, 9)]
    loaded = load(put(tmp_path, "a.csv", "id,note\n" + "".join(f"{i}.5,{w.replace(',', ' ')}{filler}\n" for i, w in enumerate(words)), encoding), limit=limit)
    assert loaded.table["note"].to_pylist() == [w.replace(",", " ") + filler for w in words] and said in loaded.notes[0]


@pytest.mark.parametrize("text", ["25 °C", "Ärzte", "£ 5 à Århus", "50 µm ± 2"])
def test_western_signs_are_not_taken_for_pairs(tmp_path, text):
    assert load(put(tmp_path, "a.csv", f"note,n\n{text},1\nplain,2\n", "cp1252")).table["note"][0].as_py() == text


def test_cyrillic_among_plain_words_is_not_read_as_western(tmp_path):
    rows = "".join(f"a long remark in plain English words,Пётр Казань {i}\n" for i in range(20))
    problem = refused(put(tmp_path, "a.csv", "note,who\n" + rows, "cp1251")).problems[0]
    assert problem.code == "data.encoding" and "iconv" in problem.fix


@pytest.mark.parametrize("encoding", ["koi8-r", "cp1251", "cp1256", "iso-8859-8"])
def test_pages_of_one_byte_that_are_left_out_are_refused(tmp_path, encoding):
    words = {"cp1256": "محمد علي,القاهرة مدينة كبيرة", "iso-8859-8": "שלום עולם,תל אביב"}.get(encoding, "Быть или не быть,Санкт Петербург щука")
    path = put(tmp_path, "a.csv", "a,b\n" + f"{words}\n" * 30, encoding)
    problem = refused(path).problems[0]
    assert problem.code == "data.encoding" and "not recognised" in problem.what and "iconv" in problem.fix


def test_unknown_encoding_is_refused_not_guessed(tmp_path):
    assert refused(put(tmp_path, "a.csv", "имя,город\nИван,Москва\nПётр,Казань\n", "cp1251")).problems[0].code == "data.encoding"


def test_one_broken_byte_in_utf8_is_damage_at_its_line(tmp_path):
    problem = refused(put(tmp_path, "a.csv", "a,b\n中文,é\n文字,".encode() + b"\xff\n")).problems[0]
    assert problem.code == "data.encoding" and problem.where == "a.csv: line 3"


def test_late_legacy_bytes_are_found(tmp_path):
    text = "n,name\n" + "1,plain words here\n" * 300_000 + "2,Málaga\n"
    loaded = load(put(tmp_path, "a.csv", text, "latin-1"))
    assert loaded.table["name"][-1].as_py() == "Málaga" and loaded.table.num_rows == 300_001


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path, limit, separator):
    text = f'a{separator}b\n1{separator}"x{separator}, y; z"\n2{separator}w\n'
    loaded = load(put(tmp_path, "a.txt", text), limit=limit)
    assert loaded.table.to_pydict() == {"a": [1, 2], "b": [f"x{separator}, y; z", "w"]}


def test_one_column_may_hold_any_separator(tmp_path, limit):
    loaded = load(put(tmp_path, "a.csv", "text\nhello, world\na; b\n\nlast\n\n\n"), limit=limit)
    assert loaded.table["text"].to_pylist() == ["hello, world", "a; b", None, "last"]


def test_excel_says_its_separator(tmp_path):
    assert load(put(tmp_path, "a.csv", "sep=;\r\na;b\r\n1,5;2\r\n")).table.to_pydict() == {"a": [1.5], "b": [2]}


def test_decimal_commas_and_thousands(tmp_path, limit):
    loaded = load(put(tmp_path, "a.csv", "a;b;c;d\n1,5;1.234,5;1.000;x\n-2,25;7;2.345.678;1,5 kg\n"), limit=limit)
    assert loaded.table.to_pydict() == {"a": [1.5, -2.25], "b": [1234.5, 7.0], "c": [1000.0, 2345678.0], "d": ["x", "1,5 kg"]}
    assert told(loaded, "decimal comma")
    loaded = load(put(tmp_path, "b.csv", 'a,b\n"1,234.5",0.5\n"12",1.25\n'), limit=limit)
    assert loaded.table.to_pydict() == {"a": [1234.5, 12.0], "b": [0.5, 1.25]} and told(loaded, "between thousands: a")


def test_a_number_that_could_mean_either_is_named(tmp_path, limit):
    loaded = load(put(tmp_path, "a.csv", 'a,b\n"1,234",x\n"5,678",y\n'), limit=limit)
    assert loaded.table["a"].to_pylist() == [1234.0, 5678.0] and told(loaded, "could be read either way")


def test_numbers_as_text(tmp_path, limit):
    text = "a,b,zip,long\n 12 ,12 kg,00123,12345678901234567890\n13 ,13 kg,10115,1\n"
    loaded = load(put(tmp_path, "a.csv", text), limit=limit)
    assert loaded.table["a"].to_pylist() == [12, 13] and loaded.table["b"].to_pylist() == ["12 kg", "13 kg"]
    assert loaded.table["zip"].to_pylist() == ["00123", "10115"] and loaded.table["long"].to_pylist() == ["12345678901234567890", "1"]
    assert told(loaded, "zip (codes with leading zeros)", "long (digits too long")


def test_missing_marks(tmp_path, limit):
    marks = ["", "NA", "N/A", "NaN", "null", "None", "?", "-"]
    text = "n,flag,word,only\n" + "".join(f"{m},{m},{m},{m}\n" for m in marks) + "1.5,true,yes,\n2,False,no,?\n"
    loaded = load(put(tmp_path, "a.csv", text), limit=limit)
    assert loaded.table["n"].to_pylist() == [None] * 8 + [1.5, 2.0]
    assert loaded.table["flag"].to_pylist() == [None] * 8 + [True, False]
    assert loaded.table["word"].to_pylist() == [None, *marks[1:], "yes", "no"]  # in words, "None" and "NA" may be meant
    assert loaded.table["only"].null_count == 10
    assert told(loaded, "read as missing: n (1 'NA'", "kept as words in text columns", "empty cells: n (1); flag (1); word (1); only (2)")


def test_types(tmp_path, limit):
    text = "day,at,flag,big,whole,e\n2020-01-31,2020-01-31 10:00:00,true,9007199254740993,1,1e-5\n?,2020-02-01T11:30:00,false,-1,2,inf\n"
    table = load(put(tmp_path, "a.csv", text), limit=limit).table
    assert [str(t) for t in table.schema.types] == ["date32[day]", "timestamp[s]", "bool", "int64", "int64", "double"]
    assert table["big"].to_pylist() == [9007199254740993, -1]


def test_a_late_word_makes_a_text_column_and_loses_nothing(tmp_path, limit):
    text = "a,b\n" + "".join(f"{i},{i}.50\n" for i in range(200_000)) + "word,1\n"
    loaded = load(put(tmp_path, "a.csv", text), limit=limit)
    a = loaded.table["a"]
    assert pa.types.is_string(a.type) and a[199_999].as_py() == "199999" and a[-1].as_py() == "word"
    assert loaded.table["b"].type == pa.float64()


def test_quotes_and_line_breaks(tmp_path, limit):
    text = 'a,b\n1,"two\nlines, and a ""quote"""\n\n2,"x"\n3,5" wide\n4,6" wide\n'
    loaded = load(put(tmp_path, "a.csv", text), limit=limit)
    assert loaded.table.to_pydict() == {"a": [1, 2, 3, 4], "b": ['two\nlines, and a "quote"', "x", '5" wide', '6" wide']}
    assert told(loaded, "1 line breaks lie inside quoted cells", "1 blank lines")


def test_quotes_that_do_not_pair_do_not_swallow_rows(tmp_path, limit):
    rows = [["1", '"Hello'], ["2", "plain"], ["3", '"Bye'], ["4", "end"]]
    loaded = load(put(tmp_path, "a.tsv", "id\tsaid\n" + "".join("\t".join(r) + "\n" for r in rows)), limit=limit)
    assert loaded.table["said"].to_pylist() == [r[1] for r in rows] and told(loaded, "taken literally")


def test_open_quote_means_the_same_everywhere():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        data = b"".join(rng.choice(np.array([b'"', b'"', b",", b"\n", b"x"], object), rng.integers(1, 12)).tolist())
        last = list(records(data, 0, ",", True))[-1]
        assert (open_quote(data, 0, len(data), ",") is None) == last.closed, data


def test_open_quote_is_refused(tmp_path, limit):
    problem = refused(put(tmp_path, "a.csv", 'a,b\n1,"x, y"\n2,"never closed, more\n3,4\n'), limit=limit).problems[0]
    assert problem.code in ("data.quote", "data.ragged") and problem.where == "a.csv: line 3"


def test_ragged_rows_are_refused_with_their_lines(tmp_path, limit):
    text = 'a,b\n1,2\n"x\ny",3\n4\n5,6,7\n' + "8,9\n" * 10 + "1,2,3\n" * 7
    problem = refused(put(tmp_path, "a.csv", text), limit=limit).problems[0]
    assert problem.code == "data.ragged" and problem.where == "a.csv: line 5"
    assert problem.what.startswith("9 rows") and "5 (1), 6 (3), 17 (3), 18 (3), 19 (3) and 4 more" in problem.what


def test_a_header_one_short_says_so(tmp_path):
    assert "row names" in refused(put(tmp_path, "a.csv", "a,b\n1,2,3\n4,5,6\n")).problems[0].fix


def test_names_are_made_unique_and_told(tmp_path, limit):
    loaded = load(put(tmp_path, "a.csv", "a,a,,pm2.5, b c ,😀,a_2\n1,2,3,4,5,6,7\n"), limit=limit)
    assert loaded.table.column_names == ["a", "a_3", "column_3", "pm2.5", "b c", "😀", "a_2"]
    assert told(loaded, "'a' -> 'a_3'")


def test_line_ends(tmp_path, limit):
    for i, end in enumerate(["\n", "\r\n", "\r"]):
        assert load(put(tmp_path, f"{i}.csv", f"a,b{end}1,x{end}2,y"), limit=limit).table.to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


def test_ten_thousand_columns_and_a_huge_cell(tmp_path, limit):
    n = 10_000 if limit == SMALL else 500
    text = ",".join(f"c{i}" for i in range(n)) + "\n" + ",".join(["1"] * n) + "\n" + ",".join(["2.5"] * (n - 1)) + ",\n"
    table = load(put(tmp_path, "wide.csv", text), limit=limit).table
    assert table.num_columns == n and table[f"c{n - 1}"].to_pylist() == [1, None] and table["c0"].to_pylist() == [1.0, 2.5]
    table = load(put(tmp_path, "cell.csv", "a,b\n1," + "x" * 5_000_000 + "\n2,y\n"), limit=limit).table
    assert len(table["b"][0].as_py()) == 5_000_000 and table.num_rows == 2


@pytest.mark.parametrize(
    "name, content, code",
    [
        ("empty.csv", b"", "data.empty"),
        ("blank.csv", b" \n\n \t\n", "data.empty"),
        ("header.csv", b"a,b,c\n", "data.no_rows"),
        ("header2.csv", b"a,b,c", "data.no_rows"),
        ("zip.csv", b"PK\x03\x04\x14\x00\x00\x00", "data.binary"),
        ("png.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "data.binary"),
        ("exe.csv", b"MZ\x90\x00\x03\x00\x00\x00", "data.binary"),
        ("pickle.csv", b"\x80\x04\x95\x10\x00\x00\x00", "data.binary"),
        ("page.csv", b"<!DOCTYPE html><html>", "data.binary"),
        ("noise.csv", bytes(range(256)) * 50, "data.binary"),
        ("nul.csv", b"a,b\n1,x\n2,y\x00z\n", "data.nul"),
        ("cut.parquet", b"PAR1" + b"\x00" * 40, "data.corrupt"),
        ("not.parquet", b"a,b\n1,2\n", "data.corrupt"),
        ("cut.arrow", b"ARROW1\x00\x00" + b"\xff" * 40, "data.corrupt"),
        ("a.xlsx", b"PK\x03\x04\x14\x00\x06\x00", "data.binary"),
    ],
)
def test_hostile_files(tmp_path, limit, name, content, code):
    assert refused(put(tmp_path, name, content), limit=limit).problems[0].code == code


def test_one_row(tmp_path, limit):
    assert load(put(tmp_path, "a.csv", "a,b\n1,x"), limit=limit).table.to_pydict() == {"a": [1], "b": ["x"]}


def test_where_says_file_and_line(tmp_path):
    assert refused(put(tmp_path, "nul.csv", b"a,b\n1,x\n2,y\x00z\n")).problems[0].where == "nul.csv: line 3"


WORDS = {"utf-8": "añ中, ;|\t\"'\n😀x1", "utf-16": "añ中, ;|\t\"'\n😀x1", "gbk": '的一是在了,;|\t" x1\n', "cp1252": 'aeiou éü, ;|\t"x1\n'}


@st.composite
def tables(draw):
    """A small table and how to write it."""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gbk", "cp1252"]))
    alphabet = WORDS[{"utf-8-sig": "utf-8", "utf-16-le": "utf-16"}.get(encoding, encoding)]
    rows = draw(st.integers(1, 6))
    word = st.text(alphabet, max_size=8).map(
        lambda s: "w" + s + "n"
    )  # words that begin and end as words: cells are not trimmed, nor taken for numbers
    kinds = {
        "number": st.one_of(st.none(), st.integers(-(10**6), 10**6).map(lambda n: n / 4)),
        "whole": st.one_of(st.none(), st.integers(-(10**12), 10**12)),
        "word": st.one_of(st.none(), word),
        "flag": st.booleans(),
    }
    chosen = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=5))
    mark = " 列" if encoding == "gbk" else ""  # one character alone may be the same bytes as another in UTF-8
    columns = {f"{kind} {i}{mark}": draw(st.lists(kinds[kind], min_size=rows, max_size=rows)) for i, kind in enumerate(chosen)}
    for name, values in columns.items():
        if name.startswith("number"):
            values[0] = 0.5  # or nothing tells 1,250 from 1250
        if name.startswith("whole"):
            values[0] = 7
    return encoding, draw(st.sampled_from(",;\t|")), draw(st.sampled_from(".,")), columns


def written(separator: str, mark: str, columns: dict) -> str:
    def cell(value):
        if value is None:
            return ""
        return str(value).replace(".", mark) if isinstance(value, float) else str(value)

    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(v) for v in row] for row in zip(*columns.values(), strict=True))
    return out.getvalue()


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables(), st.sampled_from([SMALL, LARGE]))
def test_what_was_written_is_read(tmp_path, made, limit):
    encoding, separator, mark, columns = made
    path = put(tmp_path, "a.csv", written(separator, mark, columns), encoding)
    assert load(path, limit=limit).table.to_pydict() == columns


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200),
    st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow", "a"]),
    st.sampled_from([b"", b"a,b\n1,2\n", b"[{", b'{"a":1}\n']),
)
def test_any_bytes_are_read_or_refused_alike_at_every_size(tmp_path, noise, name, start):
    path, results = put(tmp_path, name, start + noise), []
    for limit in (SMALL, LARGE):
        try:
            results.append(load(path, limit=limit).table)
        except Refusal as e:
            results.append(e.problems[0].code)
    assert results[0] == results[1] or str(results[0]) == str(results[1])


# --- JSON ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["lines", "array"])
def test_json(tmp_path, limit, form):
    rows = [
        {"a": 1, "b": "12", "c": [1, 2.5], "中": "文", "deep": {"x": [1]}, "mix": 1, "t": True},
        {"a": 2.5, "extra": "y", "c": [], "mix": "one", "deep": None, "t": None},
    ]
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) if form == "lines" else json.dumps(rows, indent=1)
    loaded = load(put(tmp_path, "a.json", text), limit=limit)
    assert loaded.table.to_pydict() == {
        "a": [1.0, 2.5], "b": ["12", None], "c": [[1.0, 2.5], []], "中": ["文", None], "deep": ['{"x": [1]}', None], "mix": ["1", "one"],
        "t": [True, None], "extra": [None, "y"],
    }  # fmt: skip
    assert told(loaded, "not every object has", "'extra'", "kept as JSON text: 'deep', 'mix'")


def test_json_types_are_judged_over_all_rows(tmp_path, limit):
    lines = [json.dumps({"a": i, "b": None}) for i in range(25_000)] + ['{"a": "late", "b": 1}']
    table = load(put(tmp_path, "a.jsonl", "\n".join(lines)), limit=limit).table
    assert table["a"][0].as_py() == "0" and table["a"][-1].as_py() == "late" and table["b"][-1].as_py() == 1


@pytest.mark.parametrize(
    "name, text, where",
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": }\n', "a.jsonl: line 3, column 7"),
        ("a.jsonl", '{"a": 1}\n[1, 2]\n', "a.jsonl: line 2"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', "a.jsonl: line 1"),
        ("a.jsonl", '{"a": ' + "[" * 200_000 + "\n", "a.jsonl: line 1"),
        ("a.jsonl", '{"a": 1}\n{"a": "\\ud800"}\n', "a.jsonl: line 2"),
        ("a.json", '[{"a": 1},\n {"a": 2]', "a.json: line 2, column 9"),
        ("a.json", '[{"a": 1},\n {"a": 2}', "a.json: line 2"),
        ("a.json", '[{"a": 1}\n, 5]', "a.json: line 2"),
        ("a.json", '[{"a": 1}] x', "a.json: line 1"),
        ("a.json", '[{"a": ' + "[" * 200_000, "a.json: line 1"),
    ],
)
def test_broken_json_names_its_line(tmp_path, limit, name, text, where):
    problem = refused(put(tmp_path, name, text), limit=limit).problems[0]
    assert problem.code == "data.json" and problem.where.startswith(where)


def test_json_with_names_for_keys_is_refused(tmp_path):
    text = "".join(f'{{"key {i}": {i}}}\n' for i in range(3000))
    assert refused(put(tmp_path, "a.jsonl", text)).problems[0].code == "data.columns"


def test_json_numbers_are_not_rounded(tmp_path, limit):
    text = f'{{"a": {2**60 + 1}, "b": {2**70}, "c": true}}\n{{"a": 0.5, "b": 1, "c": 1}}\n{{"deep": {"[" * 500}{"]" * 500}}}'
    table = load(put(tmp_path, "a.jsonl", text), limit=limit).table
    assert table["a"][0].as_py() == str(2**60 + 1) and table["b"][0].as_py() == str(2**70) and table["c"].to_pylist()[:2] == ["true", "1"]
    assert table["deep"][2].as_py() == "[" * 500 + "]" * 500


def test_an_array_larger_than_a_window(tmp_path):
    rows = [{"i": i, "text": "中" * 200_000} for i in range(30)]
    table = load(put(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False))).table
    assert table["i"].to_pylist() == list(range(30)) and set(table["text"].to_pylist()) == {"中" * 200_000}


# --- Parquet, Arrow, folders -------------------------------------------------------------------------------------------------------------------


def made() -> pa.Table:
    return pa.table({"x": [1, 2, None], "t": ["a", "é", "中"], "k": pa.array(["u", "v", "u"]).dictionary_encode(), "p": [b"1", b"2", None]})


def plain() -> dict:
    return {"x": [1, 2, None], "t": ["a", "é", "中"], "k": ["u", "v", "u"], "p": [b"1", b"2", None]}


@pytest.mark.parametrize("form", ["a.parquet", "a.arrow", "stream.arrow", "lz4.feather", "parquet named.csv"])
def test_columnar(tmp_path, limit, form):
    path = tmp_path / form
    if "parquet" in form:
        pq.write_table(made(), path)
    elif form == "lz4.feather":
        pa.feather.write_feather(made(), str(path), compression="lz4")
    else:
        with (pa.ipc.new_stream if "stream" in form else pa.ipc.new_file)(str(path), made().schema) as writer:
            writer.write_table(made())
    loaded = load(str(path), limit=limit)
    assert loaded.table.to_pydict() == plain() and loaded.table["k"].type == pa.string()


def test_truncated_columnar_is_refused(tmp_path, limit):
    pq.write_table(made(), tmp_path / "a.parquet")
    pa.feather.write_feather(made(), str(tmp_path / "a.feather"))
    for name in ("a.parquet", "a.feather"):
        whole = (tmp_path / name).read_bytes()
        for part in (len(whole) // 3, len(whole) - 3):
            problem = refused(put(tmp_path, f"cut.{name}", whole[:part]), limit=limit).problems[0]
            assert problem.code == "data.corrupt" and problem.where == f"cut.{name}"


def test_arrow_offsets_that_point_anywhere_are_refused(tmp_path, limit):
    sink = io.BytesIO()
    table = pa.table({"t": ["abcdefgh", "ijklmnop"]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    offsets = np.array([0, 8, 16], np.int32).tobytes()
    assert sink.getvalue().count(offsets) == 1
    bad = sink.getvalue().replace(offsets, np.array([0, 8, 2**30], np.int32).tobytes())
    assert refused(put(tmp_path, "a.arrow", bad), limit=limit).problems[0].code == "data.corrupt"


def test_plain_types(tmp_path):
    from decimal import Decimal

    table = pa.table(
        {
            "d": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
            "n": pa.array([Decimal(12), None], pa.decimal128(38, 0)),
            "f": [float("nan"), 1.0],
            "v": pa.array(["a", None], pa.string_view()),
            "l": pa.array([[1, 2], None], pa.list_(pa.int64(), 2)),
        }
    )
    loaded = load(table)
    assert loaded.table.to_pydict() == {"d": [1.5, None], "n": [12, None], "f": [None, 1.0], "v": ["a", None], "l": [[1, 2], None]}
    assert told(loaded, "NaN read as missing: f (1)")


def test_pandas_index_column_is_left_out(tmp_path):
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"a": [1, 2, 3]}).iloc[[2, 0, 1]].to_parquet(tmp_path / "a.parquet")
    loaded = load(str(tmp_path / "a.parquet"))
    assert loaded.table.to_pydict() == {"a": [3, 1, 2]} and told(loaded, "index was left out")


def test_columns_that_only_folders_name(tmp_path):
    table = pa.table({"x": range(8), "year": [2020, 2021] * 4, "city": ["北京", "a/b", None, "c"] * 2})
    pq.write_to_dataset(table, tmp_path / "parts", partition_cols=["year", "city"])
    loaded = load("parts", root=tmp_path)
    assert sorted(loaded.table.to_pylist(), key=lambda r: r["x"]) == table.select(["x", "year", "city"]).to_pylist()
    assert told(loaded, "'year' is read from the names of folders", "'city' is read")


def test_several_files_are_one_table(tmp_path, limit):
    a, b = put(tmp_path, "a.csv", "x,y\n1,2\n"), put(tmp_path, "b.csv", "y;x\n3,5;z\n")
    loaded = load([a, b], limit=limit)
    assert loaded.table.to_pydict() == {"x": ["1", "z"], "y": [2.0, 3.5]} and told(loaded, "'x' differs in type")
    assert load(str(tmp_path / "*.csv"), limit=limit).table.num_rows == 2
    assert load(str(tmp_path), limit=limit).table.num_rows == 2


def test_columns_that_differ_are_named(tmp_path):
    a, b = put(tmp_path, "train.csv", "x,y\n1,2\n"), put(tmp_path, "test.csv", "x,z\n1,2\n")
    what = refused([a, b]).problems[0].what
    assert "lacks 'y'" in what and "has also 'z'" in what and "test.csv" in what


def test_splits_by_name_of_file_and_folder(tmp_path):
    put(tmp_path, "d/train.csv", "x\n1\n2\n")
    put(tmp_path, "d/val.csv", "x\n3\n")
    put(tmp_path, "d/README.md", "hello")
    loaded = load("d", root=tmp_path)
    assert loaded.split == "split" and sorted(zip(*loaded.table.to_pydict().values(), strict=True)) == [(1, "train"), (2, "train"), (3, "validation")]
    assert told(loaded, "1 other files")
    for split in ("train", "test"):
        (tmp_path / "e" / split).mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), tmp_path / "e" / split / "0.parquet")
    loaded = load("e", root=tmp_path)
    assert loaded.table.to_pydict() == {"x": [1, 1], "split": ["test", "train"]}


def test_a_split_column_of_its_own(tmp_path):
    assert load({"x": [1, 2], "split": ["train", "test"]}).split == "split"
    assert load({"x": [1, 2], "split": ["left", "right"]}).split is None


def test_large_tables_are_mapped_and_found_again(tmp_path):
    path = put(tmp_path, "a.csv", "a,b\n" + "1.5,word\n" * 50_000)
    first = load(path, limit=1000)
    files = sorted((tmp_path / "home" / "cache").iterdir())
    assert [f.suffix for f in files] == [".arrow", ".json"] and not list(tmp_path.rglob("*.part"))
    stamp = files[0].stat().st_mtime_ns
    again = load(path, limit=1000)
    assert again.table == first.table and again.notes == first.notes and files[0].stat().st_mtime_ns == stamp
    before = pa.total_allocated_bytes()
    held = load(path, limit=1000).table
    assert pa.total_allocated_bytes() - before < held.nbytes // 10  # on disk, not in memory
    put(tmp_path, "a.csv", "a,b\n" + "2.5,other\n" * 50_000)
    assert load(path, limit=1000).table["a"][0].as_py() == 2.5
    assert len(list((tmp_path / "home" / "cache").iterdir())) == 2  # the older state is gone


def test_a_damaged_cache_is_made_anew(tmp_path):
    path = put(tmp_path, "a.csv", "a,b\n" + "1.5,word\n" * 5_000)
    whole = load(path, limit=1000).table.to_pydict()
    (kept,) = (tmp_path / "home" / "cache").glob("*.arrow")
    for damage in (b"", kept.read_bytes()[:5000], b"nonsense"):
        kept.write_bytes(damage)
        assert load(path, limit=1000).table.to_pydict() == whole


def test_a_disk_that_fills_stops_and_leaves_nothing_behind(tmp_path):
    path = put(tmp_path, "a.csv", "a,b\n" + "1.5,word\n" * 50_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Stopped) as caught:
            load(path, limit=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.problems[0].code == "data.disk_full" and not list((tmp_path / "home" / "cache").iterdir())
    assert load(path, limit=1000).table.num_rows == 50_000


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_memory_that_runs_out_is_no_damage_of_the_file(tmp_path, monkeypatch, name):
    table = pa.table({"x": [1, 2]})
    pq.write_table(table, tmp_path / name) if name == "a.parquet" else pyarrow.feather.write_feather(table, tmp_path / name, "uncompressed")

    def full(*args):
        raise pa.ArrowMemoryError("malloc of size 32760640 failed")

    monkeypatch.setattr("modelwright.data.sources.columnar._checked", full)
    with pytest.raises(Stopped) as e:
        load(str(tmp_path / name), limit=1)
    assert [p.code for p in e.value.problems] == ["data.memory"]


def test_dictionaries_that_change_between_batches(tmp_path):
    schema = pa.schema([("k", pa.dictionary(pa.int8(), pa.string()))])
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for words in (["a", "b"] * 3000, ["c", "a"] * 3000):
            writer.write_batch(pa.record_batch([pa.array(words).dictionary_encode().cast(schema.field(0).type)], schema=schema))
    for limit in (SMALL, LARGE):
        table = load(str(tmp_path / "a.arrow"), limit=limit).table
        assert table["k"].to_pylist() == ["a", "b"] * 3000 + ["c", "a"] * 3000


# --- the world -----------------------------------------------------------------------------------------------------------------------------------


def test_paths_that_are_no_files(tmp_path):
    put(tmp_path, "patients.csv", "a\n1\n")
    problem = refused(str(tmp_path / "patient.csv")).problems[0]
    assert problem.code == "data.missing_file" and "patients.csv" in problem.fix
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    assert "circle" in refused(str(tmp_path / "loop")).problems[0].what
    os.symlink(tmp_path / "gone", tmp_path / "dangling.csv")
    assert "link to nothing" in refused(str(tmp_path / "dangling.csv")).problems[0].what
    os.mkfifo(tmp_path / "pipe.csv")
    assert refused(str(tmp_path / "pipe.csv")).problems[0].code == "data.not_a_file"  # and does not hang
    for strange in ("a\0b.csv", "x" * 5000, "https://example.org/a.csv", "s3://bucket/a", "", 5, object(), [], {}, {"a": "b.csv"}, None):
        refused(strange, root=tmp_path)


def test_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(str(tmp_path / "empty")).problems[0].code == "data.empty"
    put(tmp_path, "words/a.docx", "x")
    assert "a.docx" in refused(str(tmp_path / "words")).problems[0].why
    put(tmp_path, "loop/a.csv", "x\n1\n")
    os.symlink(tmp_path / "loop", tmp_path / "loop" / "again")
    loaded = load(str(tmp_path / "loop"))
    assert loaded.table.num_rows == 1 and told(loaded, "1 linked folders were not entered")
    (tmp_path / "folder.csv").mkdir()
    put(tmp_path, "folder.csv/b.csv", "x\n2\n")
    assert load(str(tmp_path / "folder.csv")).table.to_pydict() == {"x": [2]}


def test_permission_denied(tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), "a.csv", "a\n1\n")
        os.chmod(folder, 0o755)
        os.chmod(path, 0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may read anything
        try:
            assert refused(path).problems[0].code == "data.permission"
        finally:
            if root:
                os.seteuid(0)


def test_path_with_spaces_and_relative_to_root(tmp_path):
    put(tmp_path, "my data/päti ents.csv", "a\n1\n")
    assert load("my data/päti ents.csv", root=tmp_path).table.num_rows == 1
    assert load("../my data/päti ents.csv", root=tmp_path / "my data").table.num_rows == 1  # the user's own path may climb


def test_resolve_keeps_paths_below_the_root(tmp_path):
    put(tmp_path, "root/in/a.png", b"x")
    put(tmp_path, "secret.png", b"x")
    root = tmp_path / "root"
    os.symlink(tmp_path / "secret.png", root / "out.png")
    os.symlink(tmp_path, root / "up")
    os.symlink(root / "in", root / "inside")
    for good in ("in/a.png", "./in/../in/a.png", "in\\a.png", "inside/a.png", str(root / "in" / "a.png")):
        assert resolve(good, root) == (root / "in" / "a.png").resolve()
    bad = ["../secret.png", "in/../../secret.png", "/etc/passwd", "out.png", "up/secret.png", "..\\secret.png", "", " ", "a\0b", "C:\\x.png"]
    bad += ["http://x.org/a.png", "file:///etc/passwd", "data:image/png;base64,AA", "s3://b/a", str(tmp_path / "root2" / "a.png")]
    for path in bad:
        with pytest.raises(Refusal) as caught:
            resolve(path, root)
        assert caught.value.problems[0].code == "data.outside"


def test_home(tmp_path, monkeypatch):
    assert home.home() == tmp_path / "home" and home.cache().is_dir()
    monkeypatch.delenv("MODELWRIGHT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert home.home().is_relative_to(tmp_path) and home.home().name == "modelwright"
    monkeypatch.setenv("MODELWRIGHT_HOME", put(tmp_path, "file", "x") + "/sub")
    with pytest.raises(Refusal):
        home.home()


# --- query ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) AS c FROM r", "SELECT a.i FROM data a, data b, data c, data d, data e"],
)
def test_a_query_without_an_end_is_ended(query, monkeypatch):
    pytest.importorskip("duckdb")
    monkeypatch.setattr("modelwright.data.sources.query.SECONDS", 0.5)
    with pytest.raises(Refusal, match="no answer within"):
        load(pa.table({"i": range(200)}), query=query)


def test_query_one_and_join(tmp_path):
    people = put(tmp_path, "people.csv", "id;name;weight\n1;Ann;60,5\n2;Bo;80,25\n3;Cy;\n")
    pq.write_table(pa.table({"person": [1, 1, 2], "fee": [10, 20, 5]}), tmp_path / "visits.parquet")
    loaded = load(people, query="SELECT name, weight FROM data WHERE weight > 70")
    assert loaded.table.to_pydict() == {"name": ["Bo"], "weight": [80.25]} and told(loaded, "decimal comma", "1 rows, 2 columns")
    sources = {"people": people, "visits": str(tmp_path / "visits.parquet")}
    query = "SELECT name, sum(fee) AS fees FROM people JOIN visits ON id = person GROUP BY name ORDER BY name"
    for limit in (SMALL, LARGE):
        assert load(sources, query=query, limit=limit).table.to_pydict() == {"name": ["Ann", "Bo"], "fees": [30, 5]}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{secret}')", "SELECT * FROM '{secret}'", "SELECT * FROM read_text('{secret}')", "SELECT * FROM glob('/*')",
        "COPY data TO '{out}'", "ATTACH '{out}' AS x", "INSTALL httpfs", "LOAD httpfs", "SELECT 1; DROP TABLE data", "CREATE TABLE t AS SELECT 1",
        "SET threads = 4", "PRAGMA version", "SELECT * FROM secret_table", "SELECT nope FROM data", "SELEC", "", "SELECT * FROM data WHERE",
        "EXPORT DATABASE '{out}'", "SELECT * FROM data INTO '{out}'",
    ],
)  # fmt: skip
def test_query_is_locked_down(tmp_path, query):
    secret_table = pa.table({"x": [1]})  # a variable that DuckDB must not find
    secret, out = put(tmp_path, "secret.csv", "password\nhunter2\n"), tmp_path / "out"
    problem = refused(pa.table({"x": [1, 2]}), query=query.format(secret=secret, out=out)).problems[0]
    assert problem.code == "data.query" and problem.where == "data.query" and "hunter2" not in str(problem) and not out.exists()
    assert len(problem.what) <= 300 and "'data'" in problem.fix or "SELECT" in problem.fix
    assert secret_table.num_rows == 1


def test_query_without_rows_or_source_is_refused(tmp_path):
    assert refused(pa.table({"x": [1]}), query="SELECT * FROM data WHERE x > 1").problems[0].code == "data.no_rows"
    for nothing in (None, {}, {"a": [1]}):
        assert refused(nothing, query="SELECT * FROM 'a.csv'").problems[0].code in ("data.source", "data.query")


def test_query_is_repeatable():
    table = pa.table({"x": list(range(2000)), "g": [i % 97 for i in range(2000)]})
    query = "SELECT g, sum(x) AS s, random() AS r FROM data GROUP BY g"
    assert load(table, query=query).table == load(table, query=query).table


# --- pictures, hub, built-ins, Python ------------------------------------------------------------------------------------------------------------


def test_pictures_by_class(tmp_path):
    for name in ("dog/2.png", "dog/1.JPG", "cat/deep/3.webp", ".hidden/x.png", "cat/notes.txt", "狗/é.png"):
        put(tmp_path, f"p/{name}", b"x")
    loaded = load("p", root=tmp_path)
    assert loaded.table.to_pydict() == {"image": ["cat/deep/3.webp", "dog/1.JPG", "dog/2.png", "狗/é.png"], "label": ["cat", "dog", "dog", "狗"]}
    assert loaded.split is None and told(loaded, "4 pictures, 3 classes", "1 files that are no pictures")
    assert resolve(loaded.table["image"][3].as_py(), loaded.root).read_bytes() == b"x"


def test_pictures_with_splits_and_without_classes(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "val/a/3.png"):
        put(tmp_path, f"s/{name}", b"x")
    loaded = load("s", root=tmp_path)
    assert loaded.split == "split" and loaded.table["split"].to_pylist() == ["train", "train", "validation"]
    assert loaded.table["label"].to_pylist() == ["a", "b", "a"]
    put(tmp_path, "u/1.png", b"x")
    assert load("u", root=tmp_path).table.to_pydict() == {"image": ["1.png"]}
    put(tmp_path, "u/cat/2.png", b"x")
    assert refused("u", root=tmp_path).problems[0].code == "data.layout"


def test_pictures_that_link_out_are_refused(tmp_path):
    put(tmp_path, "p/a/1.png", b"x")
    os.symlink(put(tmp_path, "secret.png", b"x"), tmp_path / "p" / "a" / "2.png")
    assert refused("p", root=tmp_path).problems[0].code == "data.outside"


def test_hub_folder_stands_in(tmp_path, monkeypatch):
    (tmp_path / "hub" / "adult").mkdir(parents=True)
    pq.write_table(pa.table({"x": [1], "split": ["train"]}), tmp_path / "hub" / "adult" / "data.parquet")
    pq.write_table(pa.table({"y": [2]}), tmp_path / "hub" / "adult" / "other.parquet")
    monkeypatch.setenv("MODELWRIGHT_DATA", str(tmp_path / "hub"))
    assert load("hub://adult").table["x"].to_pylist() == [1] and load("hub://adult").origin == "hub://adult" and load("hub://adult").split == "split"
    assert load("hub://adult/other").table.to_pydict() == {"y": [2]}
    for bad in ("hub://../x", "hub://", "hub://a/b/c/d", "hub://a b", "hub:///etc/passwd"):
        assert refused(bad).problems[0].code == "data.source"


def test_hub_without_the_package_or_the_network(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refused("hub://no/such").problems[0].code == "extra.missing"


@pytest.mark.slow
def test_hub_offline():
    pytest.importorskip("datasets")
    code = "from modelwright.data.sources import load\nfrom modelwright.errors import Refusal\n"
    code += "try: load('hub://no-such-owner/no-such-set')\nexcept Refusal as e: print(e.problems[0].code)"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(home.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env, timeout=120)
    assert done.stdout.strip() == "data.hub", done.stderr[-500:]


def saved(folder: Path, table: pa.Table, names: list[str]) -> None:
    """As `Dataset.save_to_disk` writes it."""
    features = {"info": {"features": {"text": {"_type": "Value", "dtype": "string"}, "label": {"_type": "ClassLabel", "names": names}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    folder.mkdir(parents=True)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")


def test_saved_hugging_face_folder(tmp_path, limit):
    for split, rows in (("train", [0, 1, -1]), ("test", [1])):
        saved(tmp_path / "hf" / split, pa.table({"text": ["x"] * len(rows), "label": rows}), ["neg", "pos"])
    (tmp_path / "hf" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    loaded = load("hf", root=tmp_path, limit=limit)
    assert loaded.split == "split" and loaded.table["split"].to_pylist() == ["train"] * 3 + ["test"]
    assert loaded.table["label"].to_pylist() == ["neg", "pos", None, "pos"]
    assert load("hf/train", root=tmp_path, limit=limit).table.num_rows == 3
    (tmp_path / "hf" / "train" / "state.json").write_text('{"_data_files": [{"filename": "../../secret.arrow"}]}')
    assert refused("hf", root=tmp_path).problems[0].code == "data.outside"
    (tmp_path / "hf" / "dataset_dict.json").write_text("[" * 100_000)
    assert refused("hf", root=tmp_path).problems[0].code == "data.corrupt"


@pytest.mark.slow
def test_saved_folder_by_datasets_itself(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"t": ["a", "b", "c"], "y": [0, 1, 1]}, features=features)
    datasets.DatasetDict({"train": made.select([2, 0]), "validation": made.select([1])}).save_to_disk(str(tmp_path / "hf"))
    loaded = load(str(tmp_path / "hf"))
    assert loaded.table.to_pydict() == {"t": ["c", "a", "b"], "y": ["yes", "no", "yes"], "split": ["train", "train", "validation"]}


@pytest.mark.parametrize(
    "name, shape, target", [("breast_cancer", (569, 31), "diagnosis"), ("iris", (150, 5), "species"), ("wine", (178, 14), "cultivar"),
    ("digits", (1797, 2), "digit"), ("diabetes", (442, 11), "progression")],
)  # fmt: skip
def test_builtins(name, shape, target):
    from sklearn import datasets

    table = load(f"sklearn://{name}").table
    made = getattr(datasets, f"load_{name}")()
    assert table.shape == shape and table.column_names[-1] == target
    if name == "diabetes":
        assert table[target].to_pylist() == made.target.tolist()
    else:
        assert table[target].to_pylist() == [str(made.target_names[i]) for i in made.target]
    if name == "digits":
        from PIL import Image

        picture = np.asarray(Image.open(io.BytesIO(table["image"][7].as_py())))
        assert picture.dtype == np.uint8 and np.allclose(picture / 255 * 16, made.images[7], atol=0.05)
    else:
        assert np.array_equal(np.column_stack([table[c].to_numpy() for c in table.column_names[:-1]]), made.data)


def test_unknown_builtin():
    assert "'iris'" in refused("sklearn://irsi").problems[0].fix


def test_from_python():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"a": [1.0, math.nan], "b": ["x", None], 3: [True, False], "mix": [1, "one"], "when": pd.to_datetime(["2020-01-01", None])}, index=[5, 6]
    )
    loaded = load(frame)
    assert loaded.table.drop_columns("when").to_pydict() == {"a": [1.0, None], "b": ["x", None], "3": [True, False], "mix": ["1", "one"]}
    assert told(loaded, "index was left out", "'mix' mixes types") and pa.types.is_timestamp(loaded.table["when"].type)
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert load(twice).table.to_pydict() == {"a": [1], "a_2": [2]} and not told(load(twice), "index")
    assert load({"a": [1, 2], "v": np.eye(2), "p": [b"1", None]}).table.to_pydict() == {"a": [1, 2], "v": [[1.0, 0.0], [0.0, 1.0]], "p": [b"1", None]}
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert load({"p": pictures}).table["p"].to_pylist() == pictures.tolist() and load({"p": pictures}).table["p"].type == pa.list_(
        pa.list_(pa.uint8())
    )
    assert load(pd.DataFrame({"a": [1, "x", pd.NA]})).table["a"].to_pylist() == ["1", "x", None]
    assert load(pa.table({"a": [1]})).origin == "pyarrow.Table"
    assert refused({"a": [1], "b": [1, 2]}).problems[0].code == "data.ragged"
    assert refused({"a": [], "b": []}).problems[0].code == "data.no_rows"
    assert refused(frame.iloc[:0]).problems[0].code == "data.no_rows"


def test_spans_times_of_day_and_views():
    import datetime as dt

    words = pa.DictionaryArray.from_arrays(pa.array([0, None, 2], pa.uint32()), pa.array(["a", None, "b"], pa.string_view()))
    table = pa.table({
        "span": pa.array([1500, None, -500], pa.duration("ms")), "clock": pa.array([3600, None, 7200], pa.time32("s")),
        "tags": pa.array([["x", "y"], None, []], pa.list_(pa.string_view())), "class": words,
        "half": pa.array([np.float16(0.5), None, np.float16(2)]), "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
    })  # fmt: skip
    loaded = load(table)
    assert loaded.table.to_pydict() == {
        "span": [1.5, None, -0.5], "clock": ["01:00:00", None, "02:00:00"], "tags": [["x", "y"], None, []], "class": ["a", None, "b"],
        "half": [0.5, None, 2.0], "pair": [[1, 2], None, [3, 4]],
    }  # fmt: skip
    assert told(loaded, "durations read as seconds: 'span'") and loaded.table.schema.field("tags").type == pa.list_(pa.string())
    frame = pytest.importorskip("pandas").DataFrame({"span": [dt.timedelta(days=1), None]})
    assert load(frame).table.to_pydict() == {"span": [86400.0, None]}


def test_text_of_pandas_is_text_like_any_other(tmp_path):
    """With 64-bit offsets, as pandas writes it, text models were neither corrupted nor cut into slices."""
    pq.write_table(pa.table({"t": pa.array(["a b", None], pa.large_string()), "y": pa.array(["n", "p"], pa.large_string())}), tmp_path / "a.parquet")
    for source in (str(tmp_path / "a.parquet"), pq.read_table(tmp_path / "a.parquet")):
        table = load(source).table
        assert table.schema.types == [pa.string(), pa.string()] and table.to_pydict() == {"t": ["a b", None], "y": ["n", "p"]}


@pytest.mark.slow
def test_data_sets_of_hugging_face_from_python():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"t": ["a", "b"], "y": [0, 1]}, features)
    assert load(made.select([1])).table.to_pydict() == {"t": ["b"], "y": ["yes"]} and load(made).origin == "datasets.Dataset"
    both = load(datasets.DatasetDict({"train": made, "test": made.select([0])}))
    assert both.table["split"].to_pylist() == ["train", "train", "test"] and both.split == "split"


def test_nothing_heavy_is_imported():
    code = "import sys, modelwright.data.sources; print([m for m in ('torch', 'duckdb', 'sklearn', 'datasets', 'PIL') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(home.__file__).parents[1])},
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_times_that_no_calendar_holds_are_missing_and_told():
    """PostgreSQL's infinity, as a Parquet file has it, ended in an OverflowError of Python's dates."""
    columns = {
        "day": pa.array([-719_162, 2_932_896, 2_932_897, None], pa.date32()),  # 0001-01-01, 9999-12-31, and the day after
        "time": pa.array([0, 2**62, -(2**62), 1], pa.timestamp("us")),
        "zoned": pa.array([0, 2**60, None, 1], pa.timestamp("s", "Asia/Shanghai")),
        "fine": pa.array([2**62, -(2**62), 0, None], pa.timestamp("ns")),
    }
    loaded = load(pa.table(columns))
    assert [loaded.table[c].null_count for c in columns] == [2, 2, 2, 1] and loaded.table.to_pylist()[0]["time"].year == 1970
    assert "times outside of the years 1 to 9999 read as missing: day (1), time (2), zoned (1)" in loaded.notes
