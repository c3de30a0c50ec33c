"""Non-maximum suppression: torchvision's as the oracle, class by class, and a greedy loop; limits, padding and what it refuses."""

import pytest
import torch
from torchvision.ops import box_iou, nms

from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Batch, Prediction, Ragged


def candidates(seed: int, rows: int = 3, count: int = 60) -> Prediction:
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(rows, count, 2, generator=rng) * 0.7
    boxes = torch.cat([low, low + 0.05 + 0.25 * torch.rand(rows, count, 2, generator=rng)], -1)
    lengths = torch.tensor([count, 0, count // 2][:rows])
    labels = torch.randint(0, 3, (rows, count), generator=rng)
    return Prediction(boxes=Ragged(boxes, lengths), labels=labels, score=torch.rand(rows, count, generator=rng))


def greedy(boxes, labels, score, threshold, iou) -> list[int]:
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -float(score[i])):
        doubles = any(labels[j] == labels[i] and box_iou(boxes[i : i + 1], boxes[j : j + 1]) > iou for j in kept)
        if score[i] > threshold and not doubles:
            kept.append(i)
    return kept


@pytest.mark.parametrize(("seed", "threshold", "iou"), [(0, 0.05, 0.6), (1, 0.5, 0.3), (2, 0.0, 0.0), (3, 0.2, 1.0)])
def test_it_keeps_what_a_greedy_loop_and_torchvision_keep(seed, threshold, iou):
    given = candidates(seed)
    found = find.make("decoders", {"nms": {"threshold": threshold, "iou": iou}}).suppress(given)
    for row in range(3):
        n = int(given.boxes.lengths[row])
        boxes, labels, score = given.boxes.values[row, :n], given.labels[row, :n], given.score[row, :n]
        kept = greedy(boxes, labels, score, threshold, iou)
        each = [torch.nonzero((labels == k) & (score > threshold))[:, 0] for k in range(3)]
        assert sorted(kept) == sorted(int(j) for i in each for j in i[nms(boxes[i], score[i], iou)])
        m = int(found.boxes.lengths[row])
        assert m == len(kept)
        torch.testing.assert_close(found.boxes.values[row, :m], boxes[kept])
        assert found.labels[row, :m].tolist() == labels[kept].tolist() and found.score[row, :m].tolist() == score[kept].tolist()
        assert not found.boxes.values[row, m:].any() and not found.score[row, m:].any()


def test_only_the_surest_are_kept_and_rows_do_not_matter_to_each_other():
    given = candidates(4)
    decoder = find.make("decoders", {"nms": {"most": 5}})
    found = decoder.suppress(given)
    assert found.boxes.lengths.tolist() == [5, 0, 5] and found.boxes.values.shape == (3, 5, 4)
    for row in (0, 2):
        assert (found.score[row].diff() <= 0).all()
        part = slice(row, row + 1)
        alone = Prediction(boxes=Ragged(given.boxes.values[part], given.boxes.lengths[part]), labels=given.labels[part], score=given.score[part])
        torch.testing.assert_close(decoder.suppress(alone).boxes.values[0], found.boxes.values[row])
    nothing = decoder.suppress(
        Prediction(boxes=Ragged(given.boxes.values, torch.zeros(3, dtype=torch.int64)), labels=given.labels, score=given.score)
    )
    assert nothing.boxes.values.shape == (3, 1, 4) and nothing.boxes.lengths.tolist() == [0, 0, 0]


def test_settings_and_heads_without_boxes_are_refused():
    with pytest.raises(Refusal, match="most"):
        find.make("decoders", {"nms": {"most": 0}})

    class Plain(torch.nn.Module):
        heads = {"y": find.make("heads", "picture")}

        def forward(self, batch, targets, state):
            return {"y": torch.zeros(2, 1, 2, 2)}

    with pytest.raises(Refusal, match="'y' predicts none"):
        find.make("decoders", "nms").run(Plain(), ["y"], Batch({}))
