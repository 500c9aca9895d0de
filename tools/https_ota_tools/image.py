"""Application images: what is in them, and what the chip's own checks would say of them.

esptool does the parsing, the checksum and the digest; here is what it leaves to the reader: the verdict.
"""

from __future__ import annotations

import contextlib
import enum
import io
import re
import struct
from dataclasses import dataclass

import esptool.bin_image
import esptool.targets

from https_ota_tools import partition
from https_ota_tools.errors import ToolError

MAGIC = 0xE9
_ESP8266_MAGIC = 0xEA  # of its second version; the first has the same as the ESP32's
DESC_OFFSET = 0x20
DESC_MAGIC = 0xABCD5432
MAX_SEGMENTS = 16

_HEADER_BYTES = 24
_DESC = struct.Struct("<II8x32s32s16s16s32s32sHHBB74x")
_BOOTLOADER_DESC_MAGIC = 80
_DIGEST_BYTES = 32
_SPI_MODES = ("QIO", "QOUT", "DIO", "DOUT", "FAST_READ", "SLOW_READ")
_MMU_PAGE = 0x10000

# What people give by mistake, by its first bytes.
_OTHER_FILES = {
    b"\x3d\xb8\xf3\x96": "an image for MCUboot, as Zephyr builds them; boards with ESP-IDF's bootloader can't start it",
    b"\x7fELF": "an ELF file; `esptool elf2image` turns it into an image",
    b"UF2\n": "a UF2 file; the .app-bin or micropython.bin of the same build is the image",
    b"\xcf\xb6\x88\x07": "an encrypted image; sign an image before it is encrypted, `https-ota decrypt` opens it",
    b"<": "a page of HTML or XML; was it downloaded from the right address?",
}


class Verdict(enum.Enum):
    """Outcome of one check."""

    VALID = "valid"
    INVALID = "invalid"
    ABSENT = "absent"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class Segment:
    """A piece of the image and the address it is loaded or mapped to. Sizes and offsets are in bytes."""

    load_addr: int
    size: int
    offset: int
    memory: str
    mapped: bool


@dataclass(frozen=True)
class AppDesc:
    """The descriptor that ESP-IDF puts first into an application (esp_app_desc_t)."""

    secure_version: int
    version: str
    project_name: str
    time: str
    date: str
    idf_ver: str
    app_elf_sha256: str
    min_efuse_blk_rev_full: int
    max_efuse_blk_rev_full: int
    mmu_page_size: int
    spi_flash_mode: int


@dataclass(frozen=True)
class Image:
    """An image that could be parsed. Revisions are major * 100 + minor, sizes in bytes."""

    chip: str
    chip_id: int
    min_rev: int
    min_rev_full: int
    max_rev_full: int
    spi_mode: str
    flash_size: str
    flash_freq: str
    entry: int
    bootloader_offset: int
    segments: list[Segment]
    desc: AppDesc | None
    length: int
    checksum: int
    calculated_checksum: int
    digest: bytes | None
    calculated_digest: bytes


