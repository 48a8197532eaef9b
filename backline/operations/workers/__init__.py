"""Pools of workers and their jobs, through the hosts that have the application's credentials."""
