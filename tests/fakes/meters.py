"""Meters that are not there: each speaks its instrument's bytes on a pty, about a known current.

A sample's content depends on its place in the meter's own time alone; the wall clock only decides
when it is sent. So the energy between two samples is known exactly.
"""

import os
import random
import select
import struct
import threading
import time
import tty

from tests.fakes.waves import VOLTS, Wave

TICK_S = 0.005


class PtyMeter(threading.Thread):
    """`path` is the port. `unplug` makes it vanish; `faults` of a subclass spoil what it sends."""

    def __init__(self, wave: Wave):
        super().__init__(daemon=True)
        self.wave = wave
        self.master, slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._slave = slave
        self.heard = b""
        self.running = False
        self.sent = 0  # samples
        self._since_s = 0.0
        self._gone = threading.Event()
        self.unplug_after: int | None = None  # samples

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._gone.set()
        self.join(5)

    def run(self):
        try:
            while not self._gone.is_set():
                if select.select([self.master], [], [], TICK_S)[0]:
                    self.heard += os.read(self.master, 4096)
                    self.listen()
                if self.running:
                    self._send_due()
        except OSError:
            pass
        os.close(self._slave)
        os.close(self.master)

    def listen(self):
        """Act on `self.heard`, taking away what is understood."""

    rate_hz = 1000.0

    def begin(self):
        self.running, self.sent, self._since_s = True, 0, time.monotonic()

    def _send_due(self):
        due = int((time.monotonic() - self._since_s) * self.rate_hz)
        for first in range(self.sent, min(due, self.sent + 4000), 500):
            last = min(first + 500, due)
            if self.unplug_after is not None and self.sent >= self.unplug_after:
                self._gone.set()
                return
            self.say(b"".join(self.sample(index) for index in range(first, last)))
            self.sent = last

    def sample(self, index: int) -> bytes:
        raise NotImplementedError

    def say(self, data: bytes):
        while data:
            data = data[os.write(self.master, data):]


class FakePpk2(PtyMeter):
    """Converter counts dithered by half a step, as noise does in the real one."""

    rate_hz = 100_000.0
    SHUNTS = (1031.64, 101.65, 10.15, 0.94, 0.043)
    GS, GI, OFFSET, S, I0, UG = 0.5, 1.01, 40.0, 2e-8, -3e-8, 0.995

    def __init__(self, wave, drop=(), drop_bytes=()):
        super().__init__(wave)
        self.drop, self.drop_bytes = set(drop), set(drop_bytes)
        self.dice = random.Random(1)
        self.trigger = lambda time_s: False
        self.commands = []

    def listen(self):
        lengths = {0x0D: 3, 0x0C: 2, 0x11: 2, 0x25: 6}
        while self.heard and len(self.heard) >= (size := lengths.get(self.heard[0], 1)):
            command, self.heard = self.heard[:size], self.heard[size:]
            self.commands.append(command)
            if command == b"\x19":
                self.say(self.metadata())
            elif command == b"\x06":
                self.begin()
            elif command == b"\x07":
                self.running = False

    def metadata(self) -> bytes:
        lines = ["Calibrated: 1"]
        for name, value in (("GS", self.GS), ("GI", self.GI), ("O", self.OFFSET), ("S", self.S),
                            ("I", self.I0), ("UG", self.UG)):
            lines += [f"{name}{k}: {value}" for k in range(5)]
        lines += [f"R{k}: {ohm if k != 2 else '-nan'}" for k, ohm in enumerate(self.SHUNTS)]
        return "\n".join([*lines, "HW: 9173", "IA: 59", "END"]).encode()

    def sample(self, index):
        if index in self.drop:
            return b""
        time_s = index / self.rate_hz
        wanted = self.wave.current(time_s) / self.UG - (self.S * VOLTS + self.I0)
        raw = (-self.GI + (self.GI**2 + 4 * self.GS * wanted) ** 0.5) / (2 * self.GS)
        for scale, ohm in enumerate(self.SHUNTS):
            counts = (raw / (1.8 / 163840 / ohm) + self.OFFSET) / 4
            if counts < 0x3F00 or scale == 4:
                break
        counts = int(counts + self.dice.random())
        word = counts & 0x3FFF | scale << 14 | (index & 63) << 18 | self.trigger(time_s) << 24
        return struct.pack("<I", word)[index in self.drop_bytes:]


class FakeLpm01a(PtyMeter):
    def __init__(self, wave, skip=()):
        super().__init__(wave)
        self.skip = set(skip)
        self.commands = []

    def listen(self):
        *lines, self.heard = self.heard.split(b"\r\n")
        for line in lines:
            self.commands.append(line.decode())
            word = line.split(b" ")[0]
            if not word:
                self.say(b"PowerShield > ")
                continue
            if word in (b"stop", b"hrc"):
                self.running = False
            known = (b"htc", b"hrc", b"powershield", b"acqtime", b"trigdelay", b"trigsrc", b"stop",
                     b"eventsrc", b"acqmode", b"output", b"format", b"freq", b"volt", b"pwr",
                     b"start")
            if word not in known:
                self.say(b"error " + word + b"\r\nError detail: unknown\r\nPowerShield > ")
                continue
            extra = b"PowerShield present 004A0042\r\n" if word == b"powershield" else b""
            extra = b"Acquisition completed\r\n" if word == b"stop" else extra
            self.say(b"ack " + line + b"\r\n" + extra + b"PowerShield > ")
            if word == b"start":
                self.begin()

    def sample(self, index):
        stamp = b""
        if index and index % 1000 == 0:
            stamp = b"TimeStamp: %03ds %03dms, buff 00%%\r\n" % divmod(index, 1000)
        if index in self.skip:
            return stamp
        joules = VOLTS * (self.wave.charge((index + 1) / 1000) - self.wave.charge(index / 1000))
        exponent = 0
        while joules * 10 ** -exponent < 999.5 and exponent > -30:
            exponent -= 1
        return stamp + b"%04d%+03d\r\n" % (round(joules * 10 ** -exponent), exponent)


