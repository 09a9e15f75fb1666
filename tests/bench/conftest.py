"""What pytest leaves alone here."""

collect_ignore = ["peers"]  # scripts of an environment of their own
