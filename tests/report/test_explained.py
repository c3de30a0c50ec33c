"""The report's section on explanations: what passed is drawn, what failed says why, and nothing in it can break the page."""

import numpy as np

from modelwright.report import page, plots
from modelwright.report.story import Explained, Story

EVIL = "<script>alert(1)</script>"


def test_bars_hold_the_names_and_the_largest_come_first():
    svg = plots.bars({"age": 0.2, "收入": 1.5, EVIL: 0.1, "nothing": float("nan")}, "shap", "mean |attribution|")
    assert svg.startswith("<svg") and "<script" not in svg and svg.index("收入") < svg.index("age") and "nothing" not in svg
    assert plots.bars({}, "shap", "x") is None


def test_heat_is_blue_where_it_speaks_for_the_class_and_orange_against():
    import base64
    import io
    import re

    from PIL import Image

    heat = np.zeros((4, 4))
    heat[0, 0], heat[3, 3] = 2.0, -2.0
    data = re.search(r"base64,([^\"]+)", str(page.overlaid(np.full((1, 4, 4), 0.5), heat)))[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    assert pixels.shape == (112, 112, 3)
    (r, _, b), (r2, _, b2), middle = pixels[5, 5], pixels[-5, -5], pixels[56, 56]
    assert b > r + 100 and r2 > b2 + 100 and np.ptp(middle) <= 1  # grey where nothing speaks


def test_the_section_shows_what_passed_and_says_why_others_are_not():
    told = Explained(
        EVIL,
        shown=["shap"],
        hidden=[{"explainer": "lime", "why": "asked again of nearly the same row, it says something else"}],
        bars={"shap": {"age": 0.5, EVIL: 0.25}},
        pictures=[{"picture": np.zeros((3, 4, 4)), "maps": {"shap": np.ones((4, 4))}, "truth": EVIL, "predicted": "b"}],
        changes=[{"row": 3, "truth": "no", "before": "no", "after": "yes", "cells": {"income": (48, 52), EVIL: (None, EVIL)}}],
    )
    text = page.render(Story("t", explained=[told]))
    assert "<script" not in text and text.count("data:image/png") == 2
    assert "Explanations</h2>" in text and "were 52 in place of 48" in text and "in place of a gap" in text
    assert "<b>lime</b> (asked again of nearly the same row, it says something else)" in text
    assert "Explanations</h2>" not in page.render(Story("t"))
