"""Names that are introduced are found in both scripts, columns of names too; words and places that look like names are not."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks import names, personal


@pytest.mark.parametrize(
    "text",
    [
        "Name: Ann Lee", "patient name = John O'Neill", "hello, my name is Karla", "Dear Dr. Ann Lee, we", "Mrs Maria Garcia-Lopez called",
        "signed by Peter Jones", "姓名：王小明", "患者：李娜，女", "我叫张伟，今年三十岁", "请联系张小红女士", "联系人是刘洋",
    ],
)  # fmt: skip
def test_an_introduced_name_is_found(text):
    assert names.found(["nothing here", text]).tolist() == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "file name: report", "my name is secret", "Dear Sir or Madam", "Dr. pepper is a drink", "the name of the rose", "New York City", "Mr. Robot",
        "许多女士喜欢", "任何先生都可以", "名字是什么", "这位先生", "姓名：", "金牌小姐", "江南的春天",
    ],
)  # fmt: skip
def test_what_only_looks_like_one_is_not(text):
    assert not names.found(["nothing here", text]).any()


def test_columns_of_names_and_of_other_things():
    rng = np.random.default_rng(0)
    family, given = list("王李张刘陈杨欧阿"), list("伟娜敏静丽强磊军洋勇艳杰娟涛明超")
    chinese = [f"{rng.choice(family)}{rng.choice(given)}{rng.choice(given)}" for _ in range(60)]
    english = [f"{rng.choice(['Ann', 'John', 'Mary', 'Zoltan', 'Xenia'])} {rng.choice(['Lee', 'Smith', 'Okafor'])}" for _ in range(60)]
    assert names.found(chinese).mean() == 1 and names.found(english).mean() == 1
    assert names.found(["Braund, Mr. Owen", *english]).all()
    cities = list("北京 上海 广州 深圳 杭州 南京 成都 重庆 武汉 西安 苏州 天津 长沙 青岛 宁波 江苏 马鞍山 石家庄 黄山".split())  # noqa: SIM905
    products = ["Blue Shirt", "Red Hat", "Green Coat", "White Sock", "Black Belt", "Long Scarf", "Warm Glove", "Soft Towel", "Fine Cup", "Old Lamp", "New Bag"]
    assert not names.found(cities).any() and not names.found(products).any() and not names.found(["Ann Lee"] * 50).any()


def test_full_width_and_unseen_characters_hide_nothing():
    cells = pa.chunked_array([["电话１３８１２３４５６７８。", "wri\u200bte to a\u200bnn.lee@example.com", "nothing", None]])
    found = personal.found(cells)
    assert found["telephone"].tolist() == [True, False, False, False] and found["e-mail"].tolist() == [False, True, False, False]
