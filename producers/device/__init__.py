"""The device: drafts, publishes, reads verdicts, hands committed tokens to its user."""
