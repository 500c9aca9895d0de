#include "boards/ESP32_GENERIC_S3/mpconfigboard.h"
