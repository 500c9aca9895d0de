# The network module of the SIM board: a station that is connected, for the host's network is there.
from micropython import const

STA_IF = const(0)
AP_IF = const(1)
STAT_IDLE = const(1000)
STAT_GOT_IP = const(1010)


class WLAN:
    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    _stations = {}

    # One object an interface, as on the chip.
    def __new__(cls, interface_id=STA_IF):
        if interface_id not in cls._stations:
            self = object.__new__(cls)
            self._active = self._connected = interface_id == STA_IF
            self._config = {"pm": cls.PM_PERFORMANCE, "mac": b"\x02SIM\x00\x01", "reconnects": -1}
            cls._stations[interface_id] = self
        return cls._stations[interface_id]

    def __init__(self, interface_id=STA_IF):
        pass

    def active(self, is_active=None):
        if is_active is not None:
            self._active = bool(is_active)
            self._connected = self._connected and self._active
        return self._active

    def connect(self, ssid=None, key=None, *, bssid=None):
        if not self._active:
            raise OSError("Wifi Not Started")
        self._connected = True

    def disconnect(self):
        self._connected = False

    def isconnected(self):
        return self._connected

    def status(self, param=None):
        if param == "rssi":
            return -55
        return STAT_GOT_IP if self._connected else STAT_IDLE

    def ifconfig(self):
        return (
            ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
            if self._connected
            else ("0.0.0.0",) * 4
        )

    def config(self, param=None, **new):
        for name in new:
            if name not in self._config:
                raise ValueError("unknown config param")
            self._config[name] = new[name]
        if param is not None:
            if param not in self._config:
                raise ValueError("unknown config param")
            return self._config[param]
