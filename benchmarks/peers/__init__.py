"""The programs that the spike kernels are compared with, and how each is timed or counted."""
