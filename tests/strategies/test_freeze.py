import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.learn import loop


def moved(before, after):
    return {k for k in before if not torch.equal(before[k], after[k])}


def test_frozen_parts_stay_and_the_rest_learns(cancer):
    model = cancer.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = cancer.fit([find.make("strategies", "freeze")], model=model, lr=5e-2)
    assert moved(before, found.model.state_dict()) == {"heads.diagnosis.linear.weight", "heads.diagnosis.linear.bias"}
    assert all(p.requires_grad for p in found.model.parameters())  # the next stage starts free
    assert cancer.accuracy(found.model) > 0.85


def test_gradual_unfreezing_holds_each_part_until_its_share(cancer):
    freeze = find.make("strategies", {"freeze": {"parts": [r"layers\.1", r"layers\.0"], "unfreeze_at": [0.3, 0.6]}})
    stage = cancer.stage([freeze], steps=10)
    parts = loop.assemble(stage)
    stage.stream.augment = False
    started = {}
    for i, batch in enumerate(stage.stream.batches(parts.model)):
        before = {k: v.clone() for k, v in parts.model.named_parameters()}
        loop.step(stage, parts, batch, "model")
        for name in moved(before, dict(parts.model.named_parameters())):
            started.setdefault(name, i)
        freeze.after_step(parts.model, loop.Progress(i + 1, 10))
    assert stage.stream.steps() == 7
    assert {v for k, v in started.items() if ".layers.1" in k} == {3} and {v for k, v in started.items() if ".layers.0" in k} == {6}
    assert started["heads.diagnosis.linear.weight"] == 0


def test_a_resumed_run_thaws_at_the_same_step(cancer):
    freeze = find.make("strategies", {"freeze": {"unfreeze_at": [0.5]}})
    freeze.after_step(None, loop.Progress(4, 10))
    again = find.make("strategies", {"freeze": {"unfreeze_at": [0.5]}})
    again.load(freeze.state())
    assert again.fraction == 0.4


@pytest.mark.parametrize(("parts", "code"), [([r"^encoder\."], "freeze.nothing_matches"), (["."], "freeze.everything")])
def test_refusals(cancer, parts, code):
    with pytest.raises(Refusal) as caught:
        find.make("strategies", {"freeze": {"parts": parts}}).adapt(cancer.model(), torch.Generator())
    assert caught.value.problems[0].code == code


def test_a_stage_in_which_nothing_learns_at_first_is_refused(cancer):
    freeze = find.make("strategies", {"freeze": {"parts": ["."], "unfreeze_at": [0.5]}})
    with pytest.raises(Refusal, match="nothing is left to learn before 0.5"):
        cancer.fit([freeze])


def test_settings_that_contradict_are_refused():
    with pytest.raises(Refusal):
        find.make("strategies", {"freeze": {"unfreeze_at": [0.2, 0.4]}})
