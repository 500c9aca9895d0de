from .http import identity  # noqa: F401  until it is here
