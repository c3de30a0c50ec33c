import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.learn import loop, probe
from modelwright.strategies.prune import keep
from modelwright.strategy import Progress


def prune(**settings):
    return find.make("strategies", {"prune": settings})


def test_the_schedule_is_cubic():
    p = prune(sparsity=0.8, begin=0.2, end=0.7)
    s_i, s_f, t0, n = 0.0, 0.8, 0.2, 0.5
    for t in (0.2, 0.3, 0.45, 0.7):
        assert p.at(t) == pytest.approx(s_f + (s_i - s_f) * (1 - (t - t0) / n) ** 3)  # Zhu and Gupta, equation 1
    assert p.at(0.1) == 0 and p.at(1.0) == 0.8


def test_the_smallest_go_and_exactly_as_many_as_declared():
    w = torch.tensor([[0.1, -3.0, 0.5], [-0.2, 2.0, -0.05]])
    assert keep(w, 0.5).tolist() == [[False, True, True], [False, True, False]]
    assert int(keep(torch.ones(10, 10), 0.37).sum()) == 63  # ties


def test_zeros_stay_through_every_step_and_only_grow(cancer):
    p = prune(sparsity=0.6, every=3)
    stage = cancer.stage([p], steps=20)
    parts = loop.assemble(stage)
    progress, zeros = Progress(steps=20), {}
    for _ in range(3):
        for batch in stage.stream.batches(parts.model):
            loop.step(stage, parts, batch, "model")
            progress.step += 1
            p.after_step(parts.model, progress)
            for name in p.names:
                now = p.weight(parts.model, name) == 0
                assert bool((now | ~zeros.get(name, now)).all())
                zeros[name] = now.clone()
            if progress.step % 3 == 0:
                assert float(zeros[p.names[0]].float().mean()) == pytest.approx(p.at(progress.fraction), abs=0.01)
    assert p.names == ["encoders.table.layers.0", "encoders.table.layers.1"] and p.holds(parts.model) is None


@pytest.mark.parametrize("keep_which", ["best", "last"])
def test_it_learns_and_ships_the_declared_zeros(cancer, keep_which):
    plain, p = cancer.fit(), prune(sparsity=0.7)
    found = cancer.fit([p], keep=keep_which, validations=8)
    assert list(found.model.state_dict()) == list(plain.model.state_dict()) and p.holds(found.model) is None
    assert cancer.accuracy(found.model) > cancer.accuracy(plain.model) - 0.04
    assert int((found.model.heads["diagnosis"].linear.weight == 0).sum()) == 0
    if keep_which == "best":  # the figure is that of the model that ships
        learner = loop.Learner(found.model, found.objective)
        assert cancer.validate(learner)["loss"] == pytest.approx(found.best["loss"], rel=1e-5)


def test_a_resumed_run_ends_in_the_same_bits(cancer, tmp_path):
    whole = cancer.fit([prune(every=5)], steps=12)
    stage = cancer.stage([prune(every=5)], steps=12, folder=tmp_path, checkpoint_minutes=1e-9)

    def kill(line):
        if line.get("step") == 9:
            raise KeyboardInterrupt

    stage.log = kill
    with pytest.raises(KeyboardInterrupt):
        loop.fit(stage)
    again = loop.fit(cancer.stage([prune(every=5)], steps=12, folder=tmp_path))
    for k, v in whole.model.state_dict().items():
        assert torch.equal(v, again.model.state_dict()[k]), k


def test_a_later_merge_that_fills_the_zeros_is_found_and_an_earlier_one_composes(cancer):
    def found(*names):
        return [p.what for p in probe.dry_run(cancer.stage([find.make("strategies", n) for n in names]))]

    assert found("prune", "lora") == []
    assert found("lora", "prune") == ["lora undoes prune"]


def test_refusals(cancer):
    with pytest.raises(Refusal, match="nothing to prune"):
        cancer.fit([prune(targets="attention")])
    for wrong in ({"sparsity": 1.0}, {"begin": 0.8}, {"every": 0}):
        with pytest.raises(Refusal):
            prune(**wrong)
