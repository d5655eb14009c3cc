"""Everything persistent: SQLAlchemy Core functions `f(tx, …)` beside the schema they speak to."""
