"""lithops_mp against a floor and against what one would use instead: ``python -m bench``."""
