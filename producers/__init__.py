"""The edge side: drafters, the device client, and the demo that shows them at work."""
