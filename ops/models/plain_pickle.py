"""Look into a pickle without executing it: what it would call is only named."""

import pickletools
from typing import Any, BinaryIO

MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "GLOBAL")
"""Operations that put their argument on the stack; of a global that is its name, as a text."""
EMPTY: dict[str, type] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_plain(file: BinaryIO) -> Any:
    """Return the next pickle of `file` (protocol 2) as texts, numbers, tuples, lists and dicts.

    A global is the text `module name`. A call is (that text, arguments) and calls nothing; only an ordered dict becomes a
    dict, which later operations fill. A persistent reference is its identifier, and the state of an object is dropped.

    Raises ValueError for an operation that files of weights do not need.
    """
    stack: list[Any] = []
    memory: dict[int, Any] = {}
    argument: Any
    for code, argument, _ in pickletools.genops(file):
        name = code.name
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            stack.append(MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memory[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memory[argument])
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "APPEND":
            stack[-2].append(stack.pop())
        elif name == "APPENDS":
            parts = _since_mark(stack)
            stack[-1].extend(parts)
        elif name == "SETITEM":
            key, value = stack[-2:]
            del stack[-2:]
            stack[-1][key] = value
        elif name == "SETITEMS":
            parts = _since_mark(stack)
            stack[-1].update(zip(parts[::2], parts[1::2], strict=True))
        elif name == "REDUCE":
            called, arguments = stack[-2:]
            stack[-2:] = [{} if called == "collections OrderedDict" else (called, arguments)]
        elif name == "BUILD":
            stack.pop()
        elif name not in ("PROTO", "BINPERSID", "STOP"):
            raise ValueError(f"{name} in a pickle that should only hold names, numbers and places of tensors")
    return stack.pop()


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark, and the mark, off the stack."""
    place = len(stack) - 1
    while stack[place] is not MARK:
        place -= 1
    parts = stack[place + 1 :]
    del stack[place:]
    return parts
