"""Backups of PostgreSQL by pgBackRest: jobs, restore drill, restores, and what Prometheus is told."""
