"""Encrypts standard input as WAL-G does, with libsodium and the key that is given in hex."""

import ctypes
import sys

CHUNK = 8192
ADDED = 17
MESSAGE, FINAL = 0, 3

sodium = ctypes.CDLL("libsodium.so.23")
if sodium.sodium_init() < 0:
    sys.exit("libsodium cannot be used")
init = sodium.crypto_secretstream_xchacha20poly1305_init_push
push = sodium.crypto_secretstream_xchacha20poly1305_push
push.argtypes = [
    ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p,
    ctypes.c_ulonglong, ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_ubyte,
]

state = ctypes.create_string_buffer(sodium.crypto_secretstream_xchacha20poly1305_statebytes())
header = ctypes.create_string_buffer(24)
init(state, header, bytes.fromhex(sys.argv[1]))
out = sys.stdout.buffer
out.write(header.raw)
content = sys.stdin.buffer.read()
# The last chunk is never full, and may be empty.
for start in range(0, len(content) + 1, CHUNK):
    chunk = content[start:start + CHUNK]
    stored = ctypes.create_string_buffer(len(chunk) + ADDED)
    tag = MESSAGE if len(chunk) == CHUNK else FINAL
    if push(state, stored, None, chunk, len(chunk), None, 0, tag) != 0:
        sys.exit("libsodium did not encrypt")
    out.write(stored.raw)
