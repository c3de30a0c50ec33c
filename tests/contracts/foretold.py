"""What must be refused, foretold from what the parts say of themselves, so that the conformance suites find a cell that is refused without need, or not at
all. A new encoder, head or decoder needs nothing here; an objective that refuses something for itself has its lines in OWN."""

from functools import cache

from small_data import TARGETS, schema, spec_of

from modelwright import artifact, find

OWN = {  # objective -> code -> whether it refuses (form of input, encoder as built, what the head says)
    "gan": {
        "gan.target": lambda form, encoder, says: says != "picture",
        "gan.inputs": lambda form, encoder, says: form != "vector",
    },
    "masked": {
        "masked.input": lambda form, encoder, says: form == "vector",
        "masked.grid": lambda form, encoder, says: form == "picture" and encoder.grid is None,
        "plan.idle": lambda form, encoder, says: not any(p.requires_grad for p in encoder.parameters()),
    },
}


def target_of(head):
    """The kind of target that this head is the default of, else the first that it fits."""
    says = find.find("heads", head).says
    kinds = {k: find.find("kinds", find.split(spec)[0]).head for k, spec in TARGETS.items()}
    fits = [k for k, own in kinds.items() if find.find("heads", own).says == says]
    assert fits, f"a new form of target, {says}: give a kind of it a spec in small_data.TARGETS and a column"
    return next((k for k in fits if kinds[k] == head), fits[0])


def stepwise(head):
    """It says one token after another: its own decoder needs that."""
    return find.find("decoders", find.find("heads", head).decoder).steps


@cache
def built(encoder, form):
    """The encoder, as a head meets it."""
    made = schema(form, "category", encoder)
    (key,) = made.encoders()
    parts = {"encoders": {key: spec_of(encoder, form)}, "fusion": "concat", "heads": {"y": "classes"}, "decoders": {}}
    return artifact.assemble_model(made, parts).encoders[key]


def of_objective(objective, encoder, form, head):
    """The code by which the objective refuses what it is given beside its rows, or None."""
    says = find.find("heads", head).says
    return next((code for code, refuses in OWN.get(objective, {}).items() if refuses(form, built(encoder, form), says)), None)


def of_cell(encoder, form, objective, head):
    """The code by which `plan` must refuse the cell; None: it has to train."""
    acts, target = find.make("objectives", objective).experience is not None, target_of(head)
    if acts and target in ("action", "value"):
        return None if form in ("table", "series") else "encoder.input"  # CartPole shows a table, or its history
    if target == "value":
        return "kind.target"  # no table holds it
    if target == "boxes" and built(encoder, form).grid is None:
        return "head.grid"
    return "objective.environment" if acts else of_objective(objective, encoder, form, head)


def of_head(head, kind):
    """Of a head on a kind of target whose form it is for."""
    return "head.target" if head == "binary" and kind.classes != 2 else None


def of_decoder(decoder, head, kind):
    made = find.find("decoders", decoder)
    strange = made.takes is not None and find.find("heads", head).says not in made.takes
    return "decoder.head" if (made.steps and not stepwise(head)) or strange or (decoder == "group_thresholds" and kind.classes != 2) else None
