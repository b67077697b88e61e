"""SageMaker on a laptop: its wire protocols, and real child processes behind them.

Run it with ``python -m ekiden_local.jobs --port P --home DIR``; see docs/job-service.md.
"""
