"""The grid: every encoder x objective x head, found by listing the folders. A cell trains, measurably, or is refused in words: no third case.

How a cell is judged follows from what its objective says of itself, never from its name:

    acts (`experience`)       its episodes return more than those of a random policy
    several players           what it makes is nearer to the data, on average, than before training
    trains no head            its own loss on validation rows falls by a tenth; so too where a head writes token after token, which learns to write long
                              before it learns from what it reads (benchmarks and tests/heads show that it does)
    else                      on test rows the target kind's first metric is well above that of the majority (or mean) and of its own answers dealt to
                              the wrong rows; from pure noise it is at least not far below
"""

import math

import numpy as np
import pytest
import torch
from small_data import TARGETS, columns, forms_of, spec_of, table

import modelwright as mw
from modelwright import baselines, find
from modelwright.artifact import Loaded
from modelwright.errors import Refusal
from modelwright.learn import loop
from modelwright.objective import Learner
from modelwright.running import player, validator

SETTINGS = {"lr": 3e-3, "batch_size": 32, "threads": 1, "precision": "fp32", "device": "cpu", "validations": 1}
GAIN = 0.15  # of the way from chance to perfection


def target_of(head):
    """The kind of target that this head is the default of, else the first that it fits."""
    says = find.find("heads", head).says
    kinds = {k: find.find("kinds", find.split(spec)[0]).head for k, spec in TARGETS.items()}
    fits = [k for k, own in kinds.items() if find.find("heads", own).says == says]
    assert fits, f"a new form of target, {says}: give a kind of it a spec in small_data.TARGETS and a column"
    return next((k for k in fits if kinds[k] == head), fits[0])


def cells():
    for encoder in find.names("encoders"):
        for form in forms_of(encoder):
            for objective in find.names("objectives"):
                for head in find.names("heads"):
                    yield pytest.param(encoder, form, objective, head, id=f"{encoder}.{form}-{objective}-{head}")


def stepwise(head):
    """It says one token after another: its own decoder needs that."""
    return find.find("decoders", find.find("heads", head).decoder).steps


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
    steps = 40 if stepwise(head) else 400 if form == "ids" else 120  # words are dropped at random while a text is learnt: it takes longer
    stage = SETTINGS | {"objective": objective, "steps": steps}

    def whole(stage):
        return {"data": data, "target": {"y": TARGETS[target]}, "model": model, "stages": [{"t": stage}]}

    planned = mw.plan(mw.task_of(whole(stage)))
    (built,) = planned.model(0).encoders.children()
    own = built.learning(200)
    if "optimizer" not in own and own.get("lr", 0.0) > stage["lr"]:  # the suggested rate, unless it is another optimizer's
        planned = mw.plan(mw.task_of(whole(stage | {"lr": own["lr"]})))
    return planned


trained = set()  # what trains no head is the same cell whatever the head is


@pytest.mark.slow
@pytest.mark.parametrize("encoder, form, objective, head", cells())
def test_a_cell_trains_or_is_refused(encoder, form, objective, head, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    if (encoder, form, objective) in trained:
        return
    try:
        planned = plan(encoder, form, objective, head)
    except Refusal as refusal:
        assert all(p.code and p.what and (p.why or p.fix) for p in refusal.problems), refusal.problems
        pytest.skip("refused: " + "; ".join(p.what for p in refusal.problems))  # shown with -rs
    stage = planned.stage(0, planned.model(0), 0)
    before = loop.assemble(planned.stage(0, planned.model(0), 0))
    if before.objective.heads == []:
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
        assert end < 0.9 * start
    else:
        gain = gained(planned, fitted.model)
        assert math.isfinite(gain) and gain > (-0.15 if form == "vector" else GAIN), f"gain {gain:.2f}"


def gained(planned, model):
    """(metric - chance) / (perfect - chance) on test rows; chance: the better of the majority and the model's own answers dealt to the wrong rows."""
    data, kind = planned.data["test"], planned.schema.targets["y"]
    said = Loaded(model, planned.schema).predict(planned.tables["test"])["y"]
    truth = data.targets["y"]
    metric = kind.metrics(said, truth)[kind.primary]
    sign, rows = (1.0 if metric.better == "higher" else -1.0), np.arange(len(data))
    perfect = 0.0 if sign < 0 else 100.0 if kind.primary == "bleu" else 1.0
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(data)))
    dealt = torch.utils._pytree.tree_map(lambda t: t[order], said)
    chances = [kind.metrics(dealt, truth)[kind.primary].value(rows)]
    if "majority" in baselines.names_for(planned.schema):
        constant = baselines.Baseline.fit("majority", planned.schema, planned.data["train"], 0).predict(planned.tables["test"])["y"]
        chances.append(kind.metrics(constant, truth)[kind.primary].value(rows))
    chance = sign * max(sign * c for c in chances)
    return (metric.value(rows) - chance) / (perfect - chance)


def apart(planned, model):
    """Mean absolute difference of the mean picture made and the mean picture seen."""
    batch = planned.data["train"].batch(np.arange(200), torch.Generator().manual_seed(0))
    return float((model.predict(batch)["y"].value.mean(0) - batch.targets["y"].mean(0)).abs().mean())


def test_every_head_has_data():
    assert all(target_of(head) in TARGETS for head in find.names("heads"))
