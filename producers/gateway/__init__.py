"""The HTTP gateway: OpenAI's endpoints for clients that have no draft model, answered through the device's client."""
