"""What a user would write by hand: no validation, no bookkeeping, no status. A slower peer is no victory."""
