# What came in place of an image, by its first bytes: the stream that unpacks it.

from struct import unpack_from


def unpack(source, file, region, head, n, resumed=False):
    """The stream of what is in a file that began with head[:n], and goes on in `source`; None when that is unknown here.

    file     what it comes from at last: lengths and content that it knows are of what is in it, and no use to it
    region   the flash.slot.Slot that it is for
    resumed  True goes on with one: `head` is its mark, n the position of what is in it
    """
    stream = None
    mark = getattr(source, "mark", None)
    if mark is None:
        found = unpack_from("<BIII", head) if resumed else _packed(head, n)
        if found:
            from .inflate import Inflate

            stream = Inflate(source, found[0], found[1] or None, 2 * region.size, region.piece)
            if resumed:
                stream.resume(found[2], found[3], n)
            else:
                stream.feed(head, n)
    # What a patch makes is no other one.
    if stream is None and mark != b"" and n > 40 and head[:4] == b"\x10\xde\xcd\xfc":
        from .patch import Patch

        came = getattr(region, "came", None)
        runs = came and came.is_of(file, region.running_info())
        stream = Patch(source, head, n, region.running, runs)
    file.least = 0
    file.content_checked = False
    return stream


def _packed(head, n):
    # (wbits, total or 0) by the header of gzip or zlib, None when it is neither.
    if n < 18:
        return None
    if head[:3] == b"\x1f\x8b\x08":
        wbits, total = 15, 0
        at = 12
        end = at + unpack_from("<H", head, 10)[0]
        while head[3] & 4 and at + 9 <= end <= n:
            if bytes(head[at : at + 4]) == b"WS\5\0":
                wbits, total = unpack_from("<BI", head, at + 4)
            at += 4 + head[at + 2]
        return min(max(wbits, 8), 15), total
    if head[0] & 0x8F == 8 and not head[1] & 32 and (head[0] << 8 | head[1]) % 31 == 0:
        return (head[0] >> 4) + 8, 0
    return None
