"""The hub: a long-running service that remembers what a fleet did, answers over HTTP, and shows it in a browser."""