class FakeBridge(PtyMeter):
    """Values in the chip's own steps; the INA228's accumulator counts without gaps."""

    STEPS = {"ina219": (4e-3, 50e-6), "ina226": (1.25e-3, 10e-6), "ina228": (195.3125e-6, 2e-6),
             "ina3221": (8e-3, 400e-6)}  # volts and amperes of a count

    def __init__(self, chip, wave, lose=(), spoil=(), serial="B1", emulated=0):
        super().__init__(wave)
        self.chip, self.lose, self.spoil = chip, set(lose), set(spoil)
        self.serial, self.emulated = serial, emulated
        self.trigger = lambda time_s: 0
        self.start_us = 0
        self.conversion_s = 0.001  # each value is the mean over this long, up to its time stamp
        self.channels = 3 if chip == "ina3221" else 1

    def listen(self):
        *lines, self.heard = self.heard.split(b"\n")
        for line in lines:
            if line == b"?":
                self.line(f"#edgesvit-bridge 1 chip={self.chip} serial={self.serial} "
                          f"shunt_uohm=100000 current_lsb_na=2000 period_us=1000 "
                          f"channels={self.channels} emulated={self.emulated} ")
            elif line == b"start":
                self.begin()
            elif line == b"stop":
                self.running = False

    def line(self, text):
        from edgesvit.meters.bridge import checksum

        self.say(text.encode() + b"*%02x\n" % checksum(text.encode()))

    def sample(self, index):
        from edgesvit.meters.bridge import checksum

        if index in self.lose:
            return b""
        time_s = index / self.rate_hz
        volt_step, ampere_step = self.STEPS[self.chip]
        pairs = []
        for channel in range(self.channels):
            begin_s = max(time_s, self.conversion_s) - self.conversion_s
            charge = self.wave.charge(begin_s + self.conversion_s) - self.wave.charge(begin_s)
            amperes = charge / self.conversion_s / (channel + 1)
            pairs += [round(VOLTS / volt_step) * volt_step * 1e6,
                      round(amperes / ampere_step) * ampere_step * 1e9]
        energy = ""
        if self.chip == "ina228":
            energy = f";{round(1e9 * VOLTS * self.wave.charge(time_s))}"
        time_us = (self.start_us + index * 1000) % 2**32
        text = (f"{index},{time_us},{self.trigger(time_s)}," + ",".join(f"{v:.0f}" for v in pairs)
                + energy).encode()
        line = text + b"*%02x\n" % checksum(text)
        return line.replace(b",", b"?", 1) if index in self.spoil else line


class _Asked(PtyMeter):
    """A meter without a clock: it answers with the moment's value."""

    def __init__(self, wave, spoil=()):
        super().__init__(wave)
        self.spoil = set(spoil)
        self.first_s = time.monotonic()
        self.answers = 0

    def answer(self, data: bytes):
        if self.unplug_after is not None and self.answers >= self.unplug_after:
            self._gone.set()
            return
        if self.answers in self.spoil:
            data = data[:50] + bytes([data[50] ^ 0x40]) + data[51:]
        self.answers += 1
        self.say(data)

    def now(self) -> float:
        return self.wave.current(time.monotonic() - self.first_s)


class FakeTc66c(_Asked):
    def listen(self):
        while b"getva" in self.heard:
            self.heard = self.heard.partition(b"getva")[2]
            self.answer(self.packet())

    def packet(self):
        from edgesvit.meters.tc66c import KEY
        from tests.fakes.aes_encrypt import encrypt

        amperes = self.now()
        blocks = [bytearray(64) for _ in range(3)]
        for index, block in enumerate(blocks):
            block[:4] = b"pac%d" % (index + 1)
        blocks[0][4:16] = b"TC661.14" + (4711).to_bytes(4, "little")
        blocks[0][48:60] = struct.pack("<3I", round(VOLTS * 1e4), round(amperes * 1e5),
                                       round(VOLTS * amperes * 1e4))
        return encrypt(b"".join(map(bytes, blocks)), KEY)


class FakeUm25c(_Asked):
    def listen(self):
        while b"\xf0" in self.heard:
            self.heard = self.heard.partition(b"\xf0")[2]
            amperes = self.now()
            head = struct.pack(">HHHI", 0x09C9, round(VOLTS * 1e3), round(amperes * 1e4),
                               round(VOLTS * amperes * 1e3))
            self.answer(head.ljust(130, b"\0"))

    def answer(self, data):
        if self.answers in self.spoil:
            data = data[:4] + bytes([data[4] ^ 0x40]) + data[5:]
            self.spoil.discard(self.answers)
        super().answer(data)


class Garbage(PtyMeter):
    """Answers whatever it hears, and talks without being asked."""

    def __init__(self):
        super().__init__(Wave.constant(0))
        self.dice = random.Random(7)
        self.begin()

    def sample(self, index):
        return self.dice.randbytes(3)


class Silent(PtyMeter):
    def __init__(self):
        super().__init__(Wave.constant(0))
