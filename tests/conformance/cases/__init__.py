"""All cases, in the order of the RFCs."""

from __future__ import annotations

from tests.conformance.case import Case
from tests.conformance.cases import (
    chunks,
    conditions,
    connections,
    expectations,
    fields,
    framing,
    lines,
    methods,
    negotiation,
    ranges,
    representations,
    targets,
)

RFC_9112 = (
    *lines.CASES,
    *targets.CASES,
    *fields.CASES,
    *framing.CASES,
    *chunks.CASES,
    *connections.CASES,
)
RFC_9110 = (
    *representations.CASES,
    *methods.CASES,
    *expectations.CASES,
    *negotiation.CASES,
    *conditions.CASES,
    *ranges.CASES,
)
CASES: tuple[Case, ...] = (*RFC_9112, *RFC_9110)
