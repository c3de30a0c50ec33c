"""A small stage on breast cancer, for every strategy's test: `stage(strategies)` is ready for `learn.loop.fit`."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from modelwright import find
from modelwright.data.dataset import Dataset
from modelwright.data.schema import Schema
from modelwright.data.streams import Rows, in_order
from modelwright.learn.loop import Stage, fit
from modelwright.model import Model
from modelwright.settings import Settings
from modelwright.strategy import Context


@dataclass
class Cancer:
    """10 numbers and a code, two classes, and groups by size that are related to the class."""

    schema: Schema
    train: Dataset
    test: Dataset

    def model(self, seed: int = 0, dropout: float = 0.0) -> Model:
        torch.manual_seed(seed)
        kinds = self.schema.encoders()
        encoders = {k: find.make("encoders", {"mlp": {"width": 32, "depth": 2, "bins": 0, "dropout": dropout}}) for k in kinds}
        for k, e in encoders.items():
            e.build(kinds[k])
        fusion = find.make("fusions", "concat")
        fusion.build({k: e.width for k, e in encoders.items()})
        head = find.make("heads", "classes")
        head.build(self.schema.targets["diagnosis"], fusion.width, None)
        return Model(encoders, fusion, {"diagnosis": head}, {"diagnosis": find.make("decoders", "argmax")})

    def stage(self, strategies=(), steps: int = 60, model: Model | None = None, folder=None, **settings) -> Stage:
        s = Settings(device="cpu", precision="fp32", **({"lr": 5e-3, "weight_decay": 0.01, "validations": 3, "keep": "last"} | settings))
        context = Context(self.schema, len(self.train), 64, steps, 0, self.train)
        objective = find.make("objectives", "supervised")
        made = model or self.model()
        return Stage("t", made, objective, list(strategies), Rows(self.train, 64, 0), context, s, steps, self.validate, folder=folder)

    def validate(self, learner) -> dict[str, float]:
        return {"loss": sum(float(learner(b).terms["diagnosis"].total.detach().sum()) for b in in_order(self.test, 256)) / len(self.test)}

    def fit(self, strategies=(), **settings):
        return fit(self.stage(strategies, **settings))

    def accuracy(self, model: Model) -> float:
        p = model.predict(self.test.batch(np.arange(len(self.test))))["diagnosis"]
        return float((p.value.numpy() == self.test.targets["diagnosis"]["values"]).mean())

    def batch(self, n: int = 32):
        return self.train.batch(np.arange(n))


@pytest.fixture(scope="session")
def cancer() -> Cancer:
    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, :10].copy()
    frame["code"] = np.where(frame["mean texture"] > 19, "rough", "smooth")
    frame["size"] = np.where(frame["mean radius"] > 13.5, "large", "small")
    frame["diagnosis"] = data.target.map({0: "malignant", 1: "benign"})
    frame = frame[sorted(frame.columns)]
    table = pa.Table.from_pandas(frame, preserve_index=False).take(np.random.default_rng(0).permutation(569))
    inputs = {n: find.make("kinds", "number") for n in frame.columns if n.startswith("mean")} | {"code": find.make("kinds", "category")}
    schema = Schema(inputs, {"diagnosis": find.make("kinds", "category")}, ["size"])
    schema.fit(table.slice(0, 400))
    return Cancer(schema, schema.encode(table.slice(0, 400)), schema.encode(table.slice(400)))
