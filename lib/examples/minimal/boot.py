# boot.py: the network and the clock. It runs before main.py at every start, and the other examples count on it.

import network
import time

WIFI_SSID = "my network"
WIFI_KEY = "my password"
WAIT_S = 20


def lan():
    # The pins and the PHY of a board that upstream knows are in its firmware; those of another one belong in here.
    if hasattr(network, "PHY_OPENETH"):  # qemu's
        return network.LAN(phy_type=network.PHY_OPENETH, phy_addr=1)
    return network.LAN()


def connect():
    wifi = hasattr(network, "WLAN")  # not every chip has it, nor every firmware
    nic = network.WLAN(network.STA_IF) if wifi else lan()
    nic.active(True)
    if wifi and not nic.isconnected():  # after a soft reset it still is
        try:
            nic.connect(WIFI_SSID, WIFI_KEY)
        except OSError as e:
            print("Wi-Fi:", e)  # such as when it is connecting already
    # No longer than this: a device must do its work without a network, too. Wi-Fi goes on trying by itself.
    for _ in range(WAIT_S * 10):
        if nic.isconnected():
            return True
        time.sleep_ms(100)
    return False


def set_clock():
    # Certificates have dates. After power-on it is the year 2000, after a reset the clock goes on.
    if time.gmtime()[0] >= 2025:
        return
    try:
        import ntptime
    except ImportError:
        return  # a board with another source of time, which has to set it here
    for _ in range(3):
        try:
            ntptime.settime()
            return
        except OSError as e:
            print("no time yet:", e)  # an answer was lost; without it an update says CLOCK


if connect():
    set_clock()
