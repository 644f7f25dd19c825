"""Tables as text and as numbers."""

import json

import pytest

from advfool.reporting.paper import paper_tables
from advfool.reporting.paper.record import as_markdown, of_table
from tests.helpers.runs import grid


def test_tables_as_text_and_as_numbers():
    table = paper_tables(grid())[0]
    text = as_markdown(table)
    assert "| location | lrp_t | 93.0 (0.8) | 93.0 (87.5) | 93.0 (66.8) |" in text
    numbers = json.loads(json.dumps(of_table(table)))
    assert numbers["rows"][0]["cells"]["vgg_tiny gradcam"]["values"] == pytest.approx([90, 92, 97])
