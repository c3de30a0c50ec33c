"""Scores against slow definitions, and an audit that knows a strange row from a familiar one."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright.audits import ood
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.subject import Subject


def test_mahalanobis_by_definition():
    g = torch.Generator().manual_seed(0)
    at, f, classes = torch.randn(60, 4, generator=g).double(), torch.randn(7, 4, generator=g).double(), torch.arange(60) % 3 * 2
    means = [at[classes == k].mean(0) for k in (0, 2, 4)]
    cov = sum((at[i] - means[int(classes[i]) // 2]).outer(at[i] - means[int(classes[i]) // 2]) for i in range(60)) / 60
    inverse = torch.linalg.inv(cov + 1e-3 * cov.diagonal().mean() * torch.eye(4, dtype=torch.float64))
    expected = [min(float((v - c) @ inverse @ (v - c)) for c in means) for v in f]
    assert np.allclose(ood.mahalanobis(f, at, classes), expected)


def test_neighbour_is_scikit_learns():
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    g = np.random.default_rng(0)
    f, at = g.standard_normal((9, 5)), g.standard_normal((40, 5))
    expected = NearestNeighbors(n_neighbors=10).fit(normalize(at)).kneighbors(normalize(f))[0][:, -1]
    assert np.allclose(ood.neighbour(torch.from_numpy(f), torch.from_numpy(at)), expected)
    own = NearestNeighbors(n_neighbors=10).fit(normalize(at)).kneighbors()[0][:, -1]
    assert np.allclose(ood.neighbour(torch.from_numpy(at), torch.from_numpy(at), same=True), own, atol=1e-6)


class Plain:
    """Two classes by the first of two numbers; features are the numbers, the second put on the same scale."""

    def __init__(self):
        kinds = {n: Number(scale=False) for n in "ab"}
        for k in kinds.values():
            k.fit(pa.chunked_array([[0.0, 1.0]]))
        label = Category(["0", "1"])
        label.labels_ = ["0", "1"]
        self.schema = Schema(kinds, {"label": label})

    def open(self, target, table):
        opened = Plain()
        opened.x = torch.from_numpy(np.stack([table.column(n).to_numpy() for n in "ab"], 1)).float()
        return opened

    def logits(self, x, rows):
        return torch.stack([-x[:, 0], x[:, 0]], 1)

    def features(self, x, rows):
        return torch.cat([x, torch.ones(len(x), 1)], 1)

    def predict(self, table):
        p = self.logits(self.open("", table).x, None).softmax(1)
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}


def tables(far):
    g = np.random.default_rng(0)
    x = {s: g.standard_normal((200, 2)) for s in ("validation", "test")} | {"ood": g.standard_normal((200, 2)) * 0.5 + far}
    return {s: pa.table({"a": v[:, 0], "b": v[:, 1], "label": ["0"] * len(v)}) for s, v in x.items()}


def test_a_sorted_test_split_is_halved_at_random():
    model = Plain()
    some = tables(np.array([0.0, -4.0]))
    del some["validation"]
    some["test"] = some["test"].sort_by("b")
    found = {m.metric: m for m in ood.OOD("mahalanobis").measure(Subject(model, model.schema, some, open=model.open))}
    assert found["ood.auroc"].value > 0.9


def test_the_audit_tells_the_strange_from_the_familiar():
    model = Plain()
    far = np.array([4.0, -4.0])  # its mean is that of the others
    found = {m.metric: m for m in ood.OOD("mahalanobis").measure(Subject(model, model.schema, tables(far), open=model.open))}
    line, gain = found["ood.auroc"], found["ood.gain_over_trivial"]
    assert line.low > 0.95 and 0.02 < line.details["flagged"]["test"] < 0.1 and line.details["flagged"]["ood"] > 0.9
    assert gain.value == pytest.approx(line.value - line.details["trivial_auroc"])
    same = {m.metric: m for m in ood.OOD().measure(Subject(model, model.schema, {**tables(far), "ood": tables(far)["test"]}, open=model.open))}
    assert same["ood.auroc"].value == pytest.approx(0.5)


def test_one_strange_row_a_hundred_times_is_one():
    model, some = Plain(), tables(np.array([4.0, -4.0]))
    some["ood"] = some["ood"].take(pa.array([0] * 100))
    found = ood.OOD("mahalanobis").measure(Subject(model, model.schema, some, open=model.open))
    assert found[0].value > 0.9 and all(m.low is None or np.isnan(m.low) for m in found)
    clustered = {s: t.append_column("scan", pa.array([f"{s}{i // 50}" for i in range(200)])) for s, t in tables(np.array([2.0, -2.0])).items()}
    ends = [ood.OOD("mahalanobis").measure(Subject(model, model.schema, clustered, open=model.open, clusters=c))[0] for c in (None, "scan")]
    assert ends[0].high - ends[0].low < ends[1].high - ends[1].low


def test_nearly_one_picture_is_one():
    g = np.random.default_rng(0)
    usual = g.integers(0, 256, (60, 1, 8, 8))
    again = np.concatenate([usual[:1]] * 30)
    again[np.arange(30), 0, g.integers(0, 8, 30), g.integers(0, 8, 30)] += 2
    unit = ood.one_of_near([usual[10:], again])
    assert len(set(unit[:50])) == 50 and len(set(unit[50:])) == 1


def test_strange_rows_that_the_model_learnt_from_are_left_out():
    model, some = Plain(), tables(np.array([4.0, -4.0]))
    known = some["ood"].slice(0, 190)
    found = ood.OOD().measure(Subject(model, model.schema, some | {"train": known}, open=model.open))
    assert all(m.value is None and m.reasons == ["ood.no_data"] and "10 rows of 'ood' are no training rows" in m.details["why"] for m in found)
    assert ood.OOD().measure(Subject(model, model.schema, some | {"train": known.slice(0, 50)}, open=model.open))[0].n == 350
    assert ood.OOD().measure(Subject(model, model.schema, some | {"train": some["validation"]}, open=model.open))[0].n == 400


def test_near_and_far_have_figures_of_their_own_and_stand_for_strange_rows():
    model, some = Plain(), tables(np.array([4.0, -4.0]))
    some |= {"ood_far": some.pop("ood"), "ood_near": tables(np.array([1.0, -1.0]))["ood"]}
    found = {(m.metric, m.slice): m for m in ood.OOD("mahalanobis").measure(Subject(model, model.schema, some, open=model.open))}
    assert set(found) == {(f"ood.{m}", s) for m in ("auroc", "gain_over_trivial") for s in (None, "ood=near", "ood=far")}
    near, whole, far = (found["ood.auroc", s] for s in ("ood=near", None, "ood=far"))
    assert near.value < whole.value < far.value and far.low > 0.95 and whole.n == 600 and near.n == 400


def test_validation_rows_that_are_test_rows_are_left_out():
    model, some = Plain(), tables(np.zeros(2))
    alone = {m.metric: m for m in ood.OOD().measure(Subject(model, model.schema, some, open=model.open))}
    both = {**some, "validation": pa.concat_tables([some["validation"], *[some["test"]] * 9])}
    found = {m.metric: m for m in ood.OOD().measure(Subject(model, model.schema, both, open=model.open))}
    assert found["ood.auroc"].value == pytest.approx(alone["ood.auroc"].value)
    none = ood.OOD().measure(Subject(model, model.schema, {**some, "validation": some["test"]}, open=model.open))
    assert all(m.value is None and m.reasons == ["ood.no_data"] and "validation" in m.details["why"] for m in none)


def test_trivial_statistics_see_files_rare_names_and_spelling():
    import io

    from PIL import Image

    from modelwright.kinds.picture import Picture
    from modelwright.kinds.text import Text

    def cells(form, seed):
        out = []
        for p in np.random.default_rng(seed).integers(0, 255, (30, 8, 8), np.uint8):
            Image.fromarray(p).save(file := io.BytesIO(), form)
            out.append(file.getvalue())
        return out

    said = {"validation": ["A bad day.", "Some good days."] * 15, "ood": ["A BAD DAY!!", "zany 12 days"] * 15}
    sites = {"validation": ["n"] * 28 + ["w"] * 2, "ood": ["w"] * 30}
    rows = {s: pa.table({"scan": cells("png" if s == "validation" else "bmp", len(s)), "t": said[s], "site": sites[s]}) for s in said}
    kinds = {"scan": Picture(size=8, channels=1, augment=()), "t": Text(), "site": Category()}
    schema = Schema(kinds, {})
    schema.fit(rows["validation"])
    found = ood.trivial_of(schema, rows, "validation")
    for name in ("file format of scan", "rarity of site"):
        assert found[name]["ood"].min() > np.median(found[name]["validation"]), name
    for name, at in (("capitals of t", 0), ("marks of t", 0), ("digits of t", 1), ("strange words of t", 1)):
        assert found[name]["ood"][at] > found[name]["validation"].max(), name


def test_the_company_of_a_row_does_not_tell_its_split():
    model, some = Plain(), tables(np.array([2.0, -2.0]))
    model.open = lambda target, table: reading(Plain.open(model, target, table))

    def reading(opened):
        opened.features = lambda x, rows: torch.cat([x.mean(0).expand_as(x), torch.ones(len(x), 1)], 1)  # of the batch
        return opened

    found = ood.OOD().measure(Subject(model, model.schema, some, open=model.open))
    assert abs(found[0].value - 0.5) < 0.1


def test_trivial_statistics_see_one_column_and_how_numbers_are_written():
    model, g = Plain(), np.random.default_rng(0)
    x = {s: g.standard_normal((200, 2)) for s in ("validation", "test", "late", "round")}
    x["late"][:, 1] += 3
    x["round"] = x["round"].round(1)
    found = ood.trivial_of(model.schema, {s: pa.table({"a": v[:, 0], "b": v[:, 1]}) for s, v in x.items()}, "validation")
    assert np.median(found["number 1 of table"]["late"]) > 2.5 > 1.2 > np.median(found["number 1 of table"]["test"])
    assert found["digits"]["round"].min() > 3 > np.median(found["digits"]["test"])


def test_without_ood_rows_nothing_and_without_gradients_the_probability():
    model = Plain()
    two = tables(np.zeros(2))
    assert ood.OOD().measure(Subject(model, model.schema, {"test": two["test"]})) == []
    found = ood.OOD().measure(Subject(model, model.schema, {"test": two["test"], "ood": two["ood"]}))
    assert found[0].details["score"] == "sureness" and found[0].value is not None


def test_trivial_statistics_see_empty_cells_far_numbers_and_strange_letters():
    from modelwright.kinds.text import Text

    model, g = Plain(), np.random.default_rng(0)
    x = {s: g.standard_normal((200, 2)) for s in ("validation", "test", "far", "empty")}
    x["far"][::2, 0], x["far"][1::2, 1] = 6.0, -6.0
    tables = {s: pa.table({"a": v[:, 0], "b": v[:, 1]}) for s, v in x.items()}
    tables["empty"] = pa.table({"a": pa.array([None] * 200, pa.float64()), "b": x["empty"][:, 1]})
    found = ood.trivial_of(model.schema, tables, "validation")
    assert found["furthest number of table"]["far"].min() > 3 and found["furthest number of table"]["test"].mean() < 2
    assert found["empty or unknown cells of table"]["empty"].min() > 1e3 and found["empty or unknown cells of table"]["test"].max() == 0
    text = Text()
    said = {"validation": pa.table({"t": ["a bad day", "good"] * 20}), "ood": pa.table({"t": ["天气很好", "good"] * 20})}
    schema = Schema({"t": text}, {})
    schema.fit(said["validation"])
    strange = ood.trivial_of(schema, said, "validation")["strange letters of t"]
    assert strange["validation"].max() == 0 and strange["ood"][0] > 0 and strange["ood"][1] == 0


def test_trivial_statistics_see_how_rough_a_picture_is():
    """The same pixels in another order: mean and spread say nothing."""
    from modelwright.kinds.picture import Picture

    g = np.random.default_rng(0)
    smooth = np.sort(g.random((30, 64)), 1).reshape(30, 1, 8, 8).astype(np.float32)
    mixed = g.permuted(smooth.reshape(30, 64), axis=1).reshape(30, 1, 8, 8)
    kind = Picture(size=8, channels=1, augment=())
    kind.size_, kind.channels_ = [8, 8], 1
    kind.spec = {"picture": {"size": 8, "channels": 1, "augment": []}}
    cells = {s: pa.table({"scan": kind.answer("x", Prediction(value=torch.from_numpy(v)))["x"]}) for s, v in (("validation", smooth), ("ood", mixed))}
    found = ood.trivial_of(Schema({"scan": kind}, {}), cells, "validation")["roughness of scan"]
    assert found["ood"].min() > 3 > np.median(found["validation"])


def test_a_model_of_texts_beside_numbers_shows_what_its_head_reads():
    """In the rows' own order, whatever lengths go together; as each row alone."""
    from modelwright import artifact
    from modelwright.kinds.text import Text

    said = ["a bad day " * (i % 7) + "今天很好" for i in range(40)]
    table = pa.table({"t": said, "a": np.arange(40.0), "label": ["0", "1"] * 20})
    schema = Schema({"t": Text(), "a": Number()}, {"label": Category()})
    schema.fit(table)
    torch.manual_seed(0)
    parts = {"encoders": {"t": "lstm", "table": "mlp"}, "fusion": "concat", "heads": {"label": "binary"}, "decoders": {}}
    model = artifact.Loaded(artifact.assemble_model(schema, parts).eval(), schema, batch_size=8)
    logits, features = model.inward("label", table)
    assert torch.allclose(logits.softmax(1), model.predict(table)["label"].probabilities, atol=1e-6)
    alone = [model.inward("label", table.slice(i, 1)) for i in range(0, 40, 9)]
    assert torch.allclose(torch.cat([f for _, f in alone]), features[::9], atol=1e-5) and features.std(0).max() > 1e-3
    assert model.open("label", table) is None  # words have no slopes
    splits = {"validation": table, "test": table.set_column(0, "t", pa.array([v + " 好" for v in said])), "ood": table.set_column(0, "t", pa.array(said[::-1]))}
    for name in ("neighbour", "mahalanobis", "energy"):
        found = ood.OOD(name).measure(Subject(model, schema, splits, open=model.open))
        assert {m.details["score"] for m in found} == {name} and found[0].value is not None


def test_the_default_tells_what_lies_far_out_in_one_direction():
    """A net that grows with its input: far out its features are longer, not turned, and it is surer. Neighbours on the unit sphere hardly see it."""
    model, some = Plain(), tables(np.array([9.0, 0.0]))
    model.features = lambda x, rows: torch.relu(torch.cat([x, -x], 1))
    model.inward = lambda target, rows: (model.logits(x := model.open(target, rows).x, None), model.features(x, None))
    line = ood.OOD().measure(Subject(model, model.schema, some))[0]
    assert line.details["score"] == "mahalanobis" and line.low > 0.95
    assert line.details["aurocs"]["neighbour"] < 0.75 and line.details["aurocs"]["energy"] < 0.05
