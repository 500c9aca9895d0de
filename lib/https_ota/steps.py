# What takes long, in steps: for callers that have other things to do meanwhile (aio.py). Without such a caller
# nothing here waits or is raised.


class Again(Exception):
    """Nothing has come yet, or nothing can be sent: call the same method again later. Nothing is lost by it."""


AGAIN = Again()  # made once, as it is raised for every wait


def retry(function):
    """A generator that calls function() until it does not raise Again; True is yielded for each wait."""
    while True:
        try:
            return function()
        except Again:
            yield True


def run(steps):
    """Run a generator to its end and return its result."""
    try:
        while True:
            next(steps)
    except StopIteration as e:
        return e.value
