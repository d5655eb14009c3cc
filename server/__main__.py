"""`python -m server`: see `server/main.py`."""

from server.main import main

if __name__ == "__main__":
    raise SystemExit(main())
