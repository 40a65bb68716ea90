"""Redis, and nothing else: keys, scripts and streams. Payloads are bytes here; what they mean is the wire's matter."""
