"""What dsdq says about itself: logs now, with session, round and worker bound as context."""
