"""Is in a firmware what was to be frozen into it, and how much room does its slot leave? Run at the end of `make firmware`.

PYTHONPATH=tools python3 firmware/check_firmware.py BUILD_FOLDER
PYTHONPATH=tools python3 firmware/check_firmware.py --table TABLE.csv   (before: can a board with this table be updated?)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from https_ota_tools import partition
from https_ota_tools.errors import ToolError

# Without these a board that has this firmware can't be updated any more.
NEEDED = ("https_ota/__init__.py", "https_ota/ota.py", "https_ota_board.py")
# Of a slot; MicroPython and ESP-IDF grow from release to release.
MUCH = 0.9


def frozen_names(text: str) -> list[str]:
    """Return the names of modules in frozen_content.c, as tools/mpy-tool.py writes it."""
    table = text.partition("const char mp_frozen_names[]")[2].partition("};")[0]
    return re.findall(r'"([^"]*\.py)\\0"', table)


def check_table(table: partition.Table, what: str) -> None:
    """Exit with words unless there are two slots and what says which of them boots."""
    slots = [part.name for part in partition.ota_slots(table)]
    if len(slots) < 2 or not partition.otadata(table):
        has = ", ".join(part.name for part in table)
        sys.exit(
            f"{what} can't be updated: expected ota_0, ota_1 and otadata, came {has or 'nothing'}"
        )


def main() -> None:
    """Print size and share of the slot; exit with words when the firmware is not to be used."""
    if sys.argv[1] == "--table":
        path = Path(sys.argv[2])
        try:
            table = partition.read_csv(path.read_text(), str(path))
        except ToolError:
            return  # ESP-IDF may read more than we do, or knows better words
        check_table(table, f"PARTITIONS={path}: a board with this table")
        return
    build = Path(sys.argv[1])
    firmware = build / "micropython.bin"
    data = firmware.read_bytes()
    names = frozen_names((build / "frozen_content.c").read_text())
    for name in (*NEEDED, *names):
        if name.encode() + b"\0" not in data:
            why = (
                f"it was to be frozen: rm -r {build}, and build again"
                if name in names
                else "the manifest does not name it"
            )
            sys.exit(f"{firmware}: {name} is not in it ({why})")
    sdkconfig = (build / "sdkconfig").read_text()
    table = partition.decode((build / "partition_table" / "partition-table.bin").read_bytes())
    check_table(table, f"{firmware}: a board with its partition table")
    slot = min(partition.ota_slots(table), key=lambda part: part.size)
    share = len(data) / slot.size
    print(f"{len(data):,} bytes, {share:.1%} of {slot.name}, {slot.size - len(data):,} are left")
    if named := re.search(
        '^CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="(.*)"$', sdkconfig, re.MULTILINE
    ):
        print(f"partition table: {named[1]}")
    if not {"vfs", "ffat"} & {part.name for part in table}:
        end = max(part.end for part in table)
        print(
            f"files: all that is left of the flash behind {end:#x}, by MicroPython at its first start"
        )
        if "CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y" in sdkconfig:
            print(
                "all your boards have more than 4 MB of flash? FLASH=8 (or 16, 32) makes larger slots"
            )
    if share > MUCH:
        print(
            "that is little for the releases to come: leave out slices (lib/README.md), or what your board does not need "
            "(firmware/README.md)"
        )


if __name__ == "__main__":
    main()
