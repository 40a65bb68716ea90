"""The main job, shown and checked: a Redis, a verifier and devices as processes, and the target alone as the judge."""
