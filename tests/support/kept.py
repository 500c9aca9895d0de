"""Programs for a board that tell what a session keeps, and what it allocates on its way."""

KEPT = """
import gc, https_ota
def kept():
    ota = https_ota.OTA(open({path!r}, "rb"){options})
    ota.begin()
    for _ in range(4):
        ota.perform()
    gc.collect()
    used = gc.mem_alloc()
    ota.abort()
    return used
gc.collect()
base = gc.mem_alloc()
print(kept() - base)
"""


def steady(url, lock, **options):
    """50 sectors in the middle of an update; prints the bytes allocated."""
    options.setdefault("resume", False)
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"""
import gc, https_ota, micropython
ota = https_ota.OTA({url!r}, cadata=open("ca.pem").read(){given})
ota.begin()
for _ in range(4):
    ota.perform()
gc.collect()
gc.disable()
before = gc.mem_alloc()
if {lock}:
    micropython.heap_lock()
for _ in range(50):
    ota.perform()
if {lock}:
    micropython.heap_unlock()
print(gc.mem_alloc() - before)
gc.enable()
while ota.perform():
    pass
ota.finish()
"""
