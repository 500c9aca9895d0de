// mbedTLS for hashlib, cryptolib and tls on bare metal.
#ifndef RV32_MBEDTLS_CONFIG_H
#define RV32_MBEDTLS_CONFIG_H

#include <time.h>
time_t rv32_time(time_t *t);
#define MBEDTLS_PLATFORM_TIME_MACRO rv32_time
#define MBEDTLS_PLATFORM_MS_TIME_ALT mbedtls_ms_time
#define MBEDTLS_PLATFORM_GMTIME_R_ALT

#define MICROPY_MBEDTLS_CONFIG_BARE_METAL (1)
#include "extmod/mbedtls/mbedtls_config_common.h"

#endif
