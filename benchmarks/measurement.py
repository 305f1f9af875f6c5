"""The document that every benchmark prints for ``--json``."""

from __future__ import annotations

from typing import Any

from spquant_search.runs.environment import describe_environment


def as_document(rows: list[Any], figures: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Rows and figures with the machine and the versions that they were measured with."""
    versions = describe_environment()
    machine = {name: versions[name] for name in ("processor", "cores", "system")}
    return {"machine": machine, "versions": versions, **more, "rows": rows, "figures": figures}
