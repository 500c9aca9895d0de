# Shorter forms of a release's image, compressed or as deltas: which of them this board can use.
#
# In NVS:
#   "smaller"  those that came in whole or in part and were no good, the last 6, the last one first: of each 8 bytes of a
#              SHA-256. They would come to nothing each time that the image itself does not come through

from hashlib import sha256

from esp32 import Partition
from micropython import const

from ..errors import OTAError
from ..flash import nvs
from ..net.url import identity

_MARK = const(8)
_MOST = const(6 * 8)


def shorter(decision, retry_failed):
    """The URLs of those of a manifest.Decision that this build can unpack, whose base runs, and that were not found bad before."""
    bad = () if retry_failed else _bad()
    runs = None
    urls = []
    for _, url, needed in decision.smaller:
        try:
            if needed is None:
                from ..pack.inflate import Inflate  # noqa: F401  whether it is there
            else:
                from ..pack.patch import identity as image_identity

                if runs is None:
                    runs = image_identity(Partition(Partition.RUNNING))
        except ImportError:
            continue
        if (needed is None or needed == runs) and _mark(decision, url) not in bad:
            urls.append(url)
    return urls


def pass_over(decision, url, code):
    """Whether an error of this code is one that the same image in another form may not have; what is damaged is remembered."""
    if OTAError.SEGMENTS <= code <= OTAError.SIZE or code == OTAError.TAG:
        nvs.put("smaller", b"".join([_mark(decision, url)] + _bad())[:_MOST])
    return code in (OTAError.MEMORY, OTAError.HTTP_STATUS, OTAError.CHANGED) or (
        OTAError.NOT_AN_IMAGE <= code <= OTAError.BASE
        or OTAError.NOT_ENCRYPTED <= code <= OTAError.TAG
    )


def _bad():
    buf = bytearray(_MOST)
    n = nvs.get("smaller", buf)
    return [bytes(buf[i : i + _MARK]) for i in range(0, n, _MARK)]


# Of which image, too: a name may be used again.
def _mark(decision, url):
    return sha256(decision.sha256 + identity(url).encode()).digest()[:_MARK]
