"""Running scripts of others: locked in, with limits, and with a workspace for each owner."""
