"""`python docs/make_audit_schema.py`: writes the JSON schema of audit.json and its table in docs/audit_record.md."""

import json
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from advfool.auditing import record, record_further
from advfool.auditing.record import (
    Audited,
    Environment,
    Honesty,
    Limits,
    Point,
    Record,
    Selection,
    Trial,
    Visit,
    Weights,
)

PAGE = Path(__file__).parent / "audit_record.md"
SCHEMA = Path(record.__file__).parent / "audit.schema.json"
BEGIN, END = "<!-- record: python docs/make_audit_schema.py -->", "<!-- end of record -->"
PARTS = {
    "The whole": Record,
    "`budget`": Limits,
    "`environment`": Environment,
    "Each of `interpreters`": Audited,
    "`honesty` of an interpreter": Honesty,
    "Each of its `trials`": Trial,
    "`selection` of a trial": Selection,
    "Each of its `visits`": Visit,
    "Each point of its `curve`": Point,
    "`weights` of an interpreter": Weights,
    "`seeds` of an interpreter": record_further.Repeated,
    "Each step of `defences`": record_further.Treated,
    "Each of `detectors`": record_further.Detector,
    "`aware` of a detector": record_further.Aware,
    "Each of `population`": record_further.Member,
}


def schema() -> str:
    """Return the JSON schema."""
    found = Record.model_json_schema(by_alias=True)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"audit.json, schema {record.VERSION}"}
    return json.dumps(head | {key: value for key, value in found.items() if key != "title"}, indent=1) + "\n"


def tables() -> str:
    """Return a table of the keys of each part."""
    return "\n\n".join(
        f"### {title}\n\n{(part.__doc__ or '').strip()}\n\n{_table(part)}" for title, part in PARTS.items()
    )


def _table(part: type[BaseModel]) -> str:
    lines = ["| key | always there | meaning |", "|---|---|---|"]
    for name, field in part.model_fields.items():
        always = "yes" if field.is_required() else "no"
        lines.append(f"| `{field.alias or name}` | {always} | {field.description or _of_part(field.annotation)} |")
    return "\n".join(lines)


def _of_part(annotation: object) -> str:
    """Return what the first part that a type names says of itself."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            text = (kind.__doc__ or "").strip().rstrip(".")
            return text[:1].lower() + text[1:]
    return ""


def written(text: str) -> str:
    """Return the page with the present tables."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    SCHEMA.write_text(schema())
    PAGE.write_text(written(PAGE.read_text()))
