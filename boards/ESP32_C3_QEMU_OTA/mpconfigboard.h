#include "boards/ESP32_GENERIC_C3/mpconfigboard.h"

#undef MICROPY_HW_BOARD_NAME
#define MICROPY_HW_BOARD_NAME "ESP32C3 in qemu with HTTPS OTA"

// No radio is emulated.
#define MICROPY_PY_NETWORK_WLAN (0)
#define MICROPY_PY_ESPNOW (0)
#define MICROPY_PY_BLUETOOTH (0)
