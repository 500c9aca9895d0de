// What the qemu port lacks: clocks, polling the UART, a file system at boot, a heap of any size.
// Device addresses are those of QEMU's "virt" machine.

#include "py/gc.h"
#include "py/mphal.h"
#include "py/runtime.h"
#include "py/stream.h"
#include "shared/runtime/pyexec.h"
#include "shared/timeutils/timeutils.h"
#include "mbedtls/platform_time.h"
#include "mbedtls/platform_util.h"
#include "uart.h"

// Two of the words in the page below the flash (see modules/_sim.py).
#define HEAP_SIZE (*(volatile uint32_t *)0x80fff000) // bytes, 0: all there is
#define RUNNING_APP (*(volatile uint32_t *)0x80fff010)

#define MTIME_LOW (*(volatile uint32_t *)0x0200bff8) // 10 MHz
#define MTIME_HIGH (*(volatile uint32_t *)0x0200bffc)
#define RTC_LOW (*(volatile uint32_t *)0x00101000) // ns since 1970; reading it latches the other half
#define RTC_HIGH (*(volatile uint32_t *)0x00101004)
#define SECONDS_1970_TO_2000 (946684800ULL)

#define UART_IRQ (10)
#define UART_IER (*(volatile uint8_t *)0x10000001)
#define UART_LSR (*(volatile uint8_t *)0x10000005)
#define UART_LSR_DR (1)
#define PLIC_PRIORITY(irq) (*(volatile uint32_t *)(0x0c000000 + 4 * (irq)))
#define PLIC_ENABLE (*(volatile uint32_t *)0x0c002000)
#define PLIC_CLAIM (*(volatile uint32_t *)0x0c200004)

void __real_gc_init(void *start, void *end);
void __real_mp_init(void);
void __wrap_gc_init(void *start, void *end);
void __wrap_mp_init(void);
int __wrap_mp_hal_stdin_rx_chr(void);
uintptr_t __wrap_mp_hal_stdio_poll(uintptr_t flags);
time_t rv32_time(time_t *t);
int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen);

// --- clocks: upstream's own are taken where there are any, since 1.27

static uint64_t mtime(void) {
    uint32_t high, low;
    do {
        high = MTIME_HIGH;
        low = MTIME_LOW;
    } while (high != MTIME_HIGH);
    return (uint64_t)high << 32 | low;
}

MP_WEAK mp_uint_t mp_hal_ticks_cpu(void) {
    return MTIME_LOW;
}

MP_WEAK mp_uint_t mp_hal_ticks_us(void) {
    return mtime() / 10;
}

MP_WEAK mp_uint_t mp_hal_ticks_ms(void) {
    return mtime() / 10000;
}

MP_WEAK void mp_hal_delay_us(mp_uint_t us) {
    uint64_t end = mtime() + (uint64_t)us * 10;
    while (mtime() < end) {
    }
}

MP_WEAK void mp_hal_delay_ms(mp_uint_t ms) {
    uint64_t end = mtime() + (uint64_t)ms * 10000;
    while (mtime() < end) {
        mp_handle_pending(true);
    }
}

static uint64_t ns_since_1970(void) {
    uint32_t low = RTC_LOW;
    return (uint64_t)RTC_HIGH << 32 | low;
}

// The epoch is the chip's, 2000.
uint64_t mp_hal_time_ns(void) {
    return ns_since_1970() - SECONDS_1970_TO_2000 * 1000000000;
}

time_t rv32_time(time_t *t) {
    (void)t;
    return ns_since_1970() / 1000000000;
}

mbedtls_ms_time_t mbedtls_ms_time(void) {
    return mtime() / 10000;
}

// mbedTLS asks for it where it prints the dates of certificates; there is no libc that has it.
struct tm *mbedtls_platform_gmtime_r(const mbedtls_time_t *time, struct tm *tm) {
    timeutils_struct_time_t t;
    timeutils_seconds_since_epoch_to_struct_time(*time - SECONDS_1970_TO_2000, &t);
    *tm = (struct tm) {
        .tm_year = t.tm_year - 1900, .tm_mon = t.tm_mon - 1, .tm_mday = t.tm_mday,
        .tm_hour = t.tm_hour, .tm_min = t.tm_min, .tm_sec = t.tm_sec,
    };
    return tm;
}

// Not random, but nothing here has a secret. MicroPython has one of its own since 1.28.
MP_WEAK int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen) {
    (void)data;
    for (size_t i = 0; i < len; ++i) {
        output[i] = MTIME_LOW * 2654435761u >> 24;
    }
    *olen = len;
    return 0;
}

// --- the UART, without a busy loop on a host that may have one core to spare

static void uart_init_wait(void) {
    // Interrupts only wake the processor up, nothing handles them.
    __asm volatile ("csrci mstatus, 8");
    UART_IER = 1;
    PLIC_PRIORITY(UART_IRQ) = 1;
    PLIC_ENABLE = 1 << UART_IRQ;
    __asm volatile ("csrs mie, %0" : : "r" (1 << 11));
}

int __wrap_mp_hal_stdin_rx_chr(void) {
    for (;;) {
        int c = uart_rx_chr();
        if (c != UART_RX_NO_CHAR) {
            return c;
        }
        __asm volatile ("wfi");
        uint32_t irq = PLIC_CLAIM;
        PLIC_CLAIM = irq;
    }
}

uintptr_t __wrap_mp_hal_stdio_poll(uintptr_t flags) {
    uintptr_t ready = flags & MP_STREAM_POLL_WR;
    if (UART_LSR & UART_LSR_DR) {
        ready |= flags & MP_STREAM_POLL_RD;
    }
    return ready;
}

// --- start

// Once, at power-on or after a reset of the machine.
void __wrap_gc_init(void *start, void *end) {
    size_t size = HEAP_SIZE;
    if (size != 0 && size < (size_t)((char *)end - (char *)start)) {
        end = (char *)start + size;
    }
    RUNNING_APP = 0;
    uart_init_wait();
    __real_gc_init(start, end);
}

// Then, and at each soft reset, as the esp32 port runs its own.
void __wrap_mp_init(void) {
    __real_mp_init();
    pyexec_frozen_module("_boot.py", false);
}
