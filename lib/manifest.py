import os

metadata(
    version="0.1.0",
    description="Firmware updates over HTTPS for the ESP32, verified and with rollback.",
    license="MIT",
)

# What a build may leave out, by names: include("path/to/https_ota/lib/manifest.py", without="aio release").
options.defaults(without="")
SLICES = {
    "aio": ("aio", "nonblocking"),
    "data": ("data",),
    "digest": ("digest",),
    "encrypted": ("crypt", "ecies", "encrypted", "gcm"),
    "pin": ("pin",),
    "release": ("decide", "release"),
    "repl": ("install", "status"),
    "sign": ("sha384", "sign"),
    "trial": ("trial",),
}

unwanted = options.without.split()
for name in unwanted:
    if name not in SLICES:
        raise ValueError("without: expected names of %s, got %r" % (sorted(SLICES), name))
left_out = {module + ".py" for name in unwanted for module in SLICES[name]}
if "encrypted" in unwanted and "sign" in unwanted:
    left_out.add("ec.py")
files = sorted(f for f in os.listdir("https_ota") if f.endswith(".py") and f not in left_out)

package("https_ota", files=files)
