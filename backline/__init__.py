"""Backline: infrastructure automation for a music-streaming company."""

__version__ = "0.1.0"
