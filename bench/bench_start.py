"""Start."""
NAME="start"
