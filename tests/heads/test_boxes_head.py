"""The head for boxes: its loss against a slow loop over places, GIoU against torchvision, rows apart, small boxes, what it refuses."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence
from torchvision.ops import box_iou, generalized_box_iou

from modelwright import find
from modelwright.encoders.resnet import ResNet
from modelwright.errors import Refusal
from modelwright.forms import Encoded, Ragged
from modelwright.heads.boxes import overlaps
from modelwright.kinds.boxes import Boxes as BoxesKind
from modelwright.kinds.picture import Picture


def kind() -> BoxesKind:
    found = BoxesKind()
    found.load({"names_": ["a", "b", "c"], "median_": [0.25, 0.2]})
    return found


def built(size=(32, 24), settings=None, **encoder_settings):
    """(encoder, head) with random weights that are not small."""
    torch.manual_seed(0)
    picture, encoder = Picture(), ResNet(**{"width": 4, "norm": "group", **encoder_settings})
    picture.load({"size_": list(size), "channels_": 1})
    encoder.build({"picture": picture})
    head = find.make("heads", {"boxes": {"width": 8, **(settings or {})}})
    head.build(kind(), encoder.width, encoder)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return encoder, head


TRUTH = Ragged(
    torch.tensor(
        [
            [[0.1, 0.1, 0.6, 0.7, 2], [0.3, 0.3, 0.5, 0.5, 0], [0.9, 0.9, 0.91, 0.92, 1]],  # one within another, and one far smaller than a cell
            [[0.0, 0.0, 1.0, 1.0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
            [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
            [[0.2, 0.2, 0.4, 0.4, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
        ]
    ),
    torch.tensor([3, 1, 0, 1]),
)
KNOWN = torch.tensor([True, True, True, False])


def slow(head, out, row: int) -> tuple[float, int]:
    """The definition, place by place."""
    (height, width), total, positives = head.grid, 0.0, 0
    truth = TRUTH.values[row, : int(TRUTH.lengths[row])].tolist()
    for i in range(height):
        for j in range(width):
            x, y, owner = (j + 0.5) / width, (i + 0.5) / height, None
            for box in truth:
                x1, y1, x2, y2, _ = box
                off = max(abs(x - (x1 + x2) / 2) * width, abs(y - (y1 + y2) / 2) * height)
                inside = x1 <= x <= x2 and y1 <= y <= y2
                if off <= 0.5 or (inside and off <= head.radius):
                    area = (x2 - x1) * (y2 - y1)
                    owner = box if owner is None or area < (owner[2] - owner[0]) * (owner[3] - owner[1]) else owner
            place = i * width + j
            box = out["boxes"].detach()[row, place : place + 1]
            q = [0.0] * 3
            if owner is not None:
                true = torch.tensor([owner[:4]])
                q[int(owner[4])] = float(box_iou(box, true))
                total += 2 * (1 - float(generalized_box_iou(box, true)))
                positives += 1
            for k in range(3):
                p = 1 / (1 + math.exp(-float(out["scores"].detach()[row, place, k])))
                total += (q[k] - p) ** 2 * -(q[k] * math.log(p) + (1 - q[k]) * math.log(1 - p))
    return total, positives


@pytest.mark.parametrize("settings", [{}, {"level": 1}, {"radius": 0.6}, {"depth": 0}])
def test_the_loss_is_its_definition(settings):
    encoder, head = built(settings=settings)
    h = encoder(torch.rand(4, 1, 32, 24, generator=torch.Generator().manual_seed(1)))
    out = head(h)
    total, count = head.nll(out, TRUTH, KNOWN)
    for row in range(3):
        expected, positives = slow(head, out, row)
        assert total[row].item() == pytest.approx(expected, rel=1e-4)
        assert int(count[row]) == max(positives, 1)
    assert total[3].item() == 0 and count[3].item() == 0
    assert slow(head, out, 0)[1] >= 2  # even the box without a place in it has one


def test_every_row_alone_has_the_same_loss_and_every_parameter_learns():
    encoder, head = built()
    x = torch.rand(4, 1, 32, 24, generator=torch.Generator().manual_seed(1))
    total, count = head.nll(head(encoder(x)), TRUTH, KNOWN)
    for i in range(4):
        part = Ragged(TRUTH.values[i : i + 1, :], TRUTH.lengths[i : i + 1])
        alone, n = head.nll(head(encoder(x[i : i + 1])), part, KNOWN[i : i + 1])
        torch.testing.assert_close(alone[0], total[i], rtol=1e-4, atol=1e-5)
        assert n[0] == count[i]
    total.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_divergence_is_the_kl_of_the_scores_and_the_boxes_where_the_teacher_is_sure():
    _, head = built()
    rng = torch.Generator().manual_seed(0)
    low = torch.rand(2, 3, 12, 2, generator=rng)
    s, t = ({"scores": 2 * torch.randn(3, 12, 3, generator=rng), "boxes": torch.cat([x, x + 0.3], -1)} for x in low)
    kl = 4 * kl_divergence(Bernoulli(logits=t["scores"] / 2), Bernoulli(logits=s["scores"] / 2)).sum((1, 2))
    seen = t["scores"].sigmoid().max(-1).values
    off = torch.stack([1 - generalized_box_iou(a, b).diag() for a, b in zip(s["boxes"], t["boxes"], strict=True)])
    torch.testing.assert_close(head.divergence(s, t, 2.0), (kl + 2 * (off * seen).sum(1)) / seen.sum(1).clamp(min=1))
    torch.testing.assert_close(head.divergence(t, t, 3.0), torch.zeros(3), atol=1e-5, rtol=0)


def test_overlaps_are_torchvisions():
    rng = torch.Generator().manual_seed(0)
    low = torch.rand(2, 50, 2, generator=rng)
    a, b = (torch.cat([x, x + 0.01 + torch.rand(50, 2, generator=rng)], -1) for x in low)
    iou, giou = overlaps(a, b)
    torch.testing.assert_close(iou, box_iou(a, b).diag())
    torch.testing.assert_close(giou, generalized_box_iou(a, b).diag())


def test_it_predicts_a_candidate_a_place_within_the_picture():
    encoder, head = built()
    out = head(encoder(torch.rand(2, 1, 32, 24)))
    found = head.predict(out)
    places = head.grid[0] * head.grid[1]
    assert found.boxes.values.shape == (2, places, 4) and found.boxes.lengths.tolist() == [places] * 2
    assert found.boxes.values.min() >= 0 and found.boxes.values.max() <= 1
    score, label = out["scores"].sigmoid().max(-1)
    assert torch.equal(found.score, score) and torch.equal(found.labels, label)


def test_before_training_boxes_are_the_usual_ones_in_their_place_and_scores_the_prior():
    torch.manual_seed(0)
    encoder, _ = built()
    head = find.make("heads", "boxes")
    head.build(kind(), encoder.width, encoder)
    out = head(encoder(torch.rand(2, 1, 32, 24)))
    assert out["scores"].sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)
    centre = (out["boxes"][..., :2] + out["boxes"][..., 2:]) / 2
    torch.testing.assert_close(centre[0], head.places, atol=0.06, rtol=0)
    torch.testing.assert_close((out["boxes"][..., 2:] - out["boxes"][..., :2])[0, 0], torch.tensor([0.25, 0.2]), atol=0.06, rtol=0)


def test_a_grid_of_tokens_does_where_there_is_no_pyramid():
    encoder, head = built()
    encoder.levels = None
    head = find.make("heads", "boxes")
    head.build(kind(), encoder.width, encoder)
    h = encoder(torch.rand(2, 1, 32, 24))
    out = head(Encoded(h.z, grid=h.grid))
    assert out["boxes"].shape == (2, h.z.shape[1], 4)


def test_without_a_grid_it_is_refused():
    text = find.make("encoders", "lstm")
    for encoder, word in ((None, "several inputs"), (text, "this input has none")):
        with pytest.raises(Refusal, match=word):
            find.make("heads", "boxes").build(kind(), 8, encoder)
    encoder, _ = built()
    with pytest.raises(Refusal, match="level 7 of 3"):
        find.make("heads", {"boxes": {"level": 7}}).build(kind(), 8, encoder)
    with pytest.raises(Refusal, match="radius"):
        find.make("heads", {"boxes": {"radius": 0}})
