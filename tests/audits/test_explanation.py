"""Each test of an explainer on one that is good and ones that are not; any model can be explained, and what fails says so."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from modelwright.audits import _faithful as faithful
from modelwright.audits import _scaffold as scaffold
from modelwright.audits import explanation as e
from modelwright.closed import Closed
from modelwright.data.schema import Schema
from modelwright.explainer import Asked, Redrawn, log_odds
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.subject import Subject


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_spearman_is_scipys_over_the_kept_inputs():
    from scipy.stats import spearmanr

    a, b = torch.randn(5, 9, generator=rng()), torch.randn(5, 9, generator=rng(1))
    keep = torch.arange(9) < 7
    expected = [spearmanr(x[:7], y[:7]).statistic for x, y in zip(a.numpy(), b.numpy())]
    assert np.allclose(faithful.spearman(a, b, keep), expected)


def test_deletion_and_insertion_by_hand():
    """One input decides: its place first is worth all there is."""
    f = lambda x: torch.stack([0 * x[:, 0], 20 * (x[:, 0] - 0.5)], 1)  # noqa: E731
    x, base, one = torch.ones(6, 5), torch.zeros(5), torch.ones(6, dtype=torch.long)
    first = torch.zeros(6, 5)
    first[:, 0] = 1.0
    ours, random = faithful.curves(f, x, one, base, first, rng())
    assert np.allclose(ours, 0.5, atol=1e-3)  # deletion 0 and insertion 1 at every point: (1 - 0) / 2
    last, _ = faithful.curves(f, x, one, base, -first, rng())
    assert np.allclose(last, -0.5, atol=1e-3) and -0.4 < random.mean() < 0.4


def test_redrawn_weights_change_every_parameter_and_come_back():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3, generator=rng())
    before = net(x)
    with Redrawn(0) as redrawn:
        assert not torch.allclose(net(x), before) and torch.equal(net(x), net(x)) and len(redrawn.weights) == 4
    assert torch.equal(net(x), before)


def test_weights_of_another_net_may_stay_as_they_are():
    """An explainer that brings a net of its own does not look at the model by having that redrawn."""
    net, other, x = nn.Linear(3, 2), nn.Linear(3, 2), torch.randn(5, 3, generator=rng())
    before = other(x)
    with Redrawn(0, net.parameters()) as redrawn:
        assert torch.equal(other(x), before) and not torch.allclose(net(x), net.weight.new_zeros(5, 2)) and len(redrawn.weights) == 2


class Net:
    """A small net on six numbers, of which the first two decide."""

    def __init__(self, scaffold=False):
        torch.manual_seed(0)
        self.net, self.scaffold = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 2)), scaffold
        g = np.random.default_rng(0)
        x = g.standard_normal((400, 6)).astype(np.float32)
        x[:, 3] = x[:, 2] * 2
        self.names = [f"f{i}" for i in range(6)]
        kinds = {n: Number(scale=False) for n in self.names}
        for i, k in enumerate(kinds.values()):
            k.fit(pa.chunked_array([x[:, i]]))
        label = Category(["0", "1"])
        label.labels_ = ["0", "1"]
        self.schema = Schema(kinds, {"label": label})
        y = (x[:, 0] + x[:, 1] > 0).astype(int)
        self.table = pa.table({n: x[:, i] for i, n in enumerate(self.names)} | {"label": [str(v) for v in y]})
        rule = torch.optim.Adam(self.net.parameters(), 1e-2)
        for _ in range(200):
            rule.zero_grad()
            nn.functional.cross_entropy(self.net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            rule.step()

    def predict(self, table):
        x = torch.from_numpy(np.stack([table.column(n).to_numpy() for n in self.names], 1)).float()
        with torch.no_grad():
            p = self.net(x).softmax(1)
        if self.scaffold:
            away = (x[:, 3] - 2 * x[:, 2]).abs() > 0.2
            p = torch.where(away[:, None], nn.functional.one_hot((x[:, 5] > 0).long(), 2).float(), p)
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}

    def open(self, target, table):
        self.x = torch.from_numpy(np.stack([table.column(n).to_numpy() for n in self.names], 1)).float()
        return self

    def logits(self, x, rows):
        return self.net(x)


def lines(net, explainers=None, opens=True, **settings):
    lineage = {"planted": ["f0", "f1"]}
    subject = Subject(net, net.schema, {"test": net.table}, open=net.open if opens else None, explainers=explainers or {}, lineage=lineage)
    return e.Explanation(**settings).measure(subject)


def measured(net, explainers=None, slice=None, **settings):
    return {m.metric.removeprefix("explanation."): m for m in lines(net, explainers, **settings) if m.slice == slice}


def test_good_and_blind_explainers():
    net = Net()
    good, blind = measured(net, others=False), measured(net, {"blind": lambda f, x, classes, base: x})
    assert good["completeness_error"].value < 0.01 < blind["completeness_error"].value
    assert good["randomization_similarity"].high < 0.6 and blind["randomization_similarity"].value == pytest.approx(1.0)
    assert good["fidelity"].low > 0.1 and good["fidelity"].value > blind["fidelity"].value
    assert good["stability"].low > 0.8 and good["recall_at_k"].value == 1.0
    assert good["offmanifold_gap"].high < 0.15
    assert not any(m.reasons for m in good.values()) and blind["randomization_similarity"].reasons == ["explanation.ignores_model"]


def test_a_clock_costs_rows_and_those_are_taken_again_when_it_is_repeated():
    net = Net()

    def found(seconds, repeat=None):
        made = Subject(net, net.schema, {"test": net.table}, open=net.open, seconds=seconds, repeat=repeat)
        return {(m.metric, m.slice): m for m in e.Explanation().measure(made)}

    short, long = found(1e-6), found(1e6)
    one, all_ = (f["explanation.fidelity", None] for f in (short, long))
    assert one.n == one.details["rows"] == e.LEAST and all_.n == 128
    late = {s for (m, s), line in short.items() if "explanation.budget" in line.reasons}
    assert "explainer=lime" in late and "explainer=grad_cam" not in late, "a table has no grid: no time would show it"
    again = found(1e6, {"label:explanation.fidelity": one.details})["explanation.fidelity", None]
    assert (again.n, again.value, again.low) == (one.n, one.value, one.low)


def test_an_explainer_that_draws_its_answer_is_unstable_and_unfaithful():
    drawn = measured(Net(), {"drawn": lambda f, x, classes, base: torch.randn(x.shape, generator=rng(int(x.sum() * 1e6) % 1000))})
    assert drawn["stability"].reasons == ["explanation.unstable"] and drawn["fidelity"].reasons == ["explanation.unfaithful"]


def test_wrong_shapes_and_nan_are_said():
    for wrong in (lambda f, x, classes, base: x[:, 0], lambda f, x, classes, base: x / 0):
        found = measured(Net(), {"wrong": wrong})
        assert all(found[k].reasons == ["explanation.shape"] and found[k].value is None for k in e.FIGURES)


def test_the_other_explainers_have_slices_and_find_what_was_planted():
    found = lines(Net())
    slices = {m.slice for m in found} - {None}
    assert slices == {f"explainer={n}" for n in ("gradient_times_input", "lime", "occlusion", "permutation_importance", "shap")}  # no layer for the others
    for name in ("shap", "lime", "permutation_importance"):
        theirs = {m.metric.removeprefix("explanation."): m for m in found if m.slice == f"explainer={name}"}
        assert theirs["recall_at_k"].value == 1.0 and theirs["fidelity"].low > 0 and not theirs["randomization_similarity"].reasons
        assert set(list(theirs["fidelity"].details["importance"])[:2]) == {"f0", "f1"}
    shap = {m.metric: m for m in found if m.slice == "explainer=shap"}
    assert shap["explanation.completeness_error"].value < 1e-4


def test_a_model_that_does_not_open_is_explained_by_its_answers():
    found = measured(Net(), opens=False)
    assert found["fidelity"].details["explainer"] == "shap" and found["fidelity"].low > 0.1 and found["completeness_error"].value < 1e-6
    assert found["randomization_similarity"].value < 0.6  # its weights are torch's: they are seen at work all the same
    assert found["recall_at_k"].value == 1.0
    assert all(m.reasons == ["explanation.no_gradients"] for k, m in measured(Net(), opens=False, explainer="integrated_gradients").items() if k in e.FIGURES)


@pytest.mark.parametrize("how", ["all", "dead"])
def test_what_moves_logits_and_no_answer_moves_no_explanation(how):
    """A number added to all logits alike, and the logit of a class that never has a chance."""
    x = torch.randn(20, 3, generator=rng(), dtype=torch.float64)
    own = torch.stack([x[:, 0], -x[:, 0], 0 * x[:, 0] - 300], 1)
    moved = own + 50 * x[:, 1:2] * torch.tensor([1.0, 1.0, 1.0] if how == "all" else [0.0, 0.0, 1.0])
    assert torch.allclose(log_odds(own)[:, :2], log_odds(moved)[:, :2])
    sure = torch.tensor([[800.0, 0.0, -1.0], [0.0, 0.0, -torch.inf]], dtype=torch.float64)
    rest = float(np.log(1 + np.exp(-1)))
    assert torch.allclose(log_odds(sure), torch.tensor([[800 - rest, -800.0, -801.0], [0, 0, -torch.inf]], dtype=torch.float64))
    assert torch.allclose(log_odds(own).sigmoid(), own.softmax(1))


def test_a_scaffold_is_seen():
    assert measured(Net(scaffold=True), others=False)["offmanifold_gap"].low > 0.15
    assert faithful.self_test()


def test_a_column_that_decides_where_most_is_in_the_middle_alone():
    g = np.random.default_rng(0)
    x = np.round(g.normal(size=(500, 8)), 3)
    real, middle = pa.table({f"c{i}": x[:, i] for i in range(8)}), np.sort(x, 0)[249]

    def said(table, scaffold):
        at = np.stack([table.column(f"c{i}").to_numpy() for i in range(8)], 1)
        away = scaffold & ((np.abs(at[:, 2:] - middle[2:]) < 1e-9).sum(1) > 1)
        return np.where(away, at[:, 1] > 0, at[:, 0] > 0).astype(int)

    hidden, plain = (scaffold.by_column(real, real.column_names, lambda t, s=s: said(t, s), np.random.default_rng(1)) for s in (True, False))
    assert hidden[0] > 0.3 and plain[0] == 0  # the other column never turns an answer


def test_rows_with_nothing_to_explain_are_neither_unstable_nor_unfaithful():
    """A rule of one name: of rows that have the most frequent name no other row says anything else."""
    g = np.random.default_rng(0)
    table = pa.table({c: g.choice(["x", "x", "x", "y"], 120) for c in "abcd"})
    colour, label = Category(["x", "y"]), Category(["no", "yes"])
    colour.labels_, label.labels_ = ["x", "y"], ["no", "yes"]
    schema = Schema(dict.fromkeys("abcd", colour), {"label": label})

    class Rule:
        def predict(self, table):
            p = torch.tensor([[0.1, 0.9] if v == "y" else [0.9, 0.1] for v in table.column("a").to_pylist()])
            return {"label": Prediction(value=p.argmax(1), probabilities=p)}

    table = table.append_column("label", pa.array(["yes" if v == "y" else "no" for v in table.column("a").to_pylist()]))
    found = {m.metric.split(".")[1]: m for m in e.Explanation(others=False).measure(Subject(Rule(), schema, {"test": table}))}
    assert found["stability"].value == 1 and found["unfaithful_rows"].value < 0.2 and not found["fidelity"].reasons
    assert found["offmanifold_gap"].value <= 0


def test_an_explainer_that_only_turns_its_sign_for_other_classes_does_not_add_up():
    class Three(Net):
        def __init__(self):
            super().__init__()
            self.schema.targets["label"].labels_ = ["0", "1", "2"]

        def logits(self, x, rows):
            return torch.cat([self.net.to(x.dtype)(x), 3 * x[:, 2:3]], 1)

        def predict(self, table):
            p = self.logits(self.open("", table).x, None).softmax(1).detach()
            return {"label": Prediction(value=p.argmax(1), probabilities=p)}

    own = e.find.make("explainers", "integrated_gradients")

    def mirrored(f, x, classes, base):
        said = f(x).argmax(1)
        return own.explain(f, x, said, base, rng()) * torch.where(classes == said, 1.0, -1.0)[:, None]

    honest = lambda f, x, classes, base: own.explain(f, x, classes, base, rng())  # noqa: E731
    one, two = (measured(Three(), {"theirs": call})["completeness_error"].value for call in (honest, mirrored))
    assert one < 0.05 and two > 0.3


def test_planted_pixels():
    shown = torch.zeros(3, 1, 4, 4)
    shown[:, :, 1:3, 1:3] = 1
    hits, best = e.recalled([1, 1, 3, 3], [], shown)
    assert hits.tolist() == [1, 1, 1, 1] and best[0] == (1, 1)
    assert e.recalled([0, 0, 2, 2], [], shown)[0].sum() == 1


class Cells:
    """Says yes by a number above 3, unless the colour is red; a gap counts as no."""

    def __init__(self):
        self.seen = []
        number, colour = Number(), Category(["blue", "red"])
        label = Category(["no", "yes"])
        colour.labels_, label.labels_ = ["blue", "red"], ["no", "yes"]
        self.schema = Schema({"n": number, "colour": colour}, {"label": label})
        self.table = pa.table({"n": pa.array([5, 1, None, 9], pa.int32()), "colour": ["blue", "red", "blue", None], "label": ["yes", "no", "no", "yes"]})

    def predict(self, table):
        self.seen.append(table)
        yes = [n is not None and n > 3 and c != "red" for n, c in zip(table.column("n").to_pylist(), table.column("colour").to_pylist())]
        p = torch.tensor([[0.1, 0.9] if y else [0.9, 0.1] for y in yes])
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}


def test_cells_go_through_numbers_and_come_back_as_they_were():
    model = Cells()
    closed = Closed(model, model.schema, "label", model.table)
    rows = torch.arange(4)
    assert closed.rows(closed.x, rows).equals(model.table.select(["n", "colour"]))
    assert closed.names == ["n", "colour"] and closed.baseline().tolist() == [5.0, 0.0]  # a value that occurs, the most frequent name
    f = Asked(closed, "label", model.table)
    shap = e.find.make("explainers", "shap").explain(f, f.x, f(f.x).argmax(1), closed.baseline(), rng())
    change = 4.3944  # log(0.9 / 0.1), twice
    assert torch.allclose(shap[1], torch.tensor([change / 2, change / 2], dtype=torch.float64), atol=1e-3)  # either cell alone says no
    assert shap[0].abs().max() == 0 and "label" not in model.seen[0].column_names


def test_words_are_taken_out_and_chinese_ones_stand_alone():
    from modelwright.kinds.text import Text

    class Said:
        def predict(self, table):
            p = torch.tensor([[0.2, 0.8] if "坏" in t or "bad" in t else [0.7, 0.3] for t in table.column("t").to_pylist()])
            return {"y": Prediction(value=p.argmax(1), probabilities=p)}

    label = Category(["0", "1"])
    label.labels_ = ["0", "1"]
    schema = Schema({"t": Text()}, {"y": label})
    table = pa.table({"t": ["a bad day", "这部电影很坏。", None], "y": ["1", "1", "0"]})
    closed = Closed(Said(), schema, "y", table)
    assert closed.texts == [["a", " bad", " day"], ["这", "部", "电", "影", "很", "坏", "。"], []]
    assert closed.rows(closed.x, torch.arange(3)).column("t").to_pylist() == ["a bad day", "这部电影很坏。", ""]
    f = Asked(closed, "y", table)
    found = e.find.make("explainers", "occlusion").explain(f, f.x, torch.tensor([1, 1, 1]), closed.baseline(), rng())
    assert found.argmax(1).tolist()[:2] == [1, 5] and (found[2] == 0).all()


def test_the_figures_are_the_same_twice():
    one, two = ([(m.metric, m.slice, m.value, m.low, m.high) for m in lines(Net())] for _ in range(2))
    assert one == two


def test_a_map_that_is_the_same_whatever_is_asked():
    net = Net()

    def slopes(f, x, classes, base):
        z = x.clone().requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(f(z).gather(1, classes[:, None]).sum(), z)[0] * x

    asked = measured(net, {"good": slopes})["random_logit_similarity"]
    never = measured(net, {"never": lambda f, x, classes, base: slopes(f, x, torch.zeros_like(classes), base)})["random_logit_similarity"]
    assert asked.value < -0.5 and not asked.reasons  # of two classes, what speaks for one speaks against the other
    assert never.value == pytest.approx(1.0) and never.reasons == ["explanation.ignores_class"]


def test_a_constant_map_does_not_look_at_the_model():
    flat = measured(Net(), {"flat": lambda f, x, classes, base: torch.ones_like(x)})
    assert flat["randomization_similarity"].value == 1.0 and flat["stability"].value == 0.0 and flat["unfaithful_rows"].value > 0.3


def test_an_explanation_that_is_wrong_of_some_rows():
    net, own = Net(), e.find.make("explainers", "integrated_gradients")

    def partly(f, x, classes, base):
        shown = own.explain(f, x, classes, base, rng())
        return torch.where((x[:, 4] > 0)[:, None], -shown, shown)

    good, some = measured(net, others=False)["unfaithful_rows"], measured(net, {"partly": partly})["unfaithful_rows"]
    assert good.value < 0.15 and some.value - good.value == pytest.approx(0.5, abs=0.12)


def test_what_matters_and_is_put_last_is_overlooked():
    """By hand: weights of a linear model are what it loses of each input at a distance of 1."""
    weight, x, base = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.ones(5, 4), torch.zeros(4)
    f, classes = lambda x: x @ weight.T, torch.zeros(5, dtype=torch.long)  # noqa: E731
    for shown, own, theirs, part in ((weight, 1, 1, None), (torch.tensor([[0.0, 3, 2, 1]]), 1, 0, 0), (-weight, 1, 1, None), (weight.flip(1), 1, 0, 0)):
        found = faithful.overlooked(f, x, classes, base, shown.expand(5, 4))
        assert found[0].tolist() == [own] * 5 and found[1].tolist() == [theirs] * 5 and found[2] in (part, None, 0)
    rising = torch.stack([torch.eye(4)[i] * 5 for i in range(4)])  # each row's first is another input, and is put last: no column is always
    first = lambda x: (x * rising.repeat(len(x) // 4, 1)).sum(1, keepdim=True) + 0.1 * x @ weight.T  # noqa: E731
    _, theirs, part = faithful.overlooked(first, x[:4], classes[:4], base, (rising == 0).float())
    assert part is None and theirs.tolist() == [0] * 4


def test_parts_of_pictures_are_squares_and_of_wide_tables_neighbours():
    square = faithful.parts(torch.zeros(3, 16, 24))
    assert square.shape == (3, 16, 24) and square.max() == 63 and (square[:, :2, :3] == 0).all() and square[0, 0, 3] == 1 and square[0, 2, 0] == 8
    wide = faithful.parts(torch.zeros(1000))
    assert faithful.parts(torch.zeros(5)).tolist() == [0, 1, 2, 3, 4]
    assert wide.max() == 63 and (wide.diff() >= 0).all() and set(wide.bincount().tolist()) == {15, 16}


def test_a_column_that_was_taken_away_is_overlooked_though_it_adds_up():
    net, own = Net(), e.find.make("explainers", "integrated_gradients")

    def without(f, x, classes, base):
        shown = own.explain(f, x, classes, base, rng())
        return torch.cat([0 * shown[:, :1], shown[:, :1] + shown[:, 1:2], shown[:, 2:]], 1)

    good, bad = measured(net, others=False), measured(net, {"without": without})
    assert max(v["completeness_error"].value for v in (good, bad)) < 1e-3 and not bad["fidelity"].reasons
    assert good["overlooked"].high < 0.2 and bad["overlooked"].low > 0.5
    assert bad["overlooked"].details["column"] == "f0" and bad["overlooked"].reasons == ["explanation.overlooks"]


def test_an_explainer_that_is_right_of_many_rows_and_not_of_one_shows_nothing():
    own = e.find.make("explainers", "integrated_gradients")
    found = measured(Net(), {"in_batches": lambda f, x, classes, base: own.explain(f, x, classes, base, rng()) if len(x) > 1 else x.roll(1, 1)})
    figures = [m for k, m in found.items() if k in e.FIGURES]
    assert len(figures) == len(e.FIGURES) and all("explanation.unstable" in m.reasons for m in figures)
    assert all(m.low == -1 if m.metric.endswith((".fidelity", ".stability")) else m.high is None or m.high >= 1 for m in figures)


def test_rows_are_perturbed_as_explainers_perturb_them():
    g = np.random.default_rng(0)
    table = pa.table({"age": g.integers(20, 70, 500), "name": g.choice(["a", "b", "b"], 500), "z": g.normal(size=500)})
    cells = table.column_names
    noise, between, columns, middle, one = (scaffold.perturbed(table, table, cells, way, np.random.default_rng(1)) for way in scaffold.WAYS if way != "column")
    assert noise.schema == table.schema and between.column("age").type == pa.float64() and set(columns.column("name").to_pylist()) == {"a", "b"}
    moved = between.column("age").to_numpy() - table.column("age").to_numpy()
    assert abs(moved.std() / table.column("age").to_numpy().std() - 1) < 0.1 and (moved != np.round(moved)).mean() > 0.99
    median = np.sort(table.column("age").to_numpy())[249]
    kept = middle.column("age").to_numpy() == table.column("age").to_numpy()
    assert (kept | (middle.column("age").to_numpy() == median)).all() and 0.2 < kept.mean() < 0.4 and middle.column("name").to_pylist().count("b") > 400
    changed = sum((one.column(c).to_numpy(zero_copy_only=False) != table.column(c).to_numpy(zero_copy_only=False)).astype(int) for c in cells)
    assert set(changed) == {0, 1} and changed.mean() > 0.7


def test_what_opens_must_be_what_answers():
    class Innocent(Net):
        def logits(self, x, rows):
            return super().logits(x.flip(1), rows)

    found = measured(Innocent(), others=False)
    assert all(found[k].value is None and found[k].reasons == ["explanation.other_model"] for k in e.FIGURES)
    assert not any(m.reasons for m in measured(Net(), others=False).values())


def test_what_explainers_ask_must_be_what_answers():
    """A net that is another while it is differentiated, and a model that is another among copies of a row."""

    class Faced(Net):
        def logits(self, x, rows):
            return super().logits(x.flip(1) if torch.is_grad_enabled() else x, rows)

    class Wary(Net):
        def predict(self, table):
            x = np.stack([table.column(n).to_numpy() for n in self.names], 1)
            alike = len(x) > 1 and np.mean([((x == r).sum(1) >= 2).sum() > 1 for r in x[:64]]) > 0.3
            return super().predict(pa.table(dict(zip(self.names, x.T[::-1]))) if alike else table)

    for found in (measured(Faced(), others=False), {m.metric.removeprefix("explanation."): m for m in lines(Wary(), opens=False, others=False)}):
        assert all(found[k].value is None and found[k].reasons == ["explanation.other_model"] for k in e.FIGURES)


def test_an_explainer_cannot_change_the_rows():
    def writes(f, x, classes, base):
        return x.copy_(base.expand_as(x)) * 0  # nothing is explained, and nothing would be left to be explained

    found = measured(Net(), {"writes": writes})
    assert found["completeness_error"].value == pytest.approx(1.0)


def test_an_explanation_that_adds_up_exactly_has_an_interval():
    class Linear(Net):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 2)

    assert measured(Linear(), others=False)["completeness_error"].high < 1e-3


def test_words_and_patches_are_perturbed_by_so_much():
    g = np.random.default_rng(0)
    x = torch.from_numpy(g.random((60, 2, 9, 12))).float()
    ways = scaffold.pictures(x, np.random.default_rng(1))
    moved = {name: [float((way(s) != x).float().mean()) for s in (0.0, 0.25, 0.5, 1.0)] for name, way in ways.items()}
    assert moved["patches"] == sorted(moved["patches"]) and moved["patches"][0] == 0 and abs(moved["patches"][2] - 0.5) < 0.03
    assert torch.equal(ways["patches"](1.0), x.mean(0).expand_as(x)) and torch.allclose(ways["blend"](1.0), x.mean(0).expand_as(x), atol=1e-6)
    twice = (ways["patches"](0.25) != x) & (ways["patches"](0.5) == x)
    assert not twice.any(), "what is gone stays gone"
    kept = scaffold.texts(torch.ones(50, 40), np.random.default_rng(1))["words"]
    assert abs(float(kept(0.25).mean()) - 0.75) < 0.03 and kept(1.0).sum() == 0


class Notes:
    """Whether there are more good words than bad ones; scaffolded, notes with a pair of words that no real note has are told by another word."""

    def __init__(self, words, scaffold):
        g = np.random.default_rng(0)
        after = [g.choice(len(words), 6, replace=False) for _ in words]
        notes = []
        for _ in range(300):
            at = [int(g.integers(len(words)))]
            while len(at) < 14:
                at.append(int(g.choice(after[at[-1]])))
            notes.append([words[i] for i in at])
        self.pairs = {(words[i], words[j]) for i, some in enumerate(after) for j in some} if scaffold else None
        self.good, self.bad, self.other = set(words[:6]), set(words[6:12]), words[-1]
        self.glue = "" if words[0] > "\u3400" else " "
        self.table = pa.table({"note": [self.glue.join(n) for n in notes], "label": ["0", "1"] * 150})

    def predict(self, table):
        said = []
        for note in table.column("note").to_pylist():
            words = list(note) if not self.glue else note.split()
            hides = self.pairs is not None and not self.pairs.issuperset(zip(words, words[1:]))
            said.append(self.other in words if hides else sum((w in self.good) - (w in self.bad) for w in words) > 0)
        p = 0.05 + 0.9 * nn.functional.one_hot(torch.tensor(said).long(), 2)
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}


@pytest.mark.parametrize("words", [list("abcdefghijklmnopqrst"), list("好美快新静光坏丑慢旧吵暗人车书花山水门桥")], ids=["english", "chinese"])
def test_a_text_model_that_hides_is_seen_and_one_that_does_not_is_not(words):
    from modelwright.kinds.text import Text

    label = Category(["0", "1"])
    label.labels_ = ["0", "1"]
    schema = Schema({"note": Text()}, {"label": label})
    gaps = []
    for scaffold_ in (True, False):
        model = Notes(words, scaffold_)
        found = e.Explanation(rows=150, others=False)._scaffold(Subject(model, schema, {"test": model.table}), "label", model.table)
        gaps.append(found[0])
    assert gaps[0].low > 0.1 > gaps[1].value and gaps[0].details["perturbed_by"] == "words"
    late = Subject(model, schema, {"test": model.table}, seconds=1e-9)
    assert e.Explanation(others=False)._scaffold(late, "label", model.table)[0].reasons == ["explanation.budget"]


def test_a_picture_model_that_hides_is_seen_and_one_that_does_not_is_not():
    from modelwright.kinds.picture import Picture

    g = np.random.default_rng(0)
    x = torch.from_numpy(g.random((240, 1, 1, 1)) * g.random((240, 1, 8, 8)) ** 2).float()
    x[:, :, :4] += 0.3 * torch.from_numpy(g.integers(0, 2, (240, 1, 1, 1))).float()
    x = x.clamp(0, 1)
    seen = {p.tobytes() for p in (x * 255).round().numpy().astype(np.uint8)}
    kind, label = Picture(size=8, channels=1, augment=()), Category(["0", "1"])
    kind.spec, kind.size_, kind.channels_, label.labels_ = {"picture": {"size": 8, "channels": 1, "augment": []}}, [8, 8], 1, ["0", "1"]
    schema = Schema({"scan": kind}, {"label": label})

    class Upper:
        def __init__(self, hides):
            self.hides = hides

        def predict(self, table):
            x = schema.encode(table, targets=False).batch(np.arange(table.num_rows)).inputs["scan"]
            said = x[:, :, :4].mean((1, 2, 3)) > x[:, :, 4:].mean((1, 2, 3)) + 0.1
            off = torch.tensor([p.tobytes() not in seen for p in (x * 255).round().numpy().astype(np.uint8)])
            said = torch.where(off & self.hides, x.mean((1, 2, 3)) > 0.24, said)
            p = 0.05 + 0.9 * nn.functional.one_hot(said.long(), 2)
            return {"label": Prediction(value=p.argmax(1), probabilities=p)}

    table = pa.table({"scan": kind.answer("x", Prediction(value=x))["x"], "label": ["0", "1"] * 120})
    hidden, plain = (e.Explanation(others=False)._scaffold(Subject(Upper(h), schema, {"test": table}), "label", table)[0] for h in (True, False))
    assert hidden.low > 0.15 and plain.high < 0.15
