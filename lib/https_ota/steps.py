# What takes long, in steps: for callers that have other things to do meanwhile (aio.py).


def until(function):
    """A generator that calls function() until it does not return None; True is yielded for each wait."""
    while True:
        result = function()
        if result is not None:
            return result
        yield True


def run(steps):
    """Run a generator to its end and return its result."""
    try:
        while True:
            next(steps)
    except StopIteration as e:
        return e.value
