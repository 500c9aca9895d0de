"""An ESP32-C3 in Espressif's qemu, behind a serial port and in a network of its own: what `make test-chip` runs on."""

import os
from pathlib import Path

from simserial import Powered

# What this machine is called in that network.
HOST = "10.0.2.2"
# Chip revision 0.3, the oldest that ESP-IDF starts on: WAFER_VERSION_MINOR in what espefuse calls BLOCK1.
_REVISION_BYTE, _REVISION = 38, 3 << 2
_EFUSE_BYTES = 1024


class EmulatedChip(Powered):
    """A chip whose flash is a file. It counts instructions: by the host's clock, FreeRTOS's tick can stop when that is busy."""

    def __init__(self, flash: Path, qemu: str = "") -> None:
        super().__init__()
        self.flash = flash
        self.qemu = qemu or os.environ.get("QEMU") or "qemu-system-riscv32"
        self._efuse = flash.with_name("efuse.bin")
        efuse = bytearray(_EFUSE_BYTES)
        efuse[_REVISION_BYTE] = _REVISION
        self._efuse.write_bytes(efuse)

    def command(self, terminal: str) -> list[str | Path]:
        """Return qemu's command line. A terminal that is a serial port passes all bytes, its standard streams do not."""
        return [
            self.qemu,
            *("-M", "esp32c3", "-icount", "shift=3", "-display", "none", "-monitor", "none"),
            *("-serial", terminal, "-nic", "user,model=open_eth"),
            *("-drive", f"file={self.flash},if=mtd,format=raw"),
            *("-drive", f"file={self._efuse},if=none,format=raw,id=efuse"),
            *("-global", "driver=nvram.esp32c3.efuse,property=drive,value=efuse"),
            # As ESP-IDF's `idf.py qemu` does: without a reason they bite.
            *("-global", "driver=timer.esp32c3.timg,property=wdt_disable,value=true"),
        ]
