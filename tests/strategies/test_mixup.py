import numpy as np
import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Batch, Loss, Ragged
from modelwright.learn import loop
from modelwright.objective import Objective
from modelwright.strategies.mixup import KNOWN, SHARE, TARGET, mix


def mixed(cancer, alpha=1.0, n=16, **changes):
    strategy = find.make("strategies", {"mixup": {"alpha": alpha}})
    parts = loop.assemble(cancer.stage([strategy]))
    batch = cancer.batch(n).but(**changes)
    return batch, strategy.batch(batch, parts.learner, "model", torch.Generator().manual_seed(3)), parts


def test_the_loss_is_the_mixture_row_by_row(cancer):
    batch, made, parts = mixed(cancer)
    share = made.extra[SHARE]
    assert 0 < share.min() < share.max() < 1
    logits = parts.model(made)["diagnosis"].log_softmax(-1)
    y, other = batch.targets["diagnosis"], made.extra[TARGET + "diagnosis"]
    wanted = [-(share[i] * logits[i, y[i]] + (1 - share[i]) * logits[i, other[i]]) for i in range(16)]
    loss = parts.learner(made)
    torch.testing.assert_close(loss.per_row(), torch.stack(wanted))
    torch.testing.assert_close(loss.mean(), torch.stack(wanted).mean())
    assert torch.equal(parts.learner(batch).mean(), parts.objective.inner.loss(parts.model, batch, "model").mean())  # an ordinary batch is left alone


def test_numbers_mix_codes_come_from_either_row_and_missing_values_stay_out():
    from modelwright.forms import Tabular

    rng = torch.Generator().manual_seed(0)
    n = 4000
    other, share = torch.randperm(n, generator=rng), torch.full((n,), 0.7)
    present = torch.rand(n, 2, generator=rng) > 0.3
    x = Tabular(torch.randn(n, 2, generator=rng) * present, present, torch.arange(n)[:, None])
    y = mix("table", x, other, share, rng)
    for i in range(50):
        for c in range(2):
            both = present[i, c] and present[other[i], c]
            wanted = 0.7 * x.numbers[i, c] + 0.3 * x.numbers[other[i], c] if both else x.numbers[i, c]
            torch.testing.assert_close(y.numbers[i, c], wanted)
    own = y.codes[:, 0] == torch.arange(n)
    assert torch.equal(y.codes[~own, 0], other[~own]) and abs(float(own.float().mean()) - 0.7) < 0.03


def test_series_mix_over_the_longer_and_pictures_in_every_pixel():
    other, share = torch.tensor([1, 0]), torch.tensor([0.25, 1.0])
    series = Ragged(torch.tensor([[1.0, 2.0, 0.0], [4.0, 4.0, 4.0]]), torch.tensor([2, 3]))
    made = mix("s", series, other, share, torch.Generator())
    assert made.values.tolist() == [[3.25, 3.5, 3.0], [4.0, 4.0, 4.0]] and made.lengths.tolist() == [3, 3]
    pictures = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(mix("p", pictures, other, share, torch.Generator())[0], 0.25 * pictures[0] + 0.75 * pictures[1])


def test_a_missing_target_counts_by_its_share(cancer):
    known = {"diagnosis": torch.arange(16) % 2 == 0}
    _, made, parts = mixed(cancer, known=known)
    loss = parts.learner(made).terms["diagnosis"]
    share, other = made.extra[SHARE], made.extra[KNOWN + "diagnosis"]
    torch.testing.assert_close(loss.count, share * known["diagnosis"] + (1 - share) * other)


def test_shares_follow_beta(cancer):
    _, made, _ = mixed(cancer, alpha=2.0, n=400)
    share = made.extra[SHARE].numpy()
    assert abs(share.mean() - 0.5) < 0.05 and abs(np.var(share) - 1 / 20) < 0.01  # 1 / (4 (2 alpha + 1))


def test_it_learns(cancer):
    plain = cancer.fit()
    found = cancer.fit([find.make("strategies", "mixup")])
    assert cancer.accuracy(found.model) > cancer.accuracy(plain.model) - 0.03
    assert list(found.model.state_dict()) == list(plain.model.state_dict())


def test_micro_batches_give_the_same_gradient(cancer):
    _, made, parts = mixed(cancer)
    whole = loop.divide(parts.rule.estimate(parts.learner, parts.parameters["model"], made, "model"))
    split = loop.divide(parts.rule.estimate(parts.learner, parts.parameters["model"], made, "model", 5))
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


class Coupled(Objective):
    def loss(self, model, batch, player):
        return Loss(coupled=model(batch)["diagnosis"].var())


def test_refusals(cancer):
    strategy = find.make("strategies", "mixup")
    words = Batch({"note": Ragged(torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 2]))})
    with pytest.raises(Refusal, match="note"):
        strategy.batch(words, None, "model", torch.Generator())
    stage = cancer.stage([strategy])
    stage.objective = Coupled()
    with pytest.raises(Refusal, match="no loss per row"):
        loop.fit(stage)
    with pytest.raises(Refusal):
        find.make("strategies", {"mixup": {"alpha": 0}})
