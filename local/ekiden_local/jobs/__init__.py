"""SageMaker on a laptop: the wire protocols of `sagemaker` and `sagemaker-runtime`, with real child processes behind them.

Run it with ``python -m ekiden_local.jobs --port P --home DIR``; see docs/job-service.md.
"""
