#!/usr/bin/env python3
"""The lines of firmware/linux/runner.c from a .tflite file, through any Python TFLite runtime.

    python3 run.py [--threads N] [--delegate LIBRARY] MODEL.tflite IMAGES.bin

For boards whose system has ai-edge-litert or the older tflite-runtime as a Python package; needs
that and NumPy, and nothing of edgesvit. Times include what a call from Python costs. Exit status:
0, or 1 with one line on stderr.
"""

import struct
import sys
import time
import zlib
from importlib.metadata import version

import numpy as np

INT4 = 17  # a tensor type that tflite-runtime 2.14 loads and then computes NaN with
LITERT, OLD = "ai-edge-litert", "tflite-runtime"


def fail(what, why):
    """One line on stderr, then the end."""
    sys.exit(f"edgesvit-litert: {what}: {why}")


def load_runtime():
    """The interpreter's module, and the name and version of its package."""
    try:
        from ai_edge_litert import interpreter
        return interpreter, LITERT, version(LITERT)
    except ImportError:
        pass
    try:
        from tflite_runtime import interpreter
        return interpreter, OLD, version(OLD)
    except ImportError:
        fail("runtime", f"no TFLite runtime for this Python; pip install {LITERT}")


def read_model(path, package):
    """The model's bytes without their checksum, and that; ends the process when they differ."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        fail(path, error.strerror)
    body, magic, crc = data[:-8], data[-8:-4], data[-4:]
    if len(data) < 16 or data[4:8] != b"TFL3" or magic != b"ESVT":
        fail(path, "is no .tflite file of edgesvit, or a truncated one")
    if struct.unpack("<I", crc)[0] != zlib.crc32(body):
        fail(path, "corrupted: the checksum differs")
    if package == OLD and b"edgesvit-int4" in body:
        fail(path, f"has 4-bit weights, which {OLD} gets wrong; pip install {LITERT}")
    return body, zlib.crc32(body)


def status_bytes(field):
    """A field of /proc/self/status in bytes, -1 when it is not told."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return -1


def run(interpreter, images):
    """One line an image; images uint8 [n, bytes]."""
    source, = interpreter.get_input_details()
    scores, = interpreter.get_output_details()
    for index, image in enumerate(np.concatenate([images[:1], images])):
        if source["dtype"] == np.int8:  # each pixel less 128
            image = (image ^ 0x80).view(np.int8)
        interpreter.set_tensor(source["index"], image.reshape(source["shape"]))
        start = time.monotonic_ns()
        interpreter.invoke()
        ns = time.monotonic_ns() - start
        logits = interpreter.get_tensor(scores["index"]).reshape(-1)
        if not np.isfinite(logits).all():
            fail("runtime", f"gives {logits.tolist()}: it cannot run this model")
        if index:  # the first only warms up
            print(f"image index={index - 1} ns={ns} instructions=-1 logits="
                  + ",".join(f"{x:.10g}" for x in logits.tolist()), flush=True)


def main(arguments):
    """Parse, run, print."""
    options = {"--threads": "1", "--delegate": ""}
    while len(arguments) > 2 and arguments[0] in options:
        options[arguments[0]], arguments = arguments[1], arguments[2:]
    if len(arguments) != 2:
        fail("usage", "run.py [--threads N] [--delegate LIBRARY] MODEL.tflite IMAGES.bin")
    threads = int(options["--threads"])
    module, package, release = load_runtime()
    model, crc = read_model(arguments[0], package)
    before = status_bytes("RssAnon")
    try:
        delegates = [module.load_delegate(options["--delegate"], {"threads": threads})
                     ] if options["--delegate"] else None
        interpreter = module.Interpreter(model_content=model, num_threads=threads,
                                         experimental_delegates=delegates)
        interpreter.allocate_tensors()
    except (OSError, ValueError, RuntimeError) as error:
        fail(arguments[0], f"{package} {release} cannot run it: {str(error).splitlines()[0]}")
    size = int(np.prod(interpreter.get_input_details()[0]["shape"]))
    images = np.fromfile(arguments[1], np.uint8)
    if not images.size or images.size % size:
        fail(arguments[1], "is no whole number of images")
    images = images.reshape(-1, size)
    classes = int(np.prod(interpreter.get_output_details()[0]["shape"]))
    print(f"program crc={crc:08x} steps=0 input={size} classes={classes} arena=0 work=0 "
          f"threads={threads} kernels={package}-{release}")
    run(interpreter, images)
    print(f"memory file={len(model) + 8} arena=0 arena_used={status_bytes('RssAnon') - before} "
          f"code={status_bytes('VmExe')} data=0 stack={status_bytes('VmStk')} "
          f"peak_rss={status_bytes('VmHWM')}")
    print(f"done images={len(images)}")


main(sys.argv[1:])
