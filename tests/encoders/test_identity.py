"""The identity hands a drawn vector on, and nothing else fits it."""

import pytest
import torch

from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.schema import Schema
from modelwright.errors import Refusal


def test_the_vector_comes_out_as_it_went_in():
    encoder = find.make("encoders", "identity")
    encoder.build({"z": find.make("kinds", {"noise": 7})})
    x = torch.randn(3, 7)
    assert encoder.width == 7 and torch.equal(encoder(x).pooled(), x) and not list(encoder.parameters())


def test_a_vector_needs_an_encoder_of_vectors():
    parts = {"encoders": {"z": "resnet"}, "fusion": "concat", "heads": {}, "decoders": {}}
    with pytest.raises(Refusal, match="vector"):
        assemble_model(Schema({"z": find.make("kinds", "noise")}, {}), parts)
