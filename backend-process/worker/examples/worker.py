"""A worker in Python: answers each call with its payload in capitals."""
import struct, sys

HEADER = struct.Struct("<IIB3x")  # length, id, kind
CALL, PING, RESET, READY, REPLY, FAILURE, PONG = 1, 2, 4, 16, 17, 19, 20
source, sink = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr  # what is printed must not get into the frames


def send(kind, id=0, payload=b""):
    sink.write(HEADER.pack(len(payload), id, kind) + payload)
    sink.flush()


def handle(payload):
    return payload.upper()


send(READY)
while header := source.read(HEADER.size):
    length, id, kind = HEADER.unpack(header)
    payload = source.read(length)
    if kind in (PING, RESET):
        send(PONG, id)
    elif kind == CALL:
        try:
            send(REPLY, id, handle(payload))
        except Exception as error:
            send(FAILURE, id, repr(error).encode())
