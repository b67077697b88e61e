"""The embedded cloud: MiniStack under supervision, and the job service that really runs SageMaker jobs."""
