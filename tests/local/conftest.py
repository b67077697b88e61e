"""Fixtures of the embedded cloud's tests."""

from tests.local.jobs_support import job_cloud, jobs, own_jobs

__all__ = ["job_cloud", "jobs", "own_jobs"]
