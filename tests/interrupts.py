"""A person at the terminal, and something that happens while a test waits for something else."""

import threading
import time


def when(condition, action=lambda: None):
    """Does something from another thread once something is so."""

    def watch():
        while not condition():
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


class Terminal:
    """Standard input with, or without, a person at it."""

    def __init__(self, answer):
        self.answer = answer

    def isatty(self):
        return self.answer is not None

    def readline(self):
        return f"{self.answer}\n"
