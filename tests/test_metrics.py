"""Each metric against scikit-learn, sacrebleu, pycocotools (where installed) or its definition in slow loops."""

import math
import time
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk

from modelwright import metrics as M


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def classes(rng, n=500, k=4):
    truth = rng.choice(k, n, p=[0.5, 0.3, 0.15, 0.05][:k] if k == 4 else None)
    probabilities = rng.dirichlet(np.ones(k), n) + 0.8 * np.eye(k)[truth] * rng.random((n, 1))
    probabilities /= probabilities.sum(1, keepdims=True)
    return truth, probabilities, probabilities.argmax(1)


def two(rng, n=400, ties=False):
    truth = (rng.random(n) < 0.3).astype(int)
    score = 1 / (1 + np.exp(-rng.normal(size=n) - truth))
    return truth, np.round(score, 1) if ties else score


def test_classes_agree_with_sklearn(rng):
    truth, _, value = classes(rng)
    assert M.accuracy(truth, value) == pytest.approx(sk.accuracy_score(truth, value))
    assert M.balanced_accuracy(truth, value) == pytest.approx(sk.balanced_accuracy_score(truth, value))
    assert M.f1(truth, value) == pytest.approx(sk.f1_score(truth, value, average="macro"))
    assert M.quadratic_kappa(truth, value) == pytest.approx(sk.cohen_kappa_score(truth, value, weights="quadratic"))
    assert (M.confusion(truth, value, 4) == sk.confusion_matrix(truth, value)).all()


def test_classes_that_do_not_occur(rng):
    truth, value = np.array([0, 0, 2, 2, 2]), np.array([0, 3, 2, 2, 0])  # 1 never, 3 only predicted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert M.balanced_accuracy(truth, value) == pytest.approx(sk.balanced_accuracy_score(truth, value))
    assert M.f1(truth, value) == pytest.approx(sk.f1_score(truth, value, average="macro"))
    assert M.confusion(truth, value, 4).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("ties", [False, True])
def test_scores_agree_with_sklearn(rng, ties):
    truth, score = two(rng, ties=ties)
    assert M.auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-12)
    assert M.auroc(truth, np.stack([1 - score, score], 1)) == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-12)
    assert M.average_precision(truth, score) == pytest.approx(sk.average_precision_score(truth, score), abs=1e-12)
    fpr, tpr, at = M.roc_curve(truth, score)
    expected = sk.roc_curve(truth, score, drop_intermediate=False)
    assert all(np.allclose(a, b) for a, b in zip((fpr, tpr, at), expected, strict=True))
    recall, precision, at = M.pr_curve(truth, score)
    p, r, t = sk.precision_recall_curve(truth, score)
    assert np.allclose(recall, r[:-1][::-1]) and np.allclose(precision, p[:-1][::-1]) and np.allclose(at, t[::-1])


def test_auroc_is_the_share_of_ordered_pairs(rng):
    truth, score = two(rng, 60, ties=True)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[truth == 1] for b in score[truth == 0]]
    assert M.auroc(truth, score) == pytest.approx(np.mean(pairs))


def test_many_classes_and_label_sets(rng):
    truth, p, _ = classes(rng)
    assert M.auroc(truth, p) == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"))
    assert M.average_precision(truth, p) == pytest.approx(sk.average_precision_score(np.eye(4)[truth], p, average="macro"))
    few = truth < 3  # a class that the truth lacks is left out of the mean
    assert M.auroc(truth[few], p[few]) == pytest.approx(np.mean([M.auroc(truth[few] == k, p[few][:, k]) for k in range(3)]))
    labels, score = rng.random((200, 5)) < 0.3, rng.random((200, 5))
    assert M.auroc(labels, score) == pytest.approx(sk.roc_auc_score(labels, score, average="macro"))
    value = score > 0.6
    assert M.subset_accuracy(labels, value) == pytest.approx(sk.accuracy_score(labels, value))
    assert M.micro_f1(labels, value) == pytest.approx(sk.f1_score(labels, value, average="micro"))
    assert M.macro_f1(labels, value) == pytest.approx(sk.f1_score(labels, value, average="macro"))


def test_probabilities_agree_with_sklearn(rng):
    truth, p, _ = classes(rng)
    assert M.nll(truth, p) == pytest.approx(sk.log_loss(truth, p))
    assert M.brier(truth, p) == pytest.approx(sk.brier_score_loss(truth, p, labels=range(4)))
    truth, p = two(rng)
    assert M.nll(truth, p) == pytest.approx(sk.log_loss(truth, p)) == pytest.approx(M.nll(truth, np.stack([1 - p, p], 1)))
    assert M.brier(truth, p) == pytest.approx(sk.brier_score_loss(truth, p)) == pytest.approx(M.brier(truth, np.stack([1 - p, p], 1)))
    assert M.nll(np.array([1]), np.array([[1.0, 0.0]], np.float32)) == pytest.approx(-math.log(1e-12))  # sure and wrong: large, not infinite


