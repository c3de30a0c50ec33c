"""Names of people: in a text where something introduces them, alone in their cells where most of the column are such.

What introduces a name is a label ("Name: Ann Lee", "姓名：王小明"), a sentence ("my name is", "我叫") or a title beside it ("Dr. Ann Lee", "张伟先生").
A column of names is one whose distinct cells are, by half or more, two or three Chinese characters of which the first is a common family name, or words
with capitals of which, in three of ten cells, one is a common given name. Rules, and few: a name that nothing introduces is not found, nor are names of
other scripts.
"""

from __future__ import annotations

import re

import numpy as np

FAMILY = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严"
)
GIVEN = frozenset("""
james mary john patricia robert jennifer michael linda david elizabeth william barbara richard susan joseph jessica thomas sarah charles karen
christopher lisa daniel nancy matthew betty anthony margaret mark sandra donald ashley steven kimberly paul emily andrew donna joshua michelle kenneth
carol kevin amanda brian george melissa deborah timothy stephanie rebecca sharon laura jeffrey cynthia kathleen amy jacob angela gary anna ann anne
hans peter klaus karl maria josef julia sabine monika ursula jean pierre marie claire luc sophie carlos jose juan ana luis carmen giulia marco luca
mohammed muhammad ahmed ali fatima omar aisha ivan olga sergei natasha wei jing ming yan hiroshi yuki priya raj anil sunita lucy emma olivia noah liam
sophia isabella henry alice arthur helen edward ruth frank diane samuel grace benjamin hannah
""".split())  # noqa: SIM905
NAME = r"[A-Z][a-zà-ÿ]+(?:[-'’][A-Z][a-zà-ÿ]+)?"
HAN = f"[{FAMILY}][\u4e00-\u9fff]{{1,2}}"
WORDS = "任何|许多|高级|高贵|于是|万千|马上|江南|金|白领|成|方便|钱多"  # that begin like a family name
IN_TEXT = re.compile(
    rf"(?:\b(?i:(?:full |first |last |patient |customer |contact )?name)\s?[:=]\s?|\b(?i:my name is|i am called|signed by)\s){NAME}(?:\s(?:[A-Z]\.\s)?{NAME})?"
    rf"|\b(?:Mr|Mrs|Ms|Dr|Prof|Herr|Frau|Mme)\b\.?\s{NAME}\s(?:[A-Z]\.\s)?{NAME}"
    rf"|(?:姓名|名字|联系人|患者|客户)\s?(?:[:：]|叫|是|为)\s?{HAN}|我(?:叫|的名字是){HAN}|(?!{WORDS}){HAN}(?:先生|女士|小姐)"
)
CHINESE, LATIN = re.compile("[\u4e00-\u9fff]{2,4}"), re.compile(rf"{NAME},?(?:\s(?:{NAME}|[A-Z])\.?){{1,3}}")
FEWEST = 10  # distinct cells of a column of names


def found(cells: list[str]) -> np.ndarray:
    """(N,) bool: cells that hold a name."""
    hits = np.array([IN_TEXT.search(c) is not None for c in cells], bool)
    distinct = list(dict.fromkeys(c.strip() for c in cells if c.strip()))
    for is_name, form, least in ((_chinese, CHINESE, 0.5), (_latin, LATIN, 0.3)):
        formed = [c for c in distinct if form.fullmatch(c)]
        if len(formed) >= max(FEWEST, 0.8 * len(distinct)) and sum(map(is_name, formed)) >= least * len(formed):
            hits |= np.array([form.fullmatch(c.strip()) is not None for c in cells], bool)
    return hits


def _chinese(cell: str) -> bool:
    return cell[0] in FAMILY and len(cell) < 4


def _latin(cell: str) -> bool:
    return any(w.strip(",.").lower() in GIVEN for w in cell.split())
