"""Runs inside the emulated arm64 Python: models from files, marks around inferences.

    python3 arm_guest.py litert|onnxruntime FILE...

For each file two inferences, a mark, four more, a mark: the calls to getppid are what count_marks.c
counts between.
"""

import os
import sys


def litert(path):
    """One inference of a .tflite file, to call."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter.invoke


def onnxruntime(path):
    """One inference of an .onnx file, to call."""
    import numpy
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", numpy.zeros(session.get_inputs()[0].shape, numpy.uint8))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def main(peer, *paths):
    """Two inferences, a mark, four inferences, a mark."""
    for path in paths:
        run = {"litert": litert, "onnxruntime": onnxruntime}[peer](path)
        for count in (2, 4):
            for _ in range(count):
                run()
            os.getppid()


main(*sys.argv[1:])
