"""Releases: what an app says of itself, how it is packed, signed, found again and verified."""
