"""Exit codes besides 0, which is done, and 1, which Python gives for a bug."""

EXIT_USER = 2  # the user must change something
EXIT_MISMATCH = 3  # `verify` found a difference
EXIT_INTERRUPTED = 130
