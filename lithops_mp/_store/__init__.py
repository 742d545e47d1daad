"""Redis: connections, scripts, names, and this process's place among them.

Only this package imports ``redis``, and nothing imports this package before a
shared object or a process is asked for.
"""
