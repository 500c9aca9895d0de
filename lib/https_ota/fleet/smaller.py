# Shorter forms of a release's image, compressed or as deltas: which of them this board can use.

from esp32 import Partition

from ..errors import OTAError


def shorter(forms):
    """The URLs of those that this build can unpack, and whose base runs: in the order of a manifest.Decision's `smaller`."""
    runs = None
    urls = []
    for _, url, needed in forms:
        try:
            if needed is None:
                from ..pack.inflate import Inflate  # noqa: F401  whether it is there
            else:
                from ..pack.patch import identity

                if runs is None:
                    runs = identity(Partition(Partition.RUNNING))
        except ImportError:
            continue
        if needed is None or needed == runs:
            urls.append(url)
    return urls


def of_the_file(code):
    """Whether an error of this code is one that the same image in another form may not have."""
    return code in (OTAError.MEMORY, OTAError.HTTP_STATUS, OTAError.CHANGED) or (
        OTAError.NOT_AN_IMAGE <= code <= OTAError.BASE
        or OTAError.NOT_ENCRYPTED <= code <= OTAError.TAG
    )
