"""What one client may have, and all of them together: connections, time, lines of the log. Knows no HTTP."""
