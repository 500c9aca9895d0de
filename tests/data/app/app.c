// Demo application: the smallest program that makes a complete ESP32-C3 image, with a large table in it
// so that it downloads like a real one. Nothing of it is run by the tests; it is laid out as ESP-IDF does,
// so that esptool, and a bootloader, find what they look for.
#include <stdint.h>

// esp_app_desc_t of ESP-IDF. esptool puts the SHA-256 of the ELF file into app_elf_sha256.
struct app_desc {
    uint32_t magic;
    uint32_t secure_version;
    uint32_t reserved1[2];
    char version[32];
    char project_name[32];
    char time[16];
    char date[16];
    char idf_ver[32];
    uint8_t app_elf_sha256[32];
    uint16_t min_efuse_blk_rev_full;
    uint16_t max_efuse_blk_rev_full;
    uint8_t mmu_page_size_log2;
    uint8_t spi_flash_mode;
    uint8_t reserved2[74];
};
_Static_assert(sizeof(struct app_desc) == 256, "the bootloader reads 256 bytes");

// No __DATE__ and __TIME__: the same version shall give the same bytes every time.
__attribute__((section(".flash.appdesc"), used)) const struct app_desc app_desc = {
    .magic = 0xABCD5432,
    .secure_version = APP_SECURE_VERSION,
    .version = APP_VERSION,
    .project_name = APP_PROJECT,
    .time = "12:00:00",
    .date = "Jan  1 2026",
    .idf_ver = "v5.5.2",
    .max_efuse_blk_rev_full = 99,
    .mmu_page_size_log2 = 16,
};

// The table: made by build.py from APP_SEED.
__asm__(
    ".section .flash.rodata, \"a\"\n"
    ".balign 4\n"
    "payload: .incbin \"payload.bin\"\n"
    "payload_end:\n"
    ".previous");
extern const uint32_t payload[], payload_end[];

volatile uint32_t payload_sum = APP_SEED;

__attribute__((section(".flash.text"), noinline)) static void app_main(void) {
    for (const uint32_t *p = payload; p < payload_end; p++) {
        payload_sum ^= *p;
    }
}

__attribute__((section(".iram0.text"), used, noreturn)) void call_start_cpu0(void) {
    app_main();
    for (;;) {
    }
}
