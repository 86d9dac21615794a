"""What is plugged in: probes and boards by their USB identity."""

# USB vendor and product -> what it is. It names the debugger, not the chip behind it.
USB = {
    (0x0483, 0x3748): "ST-LINK/V2", (0x0483, 0x374A): "ST-LINK/V2-1",
    (0x0483, 0x374B): "ST-LINK/V2-1", (0x0483, 0x3752): "ST-LINK/V2-1",
    (0x0483, 0x374E): "STLINK-V3", (0x0483, 0x374F): "STLINK-V3", (0x0483, 0x3753): "STLINK-V3",
    (0x0483, 0x3754): "STLINK-V3", (0x0483, 0x3755): "STLINK-V3", (0x0483, 0x3757): "STLINK-V3",
    (0x0483, 0x5740): "STM32 serial port (LPM01A or TC66C)",
    (0x2E8A, 0x0004): "Picoprobe", (0x2E8A, 0x000C): "Raspberry Pi Debug Probe",
    (0x2E8A, 0x000A): "Raspberry Pi Pico", (0x2E8A, 0x0003): "Raspberry Pi Pico in BOOTSEL",
    (0x303A, 0x1001): "ESP32 USB-JTAG", (0x0D28, 0x0204): "DAPLink",
    (0x1915, 0xC00A): "Power Profiler Kit II", (0x16D0, 0x10BA): "Joulescope JS220",
    (0x16D0, 0x0E88): "Joulescope JS110", (0x2E3C, 0x5558): "FNIRSI FNB58",
    (0x2341, 0x0043): "Arduino Uno", (0x10C4, 0xEA60): "CP210x serial adapter",
    (0x1A86, 0x7523): "CH340 serial adapter", (0x0403, 0x6001): "FTDI serial adapter"}
SEGGER = 0x1366


def name(vid: int | None, pid: int | None) -> str:
    """What has this identity, "" when it is not known."""
    return "SEGGER J-Link" if vid == SEGGER else USB.get((vid or 0, pid or 0), "")
