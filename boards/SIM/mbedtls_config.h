// mbedTLS as the esp32 port has it, with its memory in the MicroPython heap.
#ifndef SIM_MBEDTLS_CONFIG_H
#define SIM_MBEDTLS_CONFIG_H

// m_tracked_calloc() in place of malloc().
#define MICROPY_MBEDTLS_CONFIG_BARE_METAL (1)
#include "extmod/mbedtls/mbedtls_config_common.h"

// A host has entropy, a bare-metal board would bring its own.
#undef MBEDTLS_ENTROPY_HARDWARE_ALT
#undef MBEDTLS_NO_PLATFORM_ENTROPY

// CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN of this build, set on the make line.
#undef MBEDTLS_SSL_IN_CONTENT_LEN
#define MBEDTLS_SSL_IN_CONTENT_LEN SIM_TLS_IN_CONTENT_LEN

// On in ESP-IDF's defaults and off in MicroPython's unix port.
#define MBEDTLS_BASE64_C
#define MBEDTLS_ECP_NIST_OPTIM
#define MBEDTLS_PEM_PARSE_C
#define MBEDTLS_PKCS1_V21
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#define MBEDTLS_TIMING_C

#endif
