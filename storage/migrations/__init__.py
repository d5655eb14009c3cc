"""Schema migrations (Alembic): expand first, contract a release later, so that old and new servers can run together."""
