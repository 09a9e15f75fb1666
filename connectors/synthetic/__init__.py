"""A small site that does not exist: its hosts, their habits, and the attacks on it."""
