"""Whether a process lives, asked at any moment of its end."""

import psutil


def is_alive(process: int | psutil.Process) -> bool:
    """Whether it runs. A zombie does not, nor does a pid that another process took."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