def test_ece_against_a_loop(rng):
    truth, p, value = classes(rng, 430)
    confidence, right = p.max(1), value == truth
    order = sorted(range(430), key=lambda i: confidence[i])
    expected = 0.0
    for b in range(15):
        inside = order[b * 430 // 15 : (b + 1) * 430 // 15]
        expected += len(inside) / 430 * abs(right[inside].mean() - confidence[inside].mean())
    assert M.ece(truth, p) == pytest.approx(expected)
    two_truth, score = two(rng)
    assert M.ece(two_truth, score) == pytest.approx(M.ece(two_truth, np.stack([1 - score, score], 1)))


def test_reliability_never_parts_rows_of_one_confidence(rng):
    truth, p = rng.integers(0, 2, 100), np.full(100, 0.8)
    confidence, right, count = M.reliability(truth, p)
    assert count.tolist() == [100] and confidence == pytest.approx([0.8]) and right == pytest.approx([truth.mean()])
    shuffled = rng.permutation(300)
    truth, p = rng.integers(0, 2, 300), rng.choice([0.6, 0.7, 0.9], 300)
    assert M.ece(truth, p) == pytest.approx(M.ece(truth[shuffled], p[shuffled]), abs=1e-12)


def test_numbers_agree_with_sklearn(rng):
    truth = rng.normal(size=300)
    value = truth + rng.normal(size=300)
    assert M.rmse(truth, value) == pytest.approx(sk.root_mean_squared_error(truth, value))
    assert M.mae(truth, value) == pytest.approx(sk.mean_absolute_error(truth, value))
    assert M.r2(truth, value) == pytest.approx(sk.r2_score(truth, value))
    levels = [0.1, 0.5, 0.9]
    q = value[:, None] + np.array([-1.0, 0.0, 1.0])
    expected = np.mean([sk.mean_pinball_loss(truth, q[:, i], alpha=a) for i, a in enumerate(levels)])
    assert M.quantile_loss(truth, q, levels) == pytest.approx(expected)
    assert M.coverage(truth, q[:, 0], q[:, 2]) == pytest.approx(np.mean([a <= t <= b for t, (a, _, b) in zip(truth, q, strict=True)]))


def test_undefined_is_nan_without_noise():
    none, one = np.zeros(0, int), np.ones(5, int)
    score = np.linspace(0, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in (
            M.accuracy,
            M.balanced_accuracy,
            M.f1,
            M.quadratic_kappa,
            M.auroc,
            M.average_precision,
            M.rmse,
            M.mae,
            M.r2,
            M.nll,
            M.brier,
            M.ece,
        ):
            assert math.isnan(metric(none, none.astype(float) if metric in (M.auroc, M.average_precision, M.nll, M.brier, M.ece) else none)), metric
        assert math.isnan(M.auroc(one, score)) and math.isnan(M.auroc(one - 1, score)) and math.isnan(M.average_precision(one - 1, score))
        assert math.isnan(M.auroc(np.array([0, 1, 0, 1, 1]), np.array([0.1, np.nan, 0.3, 0.2, 0.9])))
        assert math.isnan(M.r2(one, score)) and math.isnan(M.quadratic_kappa(one, one))
        assert math.isnan(M.rmse(score, np.full(5, np.nan)))
        assert math.isnan(M.micro_f1(np.zeros((3, 2), bool), np.zeros((3, 2), bool))) and math.isnan(
            M.macro_f1(np.zeros((3, 2), bool), np.zeros((3, 2), bool))
        )
        assert math.isnan(M.bleu(np.zeros((0, 10), int)))
        assert np.isnan(M.roc_curve(one, score)[0]).all() and np.isnan(M.pr_curve(one - 1, score)[0]).all()
    no_boxes, none_there = np.zeros((0, 4)), np.zeros(3, int)
    assert math.isnan(M.mean_average_precision(M.match_boxes(no_boxes, none, none.astype(float), none_there, no_boxes, none, none_there)))


def test_auroc_is_fast(rng):
    truth, score = rng.integers(0, 2, 10_000), rng.random(10_000)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        M.auroc(truth, score)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002


# Boxes


def scene(rng, pictures=12, kinds=3, noise=0.12, ties=False):
    """Random pictures: jittered, missed, doubled and invented boxes."""
    rows = {"boxes": [], "labels": [], "scores": [], "offsets": [0], "true_boxes": [], "true_labels": [], "true_offsets": [0]}
    for _ in range(pictures):
        for _ in range(rng.integers(0, 6)):
            corner, size, kind = rng.random(2) * 80, 5 + rng.random(2) * 30, int(rng.integers(kinds))
            rows["true_boxes"].append([*corner, *(corner + size)])
            rows["true_labels"].append(kind)
            for _ in range(rng.integers(0, 3)):
                moved = np.array(rows["true_boxes"][-1]) + rng.normal(size=4) * noise * size.mean()
                rows["boxes"].append([*np.minimum(moved[:2], moved[2:]), *np.maximum(moved[:2], moved[2:])])
                rows["labels"].append(kind if rng.random() < 0.9 else int(rng.integers(kinds)))
                rows["scores"].append(rng.random())
        rows["offsets"].append(len(rows["boxes"]))
        rows["true_offsets"].append(len(rows["true_boxes"]))
    rows["scores"] = np.round(rows["scores"], 1 if ties else 9)
    return {k: np.array(v, float if "boxes" in k or k == "scores" else int).reshape((-1, 4) if "boxes" in k else -1) for k, v in rows.items()}


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_map(s, pictures, thresholds):
    """The definition, one box at a time; pictures may repeat."""
    each = []
    for threshold in thresholds:
        for kind in np.unique(s["true_labels"]):
            found, true = [], 0
            for i in pictures:
                truths = [
                    b
                    for b, k in zip(*(s[x][s["true_offsets"][i] : s["true_offsets"][i + 1]] for x in ("true_boxes", "true_labels")), strict=True)
                    if k == kind
                ]
                true, taken = true + len(truths), set()
                mine = [j for j in range(s["offsets"][i], s["offsets"][i + 1]) if s["labels"][j] == kind]
                for j in sorted(mine, key=lambda j: -s["scores"][j])[:100]:
                    best = max((t for t in range(len(truths)) if t not in taken), key=lambda t: iou(s["boxes"][j], truths[t]), default=None)
                    hit = best is not None and iou(s["boxes"][j], truths[best]) >= threshold
                    taken |= {best} if hit else set()
                    found.append((s["scores"][j], hit))
            if not true:
                continue
            found.sort(key=lambda f: -f[0])
            points = [(sum(h for _, h in found[: k + 1]) / true, sum(h for _, h in found[: k + 1]) / (k + 1)) for k in range(len(found))]
            each.append(np.mean([max((p for r, p in points if r >= level), default=0.0) for level in np.linspace(0, 1, 101)]))
    return np.mean(each)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_map_against_the_definition(seed):
    rng = np.random.default_rng(seed)
    s = scene(rng)
    matches, everything = M.match_boxes(**s), range(12)
    assert M.mean_average_precision(matches) == pytest.approx(slow_map(s, everything, M.IOU), abs=1e-9)
    assert M.mean_average_precision(matches, threshold=0) == pytest.approx(slow_map(s, everything, [0.5]), abs=1e-9)
    drawn = rng.integers(0, 12, 12)
    assert M.mean_average_precision(matches, drawn, threshold=0) == pytest.approx(slow_map(s, drawn, [0.5]), abs=1e-9)


def one_picture(boxes, scores, true_boxes, labels=None, true_labels=None):
    zeros = np.zeros(len(boxes), int), np.zeros(len(true_boxes), int)
    labels, true_labels = (given if given is not None else zero for given, zero in zip((labels, true_labels), zeros, strict=True))
    boxes, true_boxes = (np.array(b, float).reshape(-1, 4) for b in (boxes, true_boxes))
    return M.match_boxes(
        boxes, np.array(labels), np.array(scores, float), np.array([0, len(boxes)]), true_boxes, np.array(true_labels), np.array([0, len(true_boxes)])
    )


def test_map_by_hand():
    unit, far = [0, 0, 10, 10], [50, 50, 60, 60]
    assert M.mean_average_precision(one_picture([unit], [0.9], [unit])) == 1
    assert M.mean_average_precision(one_picture([far], [0.9], [unit])) == 0
    assert M.mean_average_precision(one_picture([], [], [unit])) == 0
    # IoU 0.8 passes 0.50, 0.55 ... 0.80: 7 of 10 thresholds
    assert M.mean_average_precision(one_picture([[0, 0, 10, 8]], [0.9], [unit])) == pytest.approx(0.7)
    # a duplicate is a false alarm, but one below the hit costs nothing; above it, precision is 1/2
    assert M.mean_average_precision(one_picture([unit, unit], [0.9, 0.8], [unit])) == 1
    assert M.mean_average_precision(one_picture([far, unit], [0.9, 0.8], [unit])) == pytest.approx(0.5)
    # one of two found: precision 1 at the 51 recalls up to 0.50, else 0
    assert M.mean_average_precision(one_picture([unit], [0.9], [unit, far])) == pytest.approx(51 / 101)
    # the right place under the wrong name: class 0 has AP 0, and class 1, which is not in the truth, does not count
    assert M.mean_average_precision(one_picture([unit], [0.9], [unit], [1], [0])) == 0
    # 100 boxes a class and picture: the 101st is not seen
    assert M.mean_average_precision(one_picture([far] * 100 + [unit], [0.9] * 100 + [0.1], [unit])) == 0


@pytest.mark.parametrize("ties", [False, True])
def test_map_against_pycocotools(ties):
    coco, evaluate = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    for seed in range(5):
        s = scene(np.random.default_rng(seed), 30, ties=ties)

        def listed(kind, s=s):
            prefix = "true_" if kind == "true" else ""
            pictures = np.repeat(np.arange(30), np.diff(s[prefix + "offsets"]))
            for i, (picture, box, label) in enumerate(zip(pictures, s[prefix + "boxes"], s[prefix + "labels"], strict=True)):
                x, y, w, h = float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])
                yield {"id": i + 1, "image_id": int(picture), "category_id": int(label), "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}

        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(30)],
            "categories": [{"id": k} for k in range(3)],
            "annotations": list(listed("true")),
            "info": {},
        }
        truth.createIndex()
        found = truth.loadRes([{**b, "score": float(x)} for b, x in zip(listed("found"), s["scores"], strict=True)])
        run = evaluate.COCOeval(truth, found, "bbox")
        run.params.maxDets = [1, 10, 100]
        run.evaluate()
        run.accumulate()
        run.summarize()
        matches = M.match_boxes(**s)
        assert M.mean_average_precision(matches) == pytest.approx(run.stats[0], abs=1e-9)
        assert M.mean_average_precision(matches, threshold=0) == pytest.approx(run.stats[1], abs=1e-9)


