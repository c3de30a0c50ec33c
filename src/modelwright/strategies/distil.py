"""Learn from a saved model's soft answers beside the labels.

Hinton et al. 2015, section 2: the loss gains weight * T^2 KL(teacher || student) at temperature T per row, by each head's own divergence, for every
head both have. Teacher and student must read the very same encoding: input columns, fitted values (means, vocabularies) and label order are compared,
and a difference is a refusal. The teacher is frozen, in evaluation mode, belongs to the objective and never ships.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..data.schema import Schema
from ..errors import Problem, Refusal
from ..forms import Batch, Loss, Term
from ..model import Head, Model
from ..objective import Objective, Wrapped
from ..strategy import Context, Strategy


class Distil(Strategy):
    reads_rows = True  # an encoding that is the same to the last fitted value was fitted on the same rows: the teacher has seen them

    def __init__(self, teacher: str, temperature: float = 2.0, weight: float = 1.0):
        """teacher: a run or model folder, relative to the task file; weight: of the teacher's term beside the objective's own."""
        if temperature <= 0 or weight < 0:
            raise ValueError(f"temperature ({temperature}) must be positive and weight ({weight}) not negative")
        self.teacher, self.temperature, self.weight = teacher, temperature, weight
        self.loaded: Model | None = None

    def prepare(self, context: Context) -> None:
        from ..artifact import load

        model, schema = load(Path(context.root, self.teacher))
        problems = differences(schema, context.schema, self.teacher)
        if problems:
            raise Refusal(problems)
        self.loaded = model

    def adapt(self, model: Model, rng: torch.Generator) -> Model:
        if problems := [p for t in model.heads if t in self.loaded.heads for p in self._apart(t, model.heads[t], self.loaded.heads[t])]:
            raise Refusal(problems)
        return model

    def _apart(self, target: str, ours: Head, theirs: Head) -> list[Problem]:
        """Why the two heads' outputs cannot be held against each other."""
        mine, its = type(ours).__name__.lower(), type(theirs).__name__.lower()
        if mine != its:
            what, fix = f"the teacher {self.teacher} answers {target!r} by the head {its}, the student by {mine}", "give both the same head"
            return [Problem("distil.head", what, why="what one puts out means nothing to the other", fix=fix)]
        if type(ours).divergence is Head.divergence:
            return [Problem("distil.head", f"the head {mine} of {target!r} has no divergence", why="there is nothing to learn by", fix="use another head")]
        return []

    def objective(self, objective: Objective) -> Objective:
        return Distilled(objective, self.loaded, self.temperature, self.weight)

    def statement(self) -> dict[str, Any]:
        return {"distil": {"teacher": self.teacher, "temperature": self.temperature, "weight": self.weight}}


def differences(teacher: Schema, student: Schema, name: str) -> list[Problem]:
    """Every reason why the teacher's answers would not mean what the student's do."""
    found = []
    for target, kind in student.targets.items():
        if target not in teacher.targets:
            have = ", ".join(teacher.targets)
            found.append(Problem("distil.head", f"the teacher {name} has no head for {target!r}", why=f"it has: {have}", fix="take another teacher"))
        elif (theirs := teacher.targets[target].state().get("labels_")) != (ours := kind.state().get("labels_")):
            what = f"the teacher {name} orders the labels of {target!r} as {theirs}, this task as {ours}"
            found.append(Problem("distil.labels", what, why="class k would mean two things", fix=f"declare labels: {theirs}"))
        elif teacher.targets[target].state() != kind.state():
            what = f"the teacher {name} fitted the target {target!r} on other rows"
            found.append(Problem("distil.target", what, why="its numbers have another scale", fix="train it on this task's training split"))
    ours, theirs = student.encoders(), teacher.encoders()
    for key in theirs:
        mine = {c: (k.spec, k.state()) for c, k in ours.get(key, {}).items()}
        its = {c: (k.spec, k.state()) for c, k in theirs[key].items()}
        if list(mine) != list(its):
            what = f"the teacher {name} reads {list(its)} for {key!r}, the student {list(mine)}"
            found.append(Problem("distil.columns", what, fix="give both the same columns"))
        elif mine != its:
            column = next(c for c in its if its[c] != mine[c])
            what = f"the teacher {name} encodes column {column!r} otherwise than the student"
            found.append(Problem("distil.encoding", what, why="its fitted values differ", fix="train it on this training split"))
    return found


class Distilled(Wrapped):
    def __init__(self, inner: Objective, teacher: Model, temperature: float, weight: float):
        super().__init__(inner)
        self.teacher = teacher.requires_grad_(False).eval()
        self.temperature, self.weight = temperature, weight

    def train(self, mode: bool = True) -> Distilled:
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        outs: dict[str, Any] = {}
        # The student's own pass serves both terms.
        seen = model.register_forward_hook(lambda module, args, out: outs.update(out))
        loss = self.inner.loss(model, batch, player)
        seen.remove()
        heads = [t for t in model.heads if t in self.teacher.heads and (self.heads is None or t in self.heads)]
        if any(t not in outs for t in heads):
            outs.update(model(batch, heads))
        with torch.no_grad():
            answers = self.teacher(batch, heads)
        terms = {}
        for t in heads:
            shapes = [[tuple(x.shape) for x in pytree.tree_leaves(o)] for o in (answers[t], outs[t])]
            if shapes[0] != shapes[1]:
                what, why = f"the teacher answers {t!r} in numbers of shape {shapes[0]}, the student in {shapes[1]}", "there is no telling which go together"
                raise Refusal(Problem("distil.head", what, why=why, fix="give both the same settings of this head, and pictures the same grid"))
            total = model.heads[t].divergence(outs[t], pytree.tree_map(Tensor.detach, answers[t]), self.temperature)
            terms[f"distil {t}"] = Term(total, torch.ones_like(total), self.weight)
        return loss.plus(Loss(terms).times(batch.weight))
