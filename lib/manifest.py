import os

metadata(
    version="0.1.0",
    description="Firmware updates over HTTPS for the ESP32, verified and with rollback.",
    license="MIT",
)

# What a build may leave out, by names: include("path/to/https_ota/lib/manifest.py", without="aio release").
options.defaults(without="")
SLICES = {
    "aio": ("aio", "net/nonblocking"),
    "data": ("flash/data",),
    "digest": ("net/auth",),
    "encrypted": ("trust/decrypt", "trust/ecies", "trust/encrypted", "trust/gcm"),
    "pin": ("net/pin",),
    "release": ("fleet/manifest", "fleet/poll"),
    "repl": ("repl",),
    "sign": ("trust/p384", "trust/signature"),
    "trial": ("boot/guard",),
}

unwanted = options.without.split()
for name in unwanted:
    if name not in SLICES:
        raise ValueError("without: expected names of %s, got %r" % (sorted(SLICES), name))
left_out = {module + ".py" for name in unwanted for module in SLICES[name]}
if "encrypted" in unwanted and "sign" in unwanted:
    left_out.add("trust/ec.py")
files = []
for folder in ("", "boot/", "fleet/", "flash/", "net/", "trust/"):
    files += [folder + f for f in sorted(os.listdir("https_ota/" + folder)) if f.endswith(".py")]

package("https_ota", files=[f for f in files if f not in left_out])
