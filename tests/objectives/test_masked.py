"""Masked pre-training against its definition: a slow double loop, Devlin's rates, and what a mean would guess."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from modelwright import find
from modelwright.data.schema import Schema, infer, profile
from modelwright.data.streams import Rows, in_order
from modelwright.errors import Refusal
from modelwright.forms import Batch, Encoded, Ragged
from modelwright.learn.loop import Stage, fit
from modelwright.model import Encoder, Model
from modelwright.settings import Settings
from modelwright.strategy import Context


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table_model(table: pa.Table, kinds: dict[str, str]) -> tuple[Schema, Model]:
    schema = Schema({n: find.make("kinds", k) for n, k in kinds.items()}, {})
    schema.fit(table)
    encoder = find.make("encoders", {"mlp": {"width": 96}})
    encoder.build(schema.encoders()["table"])
    fusion = find.make("fusions", "concat")
    fusion.build({"table": encoder.width})
    return schema, Model({"table": encoder}, fusion, {}, {})


@pytest.fixture(scope="module")
def mixed():
    """Numbers with gaps and two categories, one of which follows from the other."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    colour = rng.choice(["red", "green", "blue"], 200)
    table = pa.table(
        {
            "x": pa.array(x, mask=rng.random(200) < 0.2),
            "y": 2 * x + rng.normal(size=200) * 0.1,
            "colour": colour,
            "mood": pa.array(np.where(colour == "red", "hot", "cold"), mask=rng.random(200) < 0.2),
        }
    )
    torch.manual_seed(0)
    schema, model = table_model(table, {"x": "number", "y": "number", "colour": "category", "mood": "category"})
    objective = find.make("objectives", "masked")
    objective.build(model, schema)
    return schema.encode(table), model.eval(), objective.eval()


def test_table_hides_its_share_of_the_cells_that_are_there(mixed):
    data, _, objective = mixed
    batch = data.batch(np.arange(200))
    hidden = present = 0
    for seed in range(20):
        prepared = objective.prepare(batch, seeded(seed))
        x, original = prepared.inputs["table"], prepared.extra["table.original"]
        assert torch.equal(original.numbers, batch.inputs["table"].numbers) and torch.equal(original.codes, batch.inputs["table"].codes)
        assert not (x.present & ~original.present).any()
        assert (x.numbers[~x.present] == 0).all() and torch.equal(x.numbers[x.present], original.numbers[x.present])
        assert ((x.codes == original.codes) | (x.codes == 0)).all()
        hidden += int((original.present & ~x.present).sum() + ((original.codes > 0) & (x.codes == 0)).sum())
        present += int(original.present.sum() + (original.codes > 0).sum())
    assert hidden / present == pytest.approx(0.3, abs=0.02)
    again = objective.prepare(batch, seeded(3)).inputs["table"], objective.prepare(batch, seeded(3)).inputs["table"]
    assert torch.equal(again[0].present, again[1].present) and torch.equal(again[0].codes, again[1].codes)


def test_table_loss_is_a_double_loop_over_hidden_cells(mixed):
    data, model, objective = mixed
    batch = objective.prepare(data.batch(np.arange(40)), seeded())
    assert batch.targets == {}
    term = objective.loss(model, batch, "model").terms["table"]
    x, original = batch.inputs["table"], batch.extra["table.original"]
    out = objective.decoders[0].net(model.encoders["table"](x).pooled()).detach()
    sizes = objective.decoders[0].sizes
    total_of, count_of = term.total.detach(), term.count
    for b in range(40):
        total, count = 0.0, 0
        for j in range(2):
            if original.present[b, j] and not x.present[b, j]:
                total += 0.5 * float(original.numbers[b, j] - out[b, j]) ** 2
                count += 1
        start = 2
        for j, size in enumerate(sizes):
            if original.codes[b, j] > 0 and x.codes[b, j] == 0:
                total -= float(out[b, start : start + size].log_softmax(0)[original.codes[b, j]])
                count += 1
            start += size
        assert float(total_of[b]) == pytest.approx(total, abs=1e-4)
        assert int(count_of[b]) == count
    weighted = objective.loss(model, batch.but(weight=torch.full((40,), 2.0)), "model").terms["table"]
    assert torch.allclose(weighted.total, 2 * term.total) and torch.equal(weighted.count, term.count)


