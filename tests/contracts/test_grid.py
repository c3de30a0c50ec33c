"""The grid: every encoder x objective x head, found by listing the folders. A cell trains, measurably, or is refused in words: no third case.

Which are refused, and by which code, is foretold from what the parts say of themselves (`foretold.py`); any other refusal is a fault, and so is none.

How a cell is judged follows from what its objective says of itself, never from its name:

    acts (`experience`)       its episodes return more than those of a random policy
    several players           what it makes is nearer to the data, on average, than before training
    trains no head            its own loss on validation rows falls by a quarter; so too where a head writes token after token, which learns to write long
                              before it learns from what it reads (benchmarks and tests/heads show that it does)
    else                      on test rows the target kind's first metric goes from chance (the majority or mean, or its own answers dealt to the wrong
                              rows) most of the way that a linear model goes; where there is none, a stated part of the way to perfection; from pure
                              noise it is at least not far below chance
"""

import math

import numpy as np
import pytest
import torch
from foretold import built, of_cell, stepwise, target_of
from small_data import TARGETS, columns, forms_of, spec_of, table

import modelwright as mw
from modelwright import baselines, find, planning
from modelwright.artifact import Loaded
from modelwright.errors import Refusal
from modelwright.learn import loop
from modelwright.objective import Learner
from modelwright.running import player, validator

SETTINGS = {"lr": 3e-3, "batch_size": 32, "threads": 1, "precision": "fp32", "device": "cpu", "validations": 1}
NEAR = 0.6  # of a linear model's gain: between 0.72 and 1.2 were seen
GAIN = {"action": 0.5, "picture": 0.15, "boxes": 0.35}  # of the way from chance to perfection, where no linear model learns this kind of target
FAINT = {  # its rows have one norm: of how bright a picture is, a ridge on what is left tells 0.29 of the way, a linear model on pixels 0.95
    ("scattering", head): ask for head, ask in {"binary": 0.25, "ordered": 0.1, "regression": 0.1, "quantiles": 0.1}.items()
}

ROWS = [(e, f, o) for e in find.names("encoders") for f in forms_of(e) for o in find.names("objectives")]
CELLS = [(*row, head) for row in ROWS for head in find.names("heads")]
each_row = pytest.mark.parametrize("encoder, form, objective", ROWS, ids=[f"{e}.{f}-{o}" for e, f, o in ROWS])
each_cell = pytest.mark.parametrize("encoder, form, objective, head", CELLS, ids=[f"{e}.{f}-{o}-{h}" for e, f, o, h in CELLS])


def still(encoder, form):
    """A policy's encoder does not drop at random and does not look ahead."""
    ((name, settings),) = spec_of(encoder, form).items()
    known = find.settings_model(find.find("encoders", encoder)).model_fields
    return {name: settings | {k: 0.0 for k in known if "dropout" in k} | {k: False for k in known if k == "bidirectional"}}


def plan(encoder, form, objective, head):
    made = find.make("objectives", objective)
    target = target_of(head)
    if made.experience is not None and target in ("action", "value"):
        history = form == "series"
        data = {"source": "gym://CartPole-v1", "environment": {"history": history}}
        model = {"encoders": {"observation" if history else "table": still(encoder, form)}, "heads": {target: head}}
        stage = {"objective": objective, "epochs": 12, "threads": 1, "device": "cpu"}
        return mw.plan(mw.task_of({"data": data, "target": "action", "model": model, "stages": [{"t": stage}]}))
    data = {"source": table(form, target), "columns": columns(form)}
    model = {"encoders": {"table" if form == "table" else "z" if form == "vector" else "x": spec_of(encoder, form)}, "heads": {"y": head}}
    fresh = spec_of(encoder, form) != {encoder: {}}  # a tiny net of random weights in place of a checkpoint
    steps = 40 if stepwise(head) else 400 if form == "ids" else 240 if fresh else 120  # words are dropped at random while a text is learnt: it takes longer
    own = built(encoder, form).learning(200)
    lr = max(SETTINGS["lr"], 0.0 if "optimizer" in own else own.get("lr", 0.0))  # the suggested rate, unless it is another optimizer's
    stage = SETTINGS | {"objective": objective, "steps": steps, "lr": lr}
    return mw.plan(mw.task_of({"data": data, "target": {"y": TARGETS[target]}, "model": model, "stages": [{"t": stage}]}))


