"""CPython's own tests of ``multiprocessing``, run on our context."""