@dataclass(frozen=True)
class Report:
    """The checks of a file; `image` is None when there is nothing to parse."""

    size: int
    image: Image | None
    checks: list[Check]
    # Of padding and signatures behind the image, when they were looked for.
    signature_bytes: int = 0

    @property
    def valid(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """What was found wrong, in words."""
        return [c.detail for c in self.checks if c.verdict is Verdict.INVALID]


def examine(data: bytes) -> Report:
    """Check a file that should be an application image. Never raises for what is in the file.

    What is behind the image is left to others: in a slot, it may be the rest of an older one.
    """
    try:
        refuse_other_files(data)
        image = load(data)
    except ToolError as e:
        return Report(len(data), None, [Check("file", Verdict.INVALID, str(e))])
    return Report(
        len(data), image, [_check_segments(image), _check_desc(data, image), *integrity(image)]
    )


def load_app(data: bytes) -> Image:
    """Parse an application that is to be used. Raises ToolError if anything is wrong with it."""
    report = examine(data)
    if report.image is None or not report.valid:
        raise ToolError(f"the application can't be used: {'; '.join(report.problems)}")
    return report.image


class _File(io.BytesIO):
    """What esptool reads: a file with a name, in all of its versions."""

    name = "image"


def load(data: bytes) -> Image:
    """Parse an image, application or bootloader. Raises ToolError if it isn't one or is cut off."""
    if len(data) < _HEADER_BYTES:
        raise ToolError(
            f"the file ends within the image header: expected 24 bytes, came {len(data)}"
        )
    if data[0] != MAGIC:
        raise ToolError(f"not an image: expected first byte {MAGIC:#04x}, came {data[0]:#04x}")
    if not 1 <= data[1] <= MAX_SEGMENTS:
        raise ToolError(f"the header says {data[1]} segments: expected 1 to {MAX_SEGMENTS}")
    if data[23] > 1:
        raise ToolError(f"the header's hash_appended (byte 23) is {data[23]:#x}: expected 0 or 1")
    chip_id = int.from_bytes(data[12:14], "little")
    chip = chip_name(chip_id)
    try:
        raw = esptool.bin_image.LoadFirmwareImage(chip, _File(data))
    except (RuntimeError, struct.error, TypeError) as e:
        # struct.error and TypeError are what esptool raises when the file ends in a header or before the checksum.
        why = f": {e}" if isinstance(e, RuntimeError) else ""
        raise ToolError(f"the image is cut off, the file has only {len(data)} bytes{why}") from e
    if raw.append_digest and len(raw.stored_digest) < _DIGEST_BYTES:
        raise ToolError(
            f"the image is cut off within its SHA-256, the file has only {len(data)} bytes"
        )
    segments = [
        Segment(
            s.addr,
            # The size in the file: esptool has filled up the data to a multiple of 4.
            int.from_bytes(data[s.file_offs + 4 : s.file_offs + 8], "little"),
            s.file_offs + 8,
            ", ".join(s.get_memory_type(raw)),
            raw.is_flash_addr(s.addr),
        )
        for s in raw.segments
    ]
    # The checksum is the last byte of a block of 16.
    end = (segments[-1].offset + segments[-1].size) // 16 * 16 + 16
    rom = raw.ROM_LOADER
    return Image(
        chip=chip,
        chip_id=chip_id,
        min_rev=raw.min_rev,
        min_rev_full=raw.min_rev_full,
        max_rev_full=raw.max_rev_full,
        spi_mode=spi_mode_name(raw.flash_mode),
        flash_size=_key(rom.FLASH_SIZES, raw.flash_size_freq & 0xF0),
        flash_freq=_key(rom.FLASH_FREQUENCY, raw.flash_size_freq & 0x0F),
        entry=raw.entrypoint,
        bootloader_offset=rom.BOOTLOADER_FLASH_OFFSET,
        segments=segments,
        desc=parse_desc(raw.segments[0].data),
        length=end + (_DIGEST_BYTES if raw.append_digest else 0),
        checksum=raw.checksum,
        calculated_checksum=raw.calculate_checksum(),
        digest=raw.stored_digest if raw.append_digest else None,
        calculated_digest=raw.calc_digest if raw.append_digest else b"",
    )


def integrity(image: Image) -> list[Check]:
    """Check checksum and hash of an image."""
    good = image.checksum == image.calculated_checksum
    checks = [
        Check("checksum", Verdict.VALID, f"{image.checksum:#04x}")
        if good
        else Check(
            "checksum",
            Verdict.INVALID,
            f"checksum: expected {image.calculated_checksum:#04x}, came {image.checksum:#04x}; the image is corrupt",
        )
    ]
    if image.digest is None:
        checks.append(
            Check("SHA-256", Verdict.ABSENT, "none appended, only the checksum guards this image")
        )
    elif image.digest == image.calculated_digest:
        checks.append(Check("SHA-256", Verdict.VALID, image.digest.hex()))
    else:
        detail = f"SHA-256: expected {image.calculated_digest.hex()}, came {image.digest.hex()}; the image is corrupt"
        checks.append(Check("SHA-256", Verdict.INVALID, detail))
    return checks


def refuse_other_files(data: bytes) -> None:
    """Raise ToolError for a file that is something else than one image, with words on what it is."""
    if not data:
        raise ToolError("the file is empty")
    # A combined image begins with a valid bootloader image: only its partition table gives it away.
    offsets = {rom.BOOTLOADER_FLASH_OFFSET for rom in esptool.targets.CHIP_DEFS.values()}
    for at in sorted(partition.TABLE_OFFSET - offset for offset in offsets):
        try:
            table = partition.decode(data[at : at + partition.TABLE_BYTES])
        except ToolError:
            continue
        start = min(
            (p.offset for p in table if p.type == partition.APP), default=partition.TABLE_OFFSET
        )
        start -= partition.TABLE_OFFSET - at
        raise ToolError(
            f"a combined image: there is a partition table at {at:#x}, so this file (firmware.bin) is for flashing "
            "by cable; expected the application alone, which the same build has as micropython.bin or .app-bin "
            f"(here it starts at {start:#x})"
        )
    if _is_esp8266(data):
        raise ToolError(
            "an ESP8266 image: expected one for an ESP32 (the ESP8266 has neither such slots nor this format)"
        )
    for start_bytes, what in _OTHER_FILES.items():
        if data.startswith(start_bytes):
            raise ToolError(f"not an image but {what}")


def _is_esp8266(data: bytes) -> bool:
    """Return whether esptool reads it as an ESP8266's, and it is none of the later chips'."""
    if data[:1] not in (bytes([MAGIC]), bytes([_ESP8266_MAGIC])):
        return False
    ids = {getattr(rom, "IMAGE_CHIP_ID", None) for rom in esptool.targets.CHIP_DEFS.values()}
    chip_id = int.from_bytes(data[12:14], "little")
    if data[0] == MAGIC and data[23:24] in (b"\0", b"\1") and chip_id in ids:
        return False
    try:
        # It prints what it finds suspicious.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            raw = esptool.bin_image.LoadFirmwareImage("esp8266", _File(data))
    except (RuntimeError, struct.error, TypeError):
        return False
    return bool(raw.segments) and raw.checksum == raw.calculate_checksum()


def spi_mode_name(number: int) -> str:
    """Return the name of a flash mode, byte 2 of an image, or the number if it is none."""
    return dict(enumerate(_SPI_MODES)).get(number, f"{number:#x}")


def chip_name(chip_id: int) -> str:
    """Return the name of a chip as esptool spells it. Raises ToolError for a number that no chip has."""
    for name, rom in esptool.targets.CHIP_DEFS.items():
        if getattr(rom, "IMAGE_CHIP_ID", None) == chip_id:
            return str(name)
    raise ToolError(f"the header's chip id {chip_id:#06x} belongs to no known chip")


def _key(names: dict[str, int], value: int) -> str:
    return next((name for name, number in names.items() if number == value), f"{value:#04x}")


def parse_desc(segment: bytes) -> AppDesc | None:
    """Parse the descriptor at the start of an application's first segment, None when there is none."""
    if len(segment) < _DESC.size:
        return None
    magic, secure_version, *texts, elf_sha256, min_rev, max_rev, mmu_page, spi_mode = (
        _DESC.unpack_from(segment)
    )
    if magic != DESC_MAGIC:
        return None
    version, project, time, date, idf_ver = map(_text, texts)
    return AppDesc(
        secure_version,
        version,
        project,
        time,
        date,
        idf_ver,
        elf_sha256.hex(),
        min_rev,
        max_rev,
        1 << mmu_page if 0 < mmu_page < 32 else 0,
        spi_mode,
    )


def _text(raw: bytes) -> str:
    # The file may come from anywhere: no control character of it shall reach a terminal.
    return re.sub(r"[^ -~]", "?", raw.split(b"\0")[0].decode("latin-1"))


def _check_segments(image: Image) -> Check:
    page = image.desc.mmu_page_size if image.desc and image.desc.mmu_page_size else _MMU_PAGE
    for s in image.segments:
        if s.mapped and s.offset % page != s.load_addr % page:
            detail = (
                f"the segment for {s.load_addr:#x} is at {s.offset:#x} in the file: "
                f"both must agree modulo {page:#x}, or the flash cache can't map it"
            )
            return Check("segments", Verdict.INVALID, detail)
        if s.size % 4:
            detail = (
                f"the segment for {s.load_addr:#x} has {s.size} bytes: expected a multiple of 4"
            )
            return Check("segments", Verdict.INVALID, detail)
    return Check("segments", Verdict.VALID, f"{len(image.segments)}")


def _check_desc(data: bytes, image: Image) -> Check:
    if image.desc:
        return Check("app descriptor", Verdict.VALID, f"{DESC_MAGIC:#x} at {DESC_OFFSET:#x}")
    came = int.from_bytes(data[DESC_OFFSET : DESC_OFFSET + 4], "little")
    detail = f"no application: expected {DESC_MAGIC:#x} at {DESC_OFFSET:#x}, came {came:#010x}"
    if came & 0xFF == _BOOTLOADER_DESC_MAGIC:
        detail += ", the mark of a bootloader"
    elif any(s.mapped for s in image.segments):
        detail += (
            f"; an {image.chip} image without the descriptor of ESP-IDF's applications, as Zephyr, NuttX and ESP-IDF "
            "before 3.2 build them: boards take none, as it tells the version and what build it is"
        )
    return Check("app descriptor", Verdict.INVALID, detail)
