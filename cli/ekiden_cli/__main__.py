"""``python -m ekiden_cli``."""

from ekiden_cli.main import app

app(prog_name="ekiden")
