metadata(
    version="0.1.0",
    description="Firmware updates over HTTPS for the ESP32, verified and with rollback.",
    license="MIT",
)

package("https_ota")
