"""A language model from elsewhere: a Hugging Face folder that continues a text, and says how likely a given continuation is.

AutoModelForCausalLM, where the task's target is a text. The task's one text input, where it has one, is the prompt; without it a text is written from the
beginning. It writes greedily, as far as the task's text may be long. The likelihood of a text is that of its own tokens after the beginning's and the
prompt's, which exposure (`--data planted=FILE`) ranks secrets by. Read as `huggingface.py` says. Left out: chat templates, sampling, several inputs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy

from ..data.schema import Schema
from ..errors import refuse
from .huggingface import BATCH, Pretrained


class Language(Pretrained):
    """A runner of `foreign.Foreign`: tables to texts (B,); `likelihood` of given ones."""

    def __init__(self, path: str, schema: Schema):
        self.folder, self.notes = Path(path), []
        self.digest = self.now()
        prompts, (self.target,) = list(schema.inputs), schema.targets
        if len(prompts) > 1 or any(schema.inputs[n].form != "ids" for n in prompts):
            what = f"a language model reads one text, the prompt, or none; the task has the inputs {', '.join(prompts)}"
            raise refuse("model.input", what, where=path, fix="declare the others as ignore in data.columns")
        self.prompt, self.kind = prompts[0] if prompts else None, schema.targets[self.target]
        self.net = self._load("AutoModelForCausalLM")
        self.tokenizer = self._tokenizer()
        self.begin = next((i for i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.cls_token_id) if i is not None), 0)
        self.most = min(self.tokenizer.model_max_length, getattr(self.net.config, "max_position_embeddings", None) or 1024)
        self.notes.append(f"The folder is read as a language model that continues {self.prompt or 'nothing: texts from their beginning'}, greedily.")

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [self.tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]

    def _prompts(self, table: pa.Table) -> list[list[int]]:
        """Token ids (N,) lists: the beginning, and the prompt where there is one."""
        texts = [""] * table.num_rows if self.prompt is None else ["" if v is None else str(v) for v in table.column(self.prompt).to_pylist()]
        return [[self.begin, *ids] for ids in self._ids(texts)]

    @torch.no_grad()
    def table(self, table: pa.Table) -> np.ndarray:
        new, written = max(1, min(self.kind.max_tokens, self.most // 2)), []
        for ids in self._prompts(table):
            given = torch.tensor([ids[-(self.most - new) :]])
            settings = {"max_new_tokens": new, "do_sample": False, "pad_token_id": self.begin, "attention_mask": torch.ones_like(given)}
            written.append(self.tokenizer.decode(self.net.generate(given, **settings)[0, given.shape[1] :], skip_special_tokens=True))
        return np.array(written, dtype=str)

    @torch.no_grad()
    def likelihood(self, table: pa.Table) -> torch.Tensor:
        """(N,) minus the log-likelihood of each row's target."""
        prompts = self._prompts(table)
        texts = self._ids(["" if v is None else str(v) for v in table.column(self.target).to_pylist()])
        rows = [(p + t)[-self.most :] for p, t in zip(prompts, texts, strict=True)]
        own, order, found = [min(len(t), self.most - 1) for t in texts], np.argsort([len(r) for r in rows], kind="stable"), torch.zeros(len(rows))
        for some in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
            width = max(len(rows[i]) for i in some)
            ids = torch.tensor([rows[i] + [self.begin] * (width - len(rows[i])) for i in some])
            there = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in some])
            out = self.net(input_ids=ids, attention_mask=there).logits[:, :-1].float()
            each = cross_entropy(out.transpose(1, 2), ids[:, 1:], reduction="none")
            for k, i in enumerate(some):
                end = len(rows[i]) - 1
                found[i] = each[k, end - own[i] : end].sum()
        return found

    def open(self, table: pa.Table) -> None:
        return None
