"""The hub's HTTP API: a file for each resource, and what they share."""