def test_visible_cells_do_not_count(mixed):
    data, model, objective = mixed
    batch = objective.prepare(data.batch(np.arange(40)), seeded())
    original, x = batch.extra["table.original"], batch.inputs["table"]
    hidden = original.present & ~x.present

    def loss(numbers):
        changed = type(original)(numbers, original.present, original.codes)
        return objective.loss(model, batch.but(extra={"table.original": changed}), "model").terms["table"].total

    at_hidden, elsewhere = (torch.where(hidden if side else ~hidden, original.numbers + 1, original.numbers) for side in (True, False))
    assert torch.equal(loss(elsewhere), loss(original.numbers))
    assert not torch.allclose(loss(at_hidden), loss(original.numbers))


def test_a_row_alone_has_the_loss_it_has_in_the_batch(mixed):
    data, model, objective = mixed
    batch = objective.prepare(data.batch(np.arange(30)), seeded())
    together = objective.loss(model, batch, "model").per_row()
    alone = torch.cat([objective.loss(model, batch.select(slice(i, i + 1)), "model").per_row() for i in range(30)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_only_encoders_and_decoders_learn(mixed):
    data, model, objective = mixed
    assert objective.heads == []
    moved = objective.parameters_of(model, "model")
    expected = [*model.encoders.parameters(), *objective.parameters()]
    assert {id(p) for p in moved} == {id(p) for p in expected}
    loss = objective.loss(model, objective.prepare(data.batch(np.arange(50)), seeded()), "model").mean()
    gradients = torch.autograd.grad(loss, moved, allow_unused=True)
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_pretraining_on_breast_cancer_beats_the_mean():
    frame = load_breast_cancer(as_frame=True).data
    table = pa.Table.from_pandas(frame, preserve_index=False).take(np.random.default_rng(0).permutation(len(frame)))
    train, held = table.slice(0, 400), table.slice(400)
    torch.manual_seed(0)
    schema, model = table_model(train, {n: infer(p) for n, p in profile(train).items()})
    data, held = schema.encode(train), schema.encode(held)
    objective = find.make("objectives", "masked")

    def validate(learner):
        rng = seeded(1)
        losses = [learner(learner.objective.prepare(b, rng)) for b in in_order(held, 256)]
        return {"loss": float(sum(x.terms["table"].total.sum() for x in losses) / sum(x.terms["table"].count.sum() for x in losses))}

    settings = Settings(device="cpu", precision="fp32", lr=3e-3, weight_decay=0.01, keep="last", validations=2)
    context = Context(schema, len(data), 64, 120, 0)
    fitted = fit(Stage("pretrain", model, objective, [], Rows(data, 64, 0), context, settings, 120, validate))
    rng = seeded(1)
    squares = cells = 0.0
    for batch in in_order(held, 256):
        prepared = objective.prepare(batch, rng)
        x, original = prepared.inputs["table"], prepared.extra["table.original"]
        hidden = original.present & ~x.present
        squares, cells = squares + float((0.5 * original.numbers.square() * hidden).sum()), cells + float(hidden.sum())
    assert fitted.history[-1]["loss"] < 0.4 * squares / cells  # the mean is 0 after standardising


# Text


class Echo(Encoder):
    """z is a one-hot of the id: a loss can be computed by hand."""

    width = 40

    def forward(self, x, mask=None, state=None):
        return Encoded(torch.nn.functional.one_hot(x.values, 40).float(), x.mask)


class Ids:
    """A text kind with 40 ids; odd ids go on the word before."""

    place, form, mask_id, vocabulary_size, special_ids, spec = "own", "ids", 2, 40, range(5), {"text": {}}

    def continues(self, ids):
        return ids % 2 == 1


class Given:
    """A schema of one text."""

    def encoders(self):
        return {"note": {"note": Ids()}}


def text(settings: dict, lengths: list[int]):
    torch.manual_seed(0)
    model = Model({"note": Echo()}, None, {}, {})
    objective = find.make("objectives", {"masked": settings})
    objective.build(model, Given())
    lengths = torch.tensor(lengths)
    values = torch.randint(5, 40, (len(lengths), int(lengths.max())), generator=seeded())
    inside = torch.arange(values.shape[1]) < lengths[:, None]
    return model, objective, Batch({"note": Ragged(values * inside, lengths)})


def test_text_rates_are_those_of_the_paper():
    _, objective, batch = text({}, [200] * 300)
    prepared = objective.prepare(batch, seeded(1))
    positions, ids = prepared.extra["note.positions"], prepared.extra["note.ids"]
    assert (positions.lengths == 30).all()
    before, after = batch.inputs["note"].values, prepared.inputs["note"].values
    assert torch.equal(before.gather(1, positions.values), ids.values)
    now = after.gather(1, positions.values)
    masked, kept = (now == 2).float().mean(), (now == ids.values).float().mean()
    assert float(masked) == pytest.approx(0.8, abs=0.02)
    assert float(kept) == pytest.approx(0.1 + 0.1 / 35, abs=0.02)  # a random token may be the same by chance
    touched = (before != after).sum(1)
    untouched = torch.ones_like(before, dtype=torch.bool).scatter(1, positions.values, False)
    assert torch.equal(before[untouched], after[untouched]) and (touched <= 30).all()
    assert int(now.min()) >= 2 and not ((now > 2) & (now < 5)).any()


def test_text_loss_is_a_double_loop_and_rows_stand_alone():
    model, objective, batch = text({}, [7, 30, 1, 0, 12])
    prepared = objective.prepare(batch, seeded(2))
    term = objective.loss(model, prepared, "model").terms["note"]
    assert term.count.tolist() == [1, 4, 1, 0, 2]
    logits = objective.decoders[0].net(model.encoders["note"](prepared.inputs["note"]).z).detach()
    for b in range(5):
        total = 0.0
        for k in range(int(term.count[b])):
            position = int(prepared.extra["note.positions"].values[b, k])
            total -= float(logits[b, position].log_softmax(0)[batch.inputs["note"].values[b, position]])
        assert float(term.total[b].detach()) == pytest.approx(total, abs=1e-4)
    alone = torch.cat([objective.loss(model, prepared.select(slice(i, i + 1)), "model").per_row() for i in range(5)])
    assert torch.allclose(alone, objective.loss(model, prepared, "model").per_row(), atol=1e-5)


def test_whole_words_are_hidden_together():
    _, objective, batch = text({"whole_words": True}, [60, 3, 25, 1] * 20)
    prepared = objective.prepare(batch, seeded(3))
    positions, values = prepared.extra["note.positions"], batch.inputs["note"].values
    for b in range(80):
        length = int(batch.inputs["note"].lengths[b])
        starts = [t for t in range(length) if t == 0 or values[b, t] % 2 == 0]
        words = [set(range(s, e)) for s, e in zip(starts, starts[1:] + [length], strict=True)]
        hidden = set(positions.values[b, : positions.lengths[b]].tolist())
        touched = [w for w in words if w & hidden]
        assert hidden and set().union(*touched) == hidden
        assert len(hidden) <= max(round(0.15 * length), 1) or len(touched) == 1


# Pictures


class Squares(Encoder):
    """4 x 4 pixels a token; z are the pixels themselves."""

    width = 48
    spec = {"squares": {}}

    def forward(self, x, mask=None, state=None):
        z = torch.nn.functional.pixel_unshuffle(x, 4)
        return Encoded(z.flatten(2).transpose(1, 2), grid=(z.shape[2], z.shape[3]))


class Picture:
    place, form, channels_, size_, spec = "own", "picture", 3, [16, 16], {"picture": {}}


class Album:
    def encoders(self):
        return {"scan": {"scan": Picture()}}


def test_picture_hides_half_of_the_patches_and_counts_only_their_pixels():
    torch.manual_seed(0)
    model, objective = Model({"scan": Squares()}, None, {}, {}), find.make("objectives", "masked")
    objective.build(model, Album())
    x = torch.rand(6, 3, 16, 16, generator=seeded())
    known = torch.tensor([True] * 5 + [False])
    prepared = objective.prepare(Batch({"scan": x}, known={"scan": known}), seeded(1))
    hidden = prepared.extra["scan.hidden"]
    assert hidden.sum((1, 2)).tolist() == [32] * 5 + [0]
    out = objective.decoders[0].net(model.encoders["scan"](prepared.inputs["scan"]).z).detach()
    out = out.view(6, 4, 4, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(6, 3, 16, 16)
    term = objective.loss(model, prepared, "model").terms["scan"]
    for b in range(6):
        total = 0.0
        for i in range(8):
            for j in range(8):
                patch = (b, slice(None), slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
                if hidden[b, i, j]:
                    total += float((out[patch] - x[patch]).abs().mean())
                else:
                    assert torch.equal(prepared.inputs["scan"][patch], x[patch])
        assert float(term.total[b].detach()) == pytest.approx(total, abs=1e-3)
    alone = torch.cat([objective.loss(model, prepared.select(slice(i, i + 1)), "model").per_row() for i in range(6)])
    assert torch.allclose(alone, objective.loss(model, prepared, "model").per_row(), atol=1e-5)


# Series


def test_series_loss_is_a_double_loop_and_gaps_are_not_asked_for():
    rng = np.random.default_rng(0)
    rows = [[[float(v) if rng.random() > 0.2 or c else None for c, v in enumerate(step)] for step in rng.normal(3, 2, (n, 2))] for n in (12, 1, 0, 20, 7)]
    schema = Schema({"x": find.make("kinds", "series")}, {})
    table = pa.table({"x": pa.array(rows, pa.list_(pa.list_(pa.float64())))})
    schema.fit(table)
    encoder = find.make("encoders", {"lstm": {"width": 8}})
    encoder.build(schema.encoders()["x"])
    model, objective = Model({"x": encoder}, None, {}, {}).eval(), find.make("objectives", {"masked": {"steps": 0.3}})
    objective.build(model, schema)
    batch = schema.encode(table).batch(np.arange(5))
    prepared = objective.prepare(batch, seeded(1))
    before, after, hidden = batch.inputs["x"].values, prepared.inputs["x"].values, prepared.extra["x.hidden"]
    assert hidden.sum(1).tolist() == [4, 1, 0, 6, 2] and before.shape[2] == 3  # two channels, and the flag of the first
    term = objective.loss(model, prepared, "model").terms["x"]
    out = objective.decoders[0].net(model.encoders["x"](prepared.inputs["x"]).z).detach()
    for b in range(5):
        total, count = 0.0, 0
        for t in range(len(rows[b])):
            assert (after[b, t] == 0).all() if hidden[b, t] else torch.equal(after[b, t], before[b, t])
            for c in range(2):
                if hidden[b, t] and rows[b][t][c] is not None:
                    total, count = total + 0.5 * float(before[b, t, c] - out[b, t, c]) ** 2, count + 1
        assert float(term.total[b].detach()) == pytest.approx(total, abs=1e-4) and int(term.count[b]) == count
    alone = torch.cat([objective.loss(model, prepared.select(slice(i, i + 1)), "model").per_row() for i in range(5)])
    assert torch.allclose(alone, objective.loss(model, prepared, "model").per_row(), atol=1e-5)


def test_what_cannot_be_hidden_is_refused():
    class Noise(Picture):
        form, spec = "none", {"noise": {}}

    class Schemas:
        def encoders(self):
            return {"z": {"z": Noise()}}

    model = Model({"z": Squares()}, None, {}, {})
    with pytest.raises(Refusal, match="cannot be hidden"):
        find.make("objectives", "masked").build(model, Schemas())
    with pytest.raises(Refusal, match="no input 'scam'"):
        find.make("objectives", {"masked": {"inputs": ["scam"]}}).build(model, Schemas())
