"""Batch jobs: files of requests that are done once each, whatever dies meanwhile."""
