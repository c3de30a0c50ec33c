"""A private training from elsewhere, by one command: its claim is a limit, its code runs elsewhere, and the figures can be had again."""

import json
import subprocess
import sys

import pytest

from modelwright import task
from modelwright.auditing import claims, reproducing
from modelwright.audits._accounting import epsilon_of
from modelwright.errors import Refusal

CODE = """
import numpy as np

class Trainer:
    n, q, sigma, clip, steps, delta, layers, expected_batch = 500, 0.1, 1.5, 1.0, 30, 1e-4, [10, 20], 50.0

    def restart(self, seed):
        self.rng = np.random.default_rng(seed)

    def sample(self, step):
        print("what it prints tears nothing")
        return np.flatnonzero(self.rng.random(self.n) < self.q)

    def privatize(self, g, step):
        norms = np.linalg.norm(g, axis=1, keepdims=True)
        noise = SCALE * self.sigma * self.clip * self.rng.standard_normal(30)
        return ((g * np.minimum(1, self.clip / np.maximum(norms, 1e-12))).sum(0) + noise) / self.expected_batch

def factory():
    return Trainer()

def nothing():
    return print

SCALE = {scale}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("private")
    epsilon = epsilon_of(((1.5, 0.1, 30),), 1e-4)
    claim = {"epsilon": epsilon, "delta": 1e-4, "accountant": "pld", "neighbours": "add/remove one row"}
    said = {"claim": claim, "rows": 500, "sample_rate": 0.1, "noise_multiplier": 1.5, "clip": 1.0, "steps": 30, "divisor": 50.0}
    (folder / "statement.json").write_text(json.dumps(said))
    for name, scale in (("right.py", "1.0"), ("wrong.py", "0.5")):
        (folder / name).write_text(CODE.replace("{scale}", scale))
    (folder / "task.yaml").write_text('data: rows.csv\ntarget: y\naudit: {require: {privacy.epsilon: "<= 0.5"}}\n')
    return folder


def test_a_claim_that_holds_passes_and_its_figures_come_again(folder, tmp_path):
    done = claims.audit(f"{folder}/right.py:factory", folder / "statement.json", None, tmp_path / "out")
    assert done.decision["verdict"] == "pass"
    assert {"report.html", "card.md", "evidence.json", "audit.json"} <= {p.name for p in (tmp_path / "out").iterdir()}
    again = reproducing.reproduce(tmp_path / "out" / "evidence.json", tmp_path / "again")
    assert again["same"] and again["figures"] == 3
    tight = claims.audit(f"{folder}/right.py:factory", folder / "statement.json", task.load_task(folder / "task.yaml"), tmp_path / "tight")
    assert tight.decision["verdict"] == "fail" and tight.decision["reasons"][0]["code"] == "privacy.above_limit"


def test_a_claim_that_is_refuted_ends_with_status_3_and_the_reason(folder, tmp_path):
    command = [sys.executable, "-m", "modelwright.cli", "audit", "--trainer", f"{folder}/wrong.py:factory"]
    done = subprocess.run([*command, "--statement", f"{folder}/statement.json", "--out", f"{tmp_path}/out"], capture_output=True, text=True)
    assert done.returncode == 3 and "privacy.noise_below" in done.stdout, done.stderr
    (line,) = [e for e in json.loads((tmp_path / "out" / "evidence.json").read_text())["evidence"] if e["metric"] == "privacy.epsilon"]
    assert line["value"] is None and line["verdict"] == "fail" and "standard deviation" in line["details"]["why"]


def test_what_is_no_trainer_or_no_claim_is_refused(folder, tmp_path):
    with pytest.raises(Refusal, match="has no sample"):
        claims.audit(f"{folder}/right.py:nothing", folder / "statement.json", None, tmp_path / "a")
    for text, says in (("[]", "no claim"), ("{", "no JSON"), ('{"claim": {"epsilon": "three"}}', "'three'")):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(Refusal, match=says):
            claims.audit(f"{folder}/right.py:factory", tmp_path / "s.json", None, tmp_path / "b")
