import pytest
import torch
from torch import nn

from modelwright import find
from modelwright.errors import Refusal
from modelwright.learn import loop
from modelwright.strategies.lora import ADAPTED

LAYERS = [
    (nn.Linear(5, 7), torch.randn(3, 5, generator=torch.Generator().manual_seed(0))),
    (nn.Linear(5, 7, bias=False), torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))),
    (nn.Conv2d(3, 6, 3, stride=2, padding=1), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))),
    (nn.Embedding(9, 4, padding_idx=0), torch.tensor([[0, 3], [8, 8]])),
]


@pytest.mark.parametrize(("base", "x"), LAYERS)
def test_each_layer_is_the_formula_and_merges_into_its_own_type(base, x):
    rng = torch.Generator().manual_seed(1)
    layer = ADAPTED[type(base)](base, 2, 1.5, rng)
    assert torch.equal(layer(x), base(x))  # B is zero
    with torch.no_grad():
        layer.lora_b.normal_(generator=rng)
    a, b = layer.lora_a, layer.lora_b.flatten(1)
    change = 1.5 * torch.einsum("or,r...->o...", b, a)  # W + (alpha / r) B A
    wanted = torch.func.functional_call(base, {"weight": base.weight + change}, (x,))
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-5)
    merged = layer.merged()
    assert type(merged) is type(base) and repr(merged) == repr(base) and merged.state_dict().keys() == base.state_dict().keys()
    torch.testing.assert_close(merged(x), wanted, atol=1e-5, rtol=1e-5)


def test_adapted_model_starts_as_the_base_and_only_adapters_and_head_learn(cancer):
    model, batch = cancer.model().eval(), cancer.batch()
    before = model(batch)["diagnosis"]
    lora = find.make("strategies", {"lora": {"rank": 4, "targets": r"^encoders\..*(layers\.0|codes\.0)$"}})
    lora.adapt(model, torch.Generator().manual_seed(0))
    assert torch.equal(model(batch)["diagnosis"], before)
    learn = {n for n, p in model.named_parameters() if p.requires_grad}
    adapters = {f"encoders.table.{m}.lora_{x}" for m in ("layers.0", "codes.0") for x in "ab"}
    assert learn == adapters | {"heads.diagnosis.linear.weight", "heads.diagnosis.linear.bias"}
    assert lora.holds(model).startswith("adapters are merged, but encoders.table.")


def test_it_learns_merges_and_ships_an_ordinary_model(cancer):
    plain = cancer.fit()
    lora = find.make("strategies", "lora")
    model = cancer.model()
    start = {k: v.clone() for k, v in model.state_dict().items()}
    found = cancer.fit([lora], model=model)
    assert list(found.model.state_dict()) == list(start) and lora.holds(found.model) is None
    assert cancer.accuracy(found.model) > cancer.accuracy(plain.model) - 0.04
    assert 0 <= lora.merge_change < 1e-4 and lora.statement()["lora"]["merge_change"] == lora.merge_change
    change = found.model.state_dict()["encoders.table.layers.1.weight"] - start["encoders.table.layers.1.weight"]
    assert 1 <= torch.linalg.matrix_rank(change, rtol=1e-4) <= 8
    assert all(p.requires_grad for p in found.model.parameters())
    cancer.model().load_state_dict(found.model.state_dict())


def test_a_resumed_run_ends_in_the_same_bits(cancer, tmp_path):
    whole = cancer.fit([find.make("strategies", "lora")], steps=12)
    stage = cancer.stage([find.make("strategies", "lora")], steps=12, folder=tmp_path, checkpoint_minutes=1e-9)

    def kill(line):
        if line.get("step") == 7:
            raise KeyboardInterrupt

    stage.log = kill
    with pytest.raises(KeyboardInterrupt):
        loop.fit(stage)
    lora = find.make("strategies", "lora")
    again = loop.fit(cancer.stage([lora], steps=12, folder=tmp_path))
    finished = find.make("strategies", "lora")
    loop.fit(cancer.stage([finished], steps=12, folder=tmp_path))  # its stage was over before the run was cut
    assert 0 <= lora.merge_change == finished.merge_change < 1e-4
    for k, v in whole.model.state_dict().items():
        assert torch.equal(v, again.model.state_dict()[k]), k


def test_refusals(cancer):
    def code(spec, model):
        with pytest.raises(Refusal) as caught:
            find.make("strategies", spec).adapt(model, torch.Generator())
        return caught.value.problems[0].code

    assert code({"lora": {"targets": "attention"}}, cancer.model()) == "lora.nothing_matches"
    tied = cancer.model()
    encoder = tied.encoders["table"]
    encoder.again = nn.Linear(32, 32)
    encoder.again.weight = encoder.layers[1].weight
    assert code("lora", tied) == "lora.tied"
    with pytest.raises(Refusal, match="frozen"):
        cancer.fit([find.make("strategies", "lora"), find.make("strategies", "freeze")])
    with pytest.raises(Refusal):
        find.make("strategies", {"lora": {"rank": 0}})


def test_layers_with_fast_paths_are_left_alone(cancer):
    model = cancer.model()
    model.encoders["table"].layers.append(nn.TransformerEncoderLayer(32, 2))
    find.make("strategies", "lora").adapt(model, torch.Generator())
    assert not [n for n, _ in model.named_parameters() if ".layers.2." in n and "lora" in n]
