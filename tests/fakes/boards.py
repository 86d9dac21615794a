"""File trees and programs of boards that measure themselves, with the values they tell."""

from pathlib import Path

# From a Raspberry Pi 5; the two converters that stand alone have no current.
_PI5 = {"3V7_WL_SW": (0.09368929, 3.699776), "3V3_SYS": (0.05757447, 3.308), "1V8_SYS": (0.14, 1.8),
        "DDR_VDD2": (0.0117099, 1.1), "DDR_VDDQ": (0.00009759, 0.61), "1V1_SYS": (0.18, 1.106),
        "0V8_SW": (0.3347, 0.803), "VDD_CORE": (6.22421, 0.861733), "0V8_AON": (0.0031, 0.799),
        "3V3_DAC": (0.00006105, 3.31), "3V3_ADC": (0.00006105, 3.309), "HDMI": (0.0147, 5.07)}
PI5_W = sum(amperes * volts for amperes, volts in _PI5.values())

TEGRASTATS_JP6 = (
    "04-27-2026 14:59:41 RAM 775/7620MB (lfb 3x4MB) SWAP 0/3810MB (cached 0MB) CPU "
    "[1%@729,0%@729] GR3D_FREQ 0% cpu@48.468C tj@49.156C VDD_IN 4761mW/4778mW VDD_CPU_GPU_CV "
    "515mW/501mW VDD_SOC 1428mW/1428mW")
TEGRASTATS_JP4 = (
    "RAM 700/3964MB (lfb 600x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU "
    "[5%@102,2%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@30C POM_5V_IN 2532/2698 POM_5V_GPU 40/40 "
    "POM_5V_CPU 500/600")
TEGRASTATS_JP5 = (
    "08-01-2023 10:00:00 RAM 4722/30536MB (lfb 5x4MB) SWAP 0/15268MB (cached 0MB) CPU "
    "[0%@729] VDD_GPU_SOC 2409mW/2409mW VDD_CPU_CV 602mW/602mW VIN_SYS_5V0 3019mW/3019mW "
    "NC 0mW/0mW")


def script(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def pi5(folder: Path) -> Path:
    """A `vcgencmd`, its currents and voltages under unrelated indices."""
    said = [f"{name}_A current({i})={amperes:.8f}A" for i, (name, (amperes, _)) in
            enumerate(_PI5.items())]
    said += [f"{name}_V volt({i + 8})={volts:.8f}V" for i, (name, (_, volts)) in
             enumerate(reversed(_PI5.items()))]
    said += ["EXT5V_V volt(24)=5.09066000V", "BATT_V volt(25)=0.00000000V"]
    lines = "\n".join(f"     {line}" for line in said)
    return script(folder / "vcgencmd",
                  f'[ "$1" = pmic_read_adc ] || exit 1\ncat <<END\n{lines}\nEND')


def _write(folder: Path, **files: str | int) -> None:
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def _hwmon(folder: Path, rails: dict[str, tuple[int, int]]) -> None:
    files: dict[str, str | int] = {"name": "ina3221", "in7_label": "sum of shunt voltages",
                                   "in7_input": 123}
    for n, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        files |= {f"in{n}_label": label, f"in{n}_input": millivolts,
                  f"curr{n}_input": milliamperes}
    _write(folder, **files)


def orin_nano(folder: Path) -> Path:
    """JetPack 5 and 6; reachable by two paths, as in sysfs."""
    real = folder / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    _hwmon(real, {"VDD_IN": (4960, 960), "VDD_CPU_GPU_CV": (4960, 104), "VDD_SOC": (4960, 288)})
    (folder / "class/hwmon").mkdir(parents=True)
    (folder / "class/hwmon/hwmon1").symlink_to(real)
    return folder


def agx_orin(folder: Path) -> Path:
    """Two sensors and no rail that holds the others."""
    drivers = folder / "bus/i2c/drivers/ina3221"
    _hwmon(drivers / "1-0040/hwmon/hwmon3", {"VDD_GPU_SOC": (5000, 500), "VDD_CPU_CV": (5000, 200),
                                            "NC": (5000, 900)})
    _hwmon(drivers / "1-0041/hwmon/hwmon4", {"VIN_SYS_5V0": (5000, 600)})
    return folder


def nano_jetpack4(folder: Path) -> Path:
    """JetPack 4: the same chip behind an iio driver."""
    rails = {"POM_5V_IN": (5064, 500), "POM_5V_GPU": (5000, 8), "POM_5V_CPU": (5000, 100)}
    files: dict[str, str | int] = {}
    for n, (label, (millivolts, milliamperes)) in enumerate(rails.items()):
        files |= {f"rail_name_{n}": label, f"in_voltage{n}_input": millivolts,
                  f"in_current{n}_input": milliamperes}
    _write(folder / "bus/i2c/drivers/ina3221x/6-0040/iio:device0", **files)
    return folder