# Text


def test_bleu_is_sacrebleus():
    import sacrebleu

    english = ["the cat sat on the mat .", "there is a dog in the garden, isn't there?", "hello", ""]
    close = ["the cat is on the mat .", "there is a dog in the garden , right ?", "hello", "nothing"]
    chinese, near = ["我喜欢在公园里散步。", "今天天气很好,我们去爬山吧。"], ["我喜欢在花园里散步。", "今天天气不错,我们去爬山。"]
    for references, hypotheses, tokenize in ((english, close, "13a"), (chinese, near, "zh")):
        assert M.bleu_tokenizer(references) == tokenize
        statistics = M.bleu_statistics(hypotheses, references)
        assert M.bleu(statistics) == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenize).score)
        twice = np.array([0, 0, 1])  # rows drawn again add up as a corpus that holds them twice
        again = sacrebleu.corpus_bleu([hypotheses[i] for i in twice], [[references[i] for i in twice]], tokenize=tokenize).score
        assert M.bleu(statistics[twice]) == pytest.approx(again)
    assert M.bleu(M.bleu_statistics(chinese, chinese)) == pytest.approx(100)
    assert M.bleu_tokenizer(["これはペンです。"]) == "char" and M.bleu_tokenizer([""]) == "13a" and M.bleu_tokenizer([]) == "13a"
    assert M.bleu_tokenizer(["我们用 PyTorch 训练 Transformer 模型。"]) == "zh"


def test_rouge_l_by_hand_and_by_a_plain_table():
    """Lin 2004's example: police killed the gunman."""
    said, true = ["police kill the gunman", "the gunman kill police", "", "猫坐在垫子上", "x"], ["police killed the gunman"] * 2 + ["", "猫在垫上", ""]
    assert M.rouge_l_rows(said, true).tolist() == pytest.approx([3 / 4, 2 / 4, 1, 2 * 4 / 10, 0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (list(rng.choice(list("abcd"), rng.integers(1, 12))) for _ in range(2))
        longest = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                longest[i + 1, j + 1] = longest[i, j] + 1 if x == y else max(longest[i, j + 1], longest[i + 1, j])
        assert M.rouge_l_rows([" ".join(a)], [" ".join(b)])[0] == pytest.approx(2 * longest[-1, -1] / (len(a) + len(b)))
