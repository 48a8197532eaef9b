# Two commands on a fresh Debian 12 machine: `make demo`, then `make test`.
# Everything else is `inv --list` (contributors) and `fab --list` (operators).
INV = .venv/bin/inv

.PHONY: help demo test test-fast test-rollout test-data clean
help:
	@echo "make demo       a fleet on this machine, a song served, a rolling deploy under load"
	@echo "make test       everything CI runs (about three quarters of an hour on 2 cores)"
	@echo "make test-fast  lint, unit and template tests (about a minute)"
	@echo "make test-rollout  the rollout engine: faults at every step on a real fleet (hours)"
	@echo "make test-data  the data tier: hosts killed, cut off, full; lost rows counted (hours)"
	@echo "make clean      remove the lab, its images and what was built here"
	@echo "then: . .venv/bin/activate; inv --list; fab --list"

demo: .venv/.fab
	@$(INV) demo

test: .venv/.fab
	@$(INV) test

test-fast: .venv/.fab
	@$(INV) test.fast

test-rollout: .venv/.fab
	@$(INV) test.rollout

test-data: .venv/.fab
	@$(INV) test.data

clean: .venv/.fab
	@$(INV) lab.down --images
	rm -rf .venv .cache .lab dist

.venv/.ready: requirements.lock lab/bootstrap
	@sh lab/bootstrap

# In place of Fabric's own, and again whenever the environment is made anew.
.venv/.fab: .venv/.ready lab/own-fab lab/fab.py
	@sh lab/own-fab
	@touch .venv/.fab
