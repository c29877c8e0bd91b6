"""What the forms offer is what there is, and what they refuse never becomes a run."""

from __future__ import annotations

from typing import get_args

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from annotation.formats.registry import FORMATS
from flows.run import EncoderName, FormatName, KnownFormat
from flows.server.deployments import FLOWS, next_batch
from tasks.learning.encoders import SHIPPED


def test_the_formats_offered_are_those_there_are() -> None:
    assert get_args(FormatName) == tuple(FORMATS)
    assert get_args(KnownFormat) == ("by content", *FORMATS)


def test_every_field_of_a_form_has_a_caption() -> None:
    for flow in FLOWS.values():
        schema = parameter_schema(flow).model_dump_for_openapi()
        groups = {group for each in schema["properties"].values() if (group := each.get("$ref", "").rpartition("/")[2])}
        assert groups == schema["definitions"].keys()
        for form in (schema, *schema["definitions"].values()):
            assert [name for name, field in form["properties"].items() if not field.get("description")] == []


def test_the_encoders_offered_are_those_there_are() -> None:
    assert set(get_args(EncoderName)) == set(SHIPPED)


@pytest.mark.parametrize("wrong", [{"n": -1}, {"formats": ["docx"]}, {"seed": -2}, {"another": "maybe"}])
def test_a_value_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterTypeError):
        next_batch.validate_parameters({"workspace": "w", **wrong})
