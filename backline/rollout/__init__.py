"""Rolling a release out over a fleet: plan (pure), preflight, lease, loop, retreat."""
