import os

metadata(
    version="0.1.0",
    description="Firmware updates over HTTPS for the ESP32, verified and with rollback.",
    license="MIT",
)

# A build takes all slices, or the core and those it names: include("path/to/https_ota/lib/manifest.py", slices="signed fleet").
# Each slice: its modules, and the slices that it can't do without. This table alone says where a module belongs; package.json,
# what mip installs and the tests are made from it. A new module needs a place here.
SLICES = {
    "core": (
        """
        __init__ errors events hot names ota find steps
        flash/nvs flash/otadata flash/image flash/slot flash/resume
        net/tls net/http net/request net/download net/retry net/odd
        boot/confirm
        """,
        "chip history words",
    ),
    "aio": ("aio net/nonblocking", ""),
    "auth": ("net/auth", ""),
    "chip": ("flash/chip", ""),
    "ec": ("trust/ec", ""),
    "encrypted": ("trust/decrypt trust/ecies trust/encrypted trust/gcm", "ec"),
    "fleet": ("fleet/manifest fleet/poll", "history"),
    "guard": ("boot/guard", "history"),
    "history": ("boot/history boot/rollback boot/version", ""),
    "p384": ("trust/p384", "signed"),
    "partitions": ("flash/data", ""),
    "pin": ("net/pin", ""),
    "repl": ("repl", "history"),
    "signed": ("trust/signature", "ec"),
    "words": ("flash/words net/chain net/words usage", ""),
}

options.defaults(slices=" ".join(SLICES))
if options.without is not None:
    raise ValueError("without: name what to take instead, slices=%r" % " ".join(SLICES))
wanted = ["core"]
for name in options.slices.split():
    if name not in SLICES:
        raise ValueError("slices: expected names of %s, got %r" % (", ".join(SLICES), name))
    wanted.append(name)
for name in wanted:  # it grows meanwhile
    wanted += [n for n in SLICES[name][1].split() if n not in wanted]

listed = [name + ".py" for modules, _ in SLICES.values() for name in modules.split()]
there = [
    os.path.relpath(os.path.join(folder, f), "https_ota").replace(os.sep, "/")
    for folder, _, files in os.walk("https_ota")
    for f in files
    if f.endswith(".py")
]
if sorted(listed) != sorted(there):
    odd = sorted(set(listed) ^ set(there)) or "one twice"
    raise ValueError("lib/manifest.py: SLICES and the files in https_ota/ differ: %s" % odd)

package(
    "https_ota",
    files=[m + ".py" for name in SLICES if name in wanted for m in SLICES[name][0].split()],
)
