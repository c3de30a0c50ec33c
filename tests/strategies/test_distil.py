import copy

import pytest
import torch

from modelwright import artifact, find
from modelwright.errors import Refusal
from modelwright.learn import loop
from modelwright.per_example import clipped_sum


@pytest.fixture(scope="module")
def teacher(cancer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    artifact.save(folder, cancer.fit(steps=100).model, cancer.schema)
    return folder


def distil(folder, **settings):
    return find.make("strategies", {"distil": {"teacher": str(folder)} | settings})


def test_the_term_is_the_divergence_at_a_temperature(cancer, teacher):
    parts = loop.assemble(cancer.stage([distil(teacher, temperature=3.0, weight=0.5)], model=cancer.model(seed=5)))
    parts.learner.train()
    batch = cancer.batch(8).but(weight=torch.arange(8.0))
    loss = parts.learner(batch)
    saved, _ = artifact.load(teacher)
    with torch.no_grad():
        student, teach = parts.model(batch)["diagnosis"], saved(batch)["diagnosis"]
    for i in range(8):
        p, q = (teach[i] / 3).softmax(0), (student[i] / 3).softmax(0)
        wanted = 9 * sum(p[k] * (p[k] / q[k]).log() for k in range(2)) * i
        torch.testing.assert_close(loss.terms["distil diagnosis"].total[i], wanted, atol=1e-5, rtol=1e-4)
    assert loss.terms["distil diagnosis"].weight == 0.5 and not parts.objective.teacher.training
    torch.testing.assert_close(loss.terms["diagnosis"].total, parts.objective.inner.loss(parts.model, batch, "model").terms["diagnosis"].total)


def test_a_student_who_is_the_teacher_has_nothing_to_learn(cancer, teacher):
    model, _ = artifact.load(teacher)
    loss = loop.assemble(cancer.stage([distil(teacher)], model=model)).learner(cancer.batch())
    assert float(loss.terms["distil diagnosis"].total.detach().abs().max()) < 1e-6


def test_the_teacher_is_neither_trained_nor_shipped(cancer, teacher):
    stage = cancer.stage([distil(teacher)], model=cancer.model(seed=5))
    keys = list(stage.model.state_dict())
    count = len(list(stage.model.parameters()))
    assert len(loop.assemble(stage).parameters["model"]) == count
    found = loop.fit(stage)
    saved, _ = artifact.load(teacher)
    assert all(torch.equal(a, b) for a, b in zip(found.objective.teacher.parameters(), saved.parameters(), strict=True))
    assert list(found.model.state_dict()) == keys and cancer.accuracy(found.model) > cancer.accuracy(saved) - 0.03
    assert not found.model._forward_hooks


def test_it_brings_the_student_nearer_to_the_teacher(cancer, teacher):
    saved, _ = artifact.load(teacher)
    batch = cancer.test.batch(range(169))

    def distance(strategies):
        model = cancer.fit(strategies, model=cancer.model(seed=5), steps=40).model
        with torch.no_grad():
            return float(model.heads["diagnosis"].divergence(model(batch)["diagnosis"], saved(batch)["diagnosis"], 1.0).mean())

    assert distance([distil(teacher, weight=5.0)]) < distance([])


def test_it_works_row_by_row(cancer, teacher):
    parts = loop.assemble(cancer.stage([distil(teacher)], model=cancer.model(seed=5)))
    results = [clipped_sum(parts.learner, parts.parameters["model"], cancer.batch(6), "model", 0.1, way=way)[0] for way in ("loop", "vmap")]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def refused(cancer, teacher, change):
    stage = cancer.stage([distil(teacher)])
    stage.context.schema = copy.deepcopy(cancer.schema)
    change(stage.context.schema)
    with pytest.raises(Refusal) as caught:
        loop.fit(stage)
    return [p.code for p in caught.value.problems]


def test_teachers_that_mean_something_else_are_refused(cancer, teacher):
    assert refused(cancer, teacher, lambda s: s.targets["diagnosis"].labels_.reverse()) == ["distil.labels"]
    assert refused(cancer, teacher, lambda s: s.targets.update(stage=s.targets["diagnosis"])) == ["distil.head"]
    assert refused(cancer, teacher, lambda s: s.inputs.pop("mean radius")) == ["distil.columns"]
    assert refused(cancer, teacher, lambda s: s.inputs["code"].labels_.append("other")) == ["distil.encoding"]
    assert refused(cancer, teacher.parent / "nothing", lambda s: None) == ["model.missing"]


def test_heads_that_do_not_answer_alike_are_refused(cancer, teacher):
    """Another head, or the same one with other settings: where outputs have one shape by chance, nothing would say so."""
    saved, schema = artifact.load(teacher)
    strategy = distil(teacher)
    strategy.prepare(cancer.stage().context)
    student = cancer.model()
    ordered = find.make("heads", "ordered")
    ordered.build(cancer.schema.targets["diagnosis"], student.fusion.width, None)
    student.heads.add_module("diagnosis", ordered)
    with pytest.raises(Refusal, match="by the head classes, the student by ordered"):
        strategy.adapt(student, None)
    parts = loop.assemble(cancer.stage([strategy], model=cancer.model()))
    parts.objective.teacher.heads["diagnosis"].linear = torch.nn.Linear(32, 3)
    with pytest.raises(Refusal, match=r"shape \[\(8, 3\)\], the student in \[\(8, 2\)\]"):
        parts.learner(cancer.batch(8))
