"""For all tests: none may hang."""

pytest_plugins = ["support.watchdog"]
