"""A ledger of one's own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.books import Books, audit, books_of


@pytest.fixture
async def books(database: str) -> AsyncIterator[Books]:
    """A fresh ledger, audited when the test is done."""
    async with books_of(database) as books:
        yield books
        await audit(books.engine)
