"""What a .pte file says of itself: memory, needed operators and delegates.

The reader is a private module of ExecuTorch's: another release may move it.
"""

from collections import Counter

from edgesvit.errors import EdgesvitError
from edgesvit.lower.executorch.wheel import quiet


def describe(pte: bytes) -> dict[str, object]:
    """arena_bytes, and lists of the needed `operators` and `delegates` with how often each runs.

    Backends keep memory of their own beside the arena. Raises EdgesvitError for a damaged file.
    """
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary
        try:
            read = deserialize_pte_binary(pte)
            plan = getattr(read, "program", read).execution_plan[0]
        except Exception as error:  # it lets through whatever its parser met
            raise EdgesvitError(f"not an ExecuTorch program: {error}", "lower it again") from None
    calls: Counter[str] = Counter()
    for chain in plan.chains:
        for instruction in chain.instructions:
            call = instruction.instr_args
            if type(call).__name__ == "KernelCall":
                operator = plan.operators[call.op_index]
                calls[".".join(filter(None, (operator.name, operator.overload)))] += 1
            elif type(call).__name__ == "DelegateCall":
                calls[plan.delegates[call.delegate_index].id] += 1
    backends = {delegate.id for delegate in plan.delegates}
    return {
        "arena_bytes": sum(plan.non_const_buffer_sizes),
        "operators": [f"{n} x {name}" for name, n in sorted(calls.items()) if name not in backends],
        "delegates": [f"{n} x {name}" for name, n in sorted(calls.items()) if name in backends],
    }
