"""Host side of https_ota: prepares and inspects what the chip downloads and what its flash holds.

Each command of `https-ota` is a module here with a function a script can call as well.
"""
