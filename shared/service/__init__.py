"""The life cycle of a service process: connect, say ready, drain on a signal; and supervised child processes."""
