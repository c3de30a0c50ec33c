"""A shared policy is a floor: read strictly, added to or tightened, never loosened; the ready ones name metrics that exist."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from modelwright.errors import Refusal
from modelwright.registry import gate, policy
from modelwright.task import task_of

READY = sorted(policy.READY.glob("*.yaml"))
CONTRACT = re.findall(
    r"\S+",
    """accuracy balanced_accuracy f1 auroc average_precision nll brier ece rmse mae r2 map bleu rouge_l episode_return success_rate map_50
data.duplicate_rate data.near_duplicate_rate data.leakage data.group_overlap data.time_overlap data.label_error_rate data.test_label_error_rate
data.shortcut data.coded_missing data.unit_switch data.number_format data.split_shift data.contamination accuracy.gain_over_baseline
accuracy.gain_over_champion slice.worst_accuracy slice.worse_than_overall calibration.ece calibration.classwise_error calibration.worst_slice_error
conformal.coverage conformal.mean_size fairness.demographic_parity_difference fairness.equal_opportunity_difference
fairness.equalized_odds_difference ood.auroc ood.gain_over_trivial robustness.linf_accuracy robustness.l2_accuracy robustness.certified_accuracy
robustness.corruption_accuracy privacy.epsilon privacy.membership_auc privacy.membership_tpr_at_fpr_0.01 privacy.canary_tpr_at_fpr_0.05
explanation.completeness_error explanation.randomization_similarity explanation.stability explanation.fidelity explanation.offmanifold_gap
explanation.recall_at_k efficiency.latency_p99_ms efficiency.size_mb efficiency.memory_mb""",
)


def codes(error):
    assert all(p.what and p.where and p.fix for p in error.value.problems)
    return [p.code for p in error.value.problems]


@pytest.mark.parametrize("path", READY, ids=lambda p: p.stem)
def test_ready_policies(path):
    found = policy.read(path.stem)
    assert found.limits and {limit.metric for limit in found.limits} <= set(CONTRACT)
    lines = path.read_text("utf-8").split("require:\n")[1].splitlines()
    assert all(re.fullmatch(r'  [\w.]+: "[<>]=? [\d.]+"  # \S.{20,}', line) for line in lines)  # each limit says why


def test_the_four_are_there():
    assert [p.stem for p in READY] == ["credit", "driving", "medical", "moderation"]


def test_a_task_names_a_policy_or_a_file_beside_it(tmp_path):
    (tmp_path / "hospital.yaml").write_text('name: hospital\nrequire:\n  accuracy: ">= 0.9"  # 理由\n', "utf-8")
    task = task_of({"data": "x.csv", "target": "y", "audit": {"policy": "./hospital.yaml", "require": {"nll": "<= 1"}}}, root=tmp_path)
    assert policy.as_require(policy.of_task(task)) == {"accuracy": ">= 0.9", "nll": "<= 1"}
    ready = task_of({"data": "x.csv", "target": "y", "audit": {"policy": "medical"}})
    assert policy.of_task(ready).digest == policy.read("medical").digest
    assert policy.of_task(task_of({"data": "x.csv", "target": "y"})).limits == ()


def test_require_may_add_and_tighten_and_never_loosen(tmp_path):
    (tmp_path / "p.yaml").write_text('require: {accuracy: ">= 0.9", nll: "<= 0.5", "f1@sex=f": "> 0.8"}')

    def merged(**require):
        return policy.as_require(policy.merged("./p.yaml", {k.replace("_at_", "@"): v for k, v in require.items()}, tmp_path))

    assert merged(accuracy=">= 0.95", brier="<= 0.1")["accuracy"] == ">= 0.95" and merged(accuracy="> 0.9")["accuracy"] == "> 0.9"
    assert merged(accuracy=">= 0.9") == merged() and len(merged(brier="<= 0.1")) == 4
    with pytest.raises(Refusal) as e:
        policy.merged("./p.yaml", {"accuracy": ">= 0.89", "nll": ">= 0.1", "f1@sex = f": ">= 0.8", "brier": "<= 1"}, tmp_path)
    assert codes(e) == ["policy.loosened"] * 3 and ">= 0.89" in str(e.value) and ">= 0.9" in str(e.value)


def test_as_tight_is_what_it_says():
    """Against its meaning, on a grid: every number that satisfies the one satisfies the other."""
    grid = np.arange(0, 41) / 40
    bounds = [f"{op} {b}" for op in (">=", ">", "<=", "<") for b in (0.25, 0.5, 0.75)]
    for now, before in itertools.product(bounds, bounds):
        a, b = gate.parse({"accuracy": now}).limits[0], gate.parse({"accuracy": before}).limits[0]
        same_way = (a.op[0] == ">") == (b.op[0] == ">")
        assert policy.as_tight(a, b) == (same_way and all(b.holds(x) for x in grid if a.holds(x))), (now, before)


def test_tightest_keeps_one_of_two_and_both_directions():
    a, b = gate.parse({"accuracy": ">= 0.9", "nll": "<= 0.5"}), gate.parse({"accuracy": ">= 0.95", "nll": "<= 0.7", "ece": "<= 0.1"})
    assert policy.as_require(policy.tightest(a, b)) == {"accuracy": ">= 0.95", "nll": "<= 0.5", "ece": "<= 0.1"}
    assert policy.tightest(a, b).digest == policy.tightest(b, a).digest and policy.tightest(a, a).digest == a.digest
    assert len(policy.tightest(a, gate.parse({"accuracy": "<= 0.99"})).limits) == 3


def test_loosened_in_words():
    before = gate.parse({"accuracy": ">= 0.9", "y:nll": "<= 0.5"}).limits
    assert policy.loosened(before, gate.parse({"accuracy": ">= 0.9", "nll": "<= 0.4"})) == []  # for every target is tighter than for one
    assert policy.loosened(before, gate.parse({"accuracy": ">= 0.8"})) == ["accuracy >= 0.9 became >= 0.8", "y:nll <= 0.5 was taken out"]


BAD = {
    "": ["policy.form"],
    "- accuracy": ["policy.form"],
    "require: {}": ["policy.form"],
    "require: [accuracy]": ["policy.form"],
    'require: {accuracy: ">= 0.9"}\nrequires: {}': ["policy.unknown_key"],
    'name: [x]\nrequire: {acuracy: ">= 0.9", nll: "about 1"}': ["policy.form", "task.limit", "task.limit"],
    'require: {accuracy: ">= 0.9", accuracy: ">= 0.1"}': ["policy.yaml"],
    "a: &x 1\nrequire: *x": ["policy.yaml"],
    'require: !!python/object/apply:os.system ["true"]': ["policy.yaml"],
    "\tx: 1": ["policy.yaml"],
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_policy_is_refused_with_all_that_is_wrong(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(Refusal) as e:
        policy.read("./p.yaml", tmp_path)
    assert codes(e) == BAD[text]


def test_a_policy_that_is_not_there(tmp_path):
    for name in ("medcal", "./medical", "x.yaml", "/nowhere/p.yaml", "../policies/medical"):
        with pytest.raises(Refusal) as e:
            policy.read(name, tmp_path)
        assert codes(e) == ["policy.missing"]
    assert "medical" in policy_fix("medcal", tmp_path)


def policy_fix(name: str, root: Path) -> str:
    with pytest.raises(Refusal) as e:
        policy.read(name, root)
    return e.value.problems[0].fix


def test_encoding_and_size(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"require: \xff")
    with pytest.raises(Refusal) as e:
        policy.read("./p.yaml", tmp_path)
    assert codes(e) == ["policy.encoding"]
