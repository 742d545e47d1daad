"""For all tests: none may hang, and some are of whole programs."""

pytest_plugins = ["support.watchdog", "support.scripts"]
