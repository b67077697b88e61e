"""`python -m ekiden_engine`: the same as the console script `ekiden-engine`."""

from ekiden_engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
