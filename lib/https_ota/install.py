# Installing from something that is no URL, for the REPL.


def install(source, **options):
    """Install an image from a file of the board ("/sd/fw.bin", "/remote/fw.bin"), or from any object with readinto(buf).

    Checks and returns what update() does; the options are its own. A URL is for update() as well.
    Raises what update() raises, and OSError when there is no such file.
    """
    from .ota import update

    if isinstance(source, str) and "://" not in source:
        with open(source, "rb") as f:
            return update(f, **options)
    return update(source, **options)