def met(encoder, form, objective, head):
    """The plan, or None of a cell that is refused as foretold."""
    code = of_cell(encoder, form, objective, head)
    if code is None:
        return plan(encoder, form, objective, head)
    with pytest.raises(Refusal) as refused:
        plan(encoder, form, objective, head)
    assert {p.code for p in refused.value.problems} == {code} and all(p.what and (p.why or p.fix) for p in refused.value.problems)
    return None


@pytest.fixture
def unclocked(tmp_path_factory, monkeypatch):
    """Plans that do not time a step: none is read here."""
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setattr(planning, "_time", lambda *_: 0.0)


@each_row
def test_refusals_are_those_foretold(encoder, form, objective, unclocked):
    """One head for each way in which cells of a row are refused, and one that trains; the slow test asks of every head."""
    heads = {}
    for head in find.names("heads"):
        heads.setdefault(of_cell(encoder, form, objective, head), head)
    for head in heads.values():
        met(encoder, form, objective, head)


trained = set()  # what trains no head, or acts, is the same cell whatever the head is


@pytest.mark.slow
@each_cell
def test_a_cell_trains_or_is_refused(encoder, form, objective, head, unclocked):
    planned = met(encoder, form, objective, head)
    if planned is None or (encoder, form, objective) in trained:
        return
    stage = planned.stage(0, planned.model(0), 0)
    before = loop.assemble(planned.stage(0, planned.model(0), 0))
    if before.objective.heads == [] or before.objective.experience is not None:
        trained.add((encoder, form, objective))
    fitted = loop.fit(stage)
    assert all(torch.isfinite(p).all() for p in fitted.model.parameters())
    if stage.objective.experience is not None:
        play = player(planned, fitted.model)
        assert play("model", 20).mean() > 1.5 * play("random", 20).mean()
    elif len(fitted.objective.players) > 1:
        assert apart(planned, fitted.model) < 0.5 * apart(planned, before.model.eval())
    elif fitted.objective.heads == [] or stepwise(head):
        judge = validator(planned, stage)
        with torch.no_grad():
            start, end = (judge(Learner(m.eval(), o.eval()))["loss"] for m, o in ((before.model, before.objective), (fitted.model, fitted.objective)))
        assert end < 0.75 * start
    else:
        gain, linear = gained(planned, fitted.model)
        if form == "vector":
            ask = -0.15
        else:
            ask = GAIN[target_of(head)] if linear is None else FAINT.get((encoder, head), NEAR * linear)
        assert gain > ask, f"gain {gain:.2f}, asked {ask:.2f}"


def gained(planned, model):
    """(metric - chance) / (perfect - chance) on test rows, and a linear model's, None where it cannot learn this: chance is the better of the majority
    and the model's own answers dealt to the wrong rows."""
    data, kind = planned.data["test"], planned.schema.targets["y"]
    said = {"model": Loaded(model, planned.schema).predict(planned.tables["test"])["y"]}
    for name in {"majority", "linear"} & set(baselines.names_for(planned.schema)):
        said[name] = baselines.Baseline.fit(name, planned.schema, planned.data["train"], 0).predict(planned.tables["test"])["y"]
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(data)))
    said["dealt"] = torch.utils._pytree.tree_map(lambda t: t[order], said["model"])
    metrics = {who: kind.metrics(prediction, data.targets["y"])[kind.primary] for who, prediction in said.items()}
    sign = 1.0 if metrics["model"].better == "higher" else -1.0
    value = {who: sign * metric.value(np.arange(len(data))) for who, metric in metrics.items()}
    perfect, chance = 0.0 if sign < 0 else 1.0, max(value["dealt"], value.get("majority", -math.inf))
    gain = {who: (v - chance) / (perfect - chance) for who, v in value.items()}
    return gain["model"], gain.get("linear")


def apart(planned, model):
    """Mean absolute difference of the mean picture made and the mean picture seen."""
    batch = planned.data["train"].batch(np.arange(200), torch.Generator().manual_seed(0))
    return float((model.predict(batch)["y"].value.mean(0) - batch.targets["y"].mean(0)).abs().mean())


def test_every_head_has_data():
    assert all(target_of(head) in TARGETS for head in find.names("heads"))
