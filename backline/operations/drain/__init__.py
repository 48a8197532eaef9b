"""Hosts that leave the service for a while, and come back: seen and judged first, then carried out."""
