"""Every test of the suite runs on every backend."""

from __future__ import annotations

import pytest
from conformance.machines import Machine, machines


@pytest.fixture(params=machines(), ids=lambda machine: machine.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.param
    return found
