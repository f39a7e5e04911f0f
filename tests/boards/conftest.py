from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import serving


@pytest.fixture(scope="session", params=[serving.STORE])
def site(request: pytest.FixtureRequest) -> Iterator[serving.Site]:
    """A running site; tests make boards of their own on it."""
    with serving.new_site(request.param) as site:
        site.serve()
        yield site
