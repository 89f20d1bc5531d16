"""Many datagrams by one system call, without giving up the interpreter's lock in between.

socket.recv() releases the lock for each datagram; while another thread computes, getting it back takes 5 ms
(sys.getswitchinterval), which is 200 datagrams a second. recvmmsg(2), called without releasing the lock and without
waiting, takes what is there in one go.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket

_SLOTS = 128  # datagrams taken by one call
_SLOT_BYTES = 1 << 16  # the largest datagram of UDP fits (65,507); memory is used only as far as datagrams reach


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint32))


class Datagrams:
    """A reusable set of buffers: about 8 MiB of address space, of which little is ever touched."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
        view = memoryview(self._memory)
        self._slots = [view[start : start + _SLOT_BYTES] for start in range(0, len(view), _SLOT_BYTES)]
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        starts = range(address, address + _SLOTS * _SLOT_BYTES, _SLOT_BYTES)
        self._vectors = (_Vector * _SLOTS)(*(_Vector(start, _SLOT_BYTES) for start in starts))
        self._messages = (_Message * _SLOTS)()
        for message, vector in zip(self._messages, self._vectors, strict=True):
            message.header.vectors = ctypes.addressof(vector)
            message.header.vector_count = 1
        words = memoryview(self._messages).cast("B").cast("I")
        self._lengths = words[_Message.length.offset // 4 :: ctypes.sizeof(_Message) // 4]
        self._recvmmsg = ctypes.PyDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)

    def receive(self, descriptor: int) -> list[memoryview]:
        """The datagrams that are there, up to a bound, or none. Valid until the next call. Raises OSError."""
        address = ctypes.addressof(self._messages)
        count = self._recvmmsg(descriptor, address, _SLOTS, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(code, os.strerror(code))
        lengths = self._lengths[:count].tolist()
        return [slot[:length] for slot, length in zip(self._slots, lengths, strict=False)]
