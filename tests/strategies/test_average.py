import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.learn import loop
from modelwright.strategy import Progress


def walk(cancer, average, steps=8):
    """The head's weights at each of some made-up steps, and what the strategy shows at the end."""
    model, rng, path = cancer.model(), torch.Generator().manual_seed(0), []
    for t in range(steps):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=rng))
        model.heads["diagnosis"].temperature.fill_(float(t))
        average.after_step(model, Progress(t + 1, steps))
        path.append(model.heads["diagnosis"].linear.weight.detach().clone().double())
    return path, average.view(model), model


def test_moving_average_is_its_closed_form(cancer):
    path, view, model = walk(cancer, find.make("strategies", {"average": {"decay": 0.3}}))
    decays = [min(0.3, (1 + t) / (10 + t)) for t in range(len(path))]
    wanted = torch.zeros_like(path[0])
    for t, w in enumerate(path):  # sum of (1 - d_t) prod of later d, and the first weight takes what is left
        share = (1 - decays[t]) if t else 1.0
        for later in decays[t + 1 :]:
            share *= later
        wanted += share * w
    torch.testing.assert_close(view.heads["diagnosis"].linear.weight.double(), wanted, atol=1e-5, rtol=1e-5)
    assert view is not model and float(view.heads["diagnosis"].temperature) == 7.0  # buffers are copied


def test_tail_average_is_the_mean_of_the_tail(cancer):
    path, view, _ = walk(cancer, find.make("strategies", {"average": {"decay": None, "start": 0.5}}))
    torch.testing.assert_close(view.heads["diagnosis"].linear.weight.double(), torch.stack(path[3:]).mean(0), atol=1e-5, rtol=1e-5)


def test_before_it_starts_the_model_itself_is_shown(cancer):
    average, model = find.make("strategies", {"average": {"start": 0.9}}), cancer.model()
    average.after_step(model, Progress(1, 10))
    assert average.view(model) is model


def test_it_ships_the_average_of_what_was_trained(cancer):
    plain, average = cancer.fit(), find.make("strategies", {"average": {"decay": 0.95}})
    found = cancer.fit([average])
    assert found.model is average.averaged and average.n == 60
    assert list(found.model.state_dict()) == list(plain.model.state_dict())
    assert not torch.equal(found.model.heads["diagnosis"].linear.weight, plain.model.heads["diagnosis"].linear.weight)
    assert cancer.accuracy(found.model) > cancer.accuracy(plain.model) - 0.03
    assert all(p.requires_grad for p in found.model.parameters())


def test_a_resumed_run_ends_in_the_same_bits(cancer, tmp_path):
    whole = cancer.fit([find.make("strategies", "average")], steps=12)
    stage = cancer.stage([find.make("strategies", "average")], steps=12, folder=tmp_path, checkpoint_minutes=1e-9)

    def kill(line):
        if line.get("step") == 7:
            raise KeyboardInterrupt

    stage.log = kill
    with pytest.raises(KeyboardInterrupt):
        loop.fit(stage)
    again = loop.fit(cancer.stage([find.make("strategies", "average")], steps=12, folder=tmp_path))
    for k, v in whole.model.state_dict().items():
        assert torch.equal(v, again.model.state_dict()[k]), k


@pytest.mark.parametrize("settings", [{"decay": 1.0}, {"start": 1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(Refusal):
        find.make("strategies", {"average": settings})
