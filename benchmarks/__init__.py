"""Measurements beside what a user would write by hand; `make bench` runs them all."""
