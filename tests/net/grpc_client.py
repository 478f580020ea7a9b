"""A gRPC client of another make (Python's grpcio): calls of every kind that are under way when the server stops.

Its only argument is the address. Messages are bytes as they are, as the fixture's.
"""

import sys
import threading

import grpc

channel = grpc.insecure_channel(sys.argv[1])
health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
# Field 1 of HealthCheckResponse: 1 is SERVING.
assert health == b"\x08\x01", health

unary = channel.unary_unary("/test.Echo/Unary").future(b"one")
from_server = channel.unary_stream("/test.Echo/ServerStream")(b"two")
assert next(from_server) == b"two 1"

goes_on = threading.Event()


def texts():
    yield b"a"
    goes_on.wait()
    yield b"b"


both = channel.stream_stream("/test.Echo/Bidirectional")(texts())
assert next(both) == b"a"
sent = channel.stream_unary("/test.Echo/ClientStream").future(texts())
print("under way", flush=True)

# The server has been told to stop by now.
sys.stdin.readline()
goes_on.set()
assert list(both) == [b"b"]
assert sent.result() == b"a b", sent.result()
print("streams are over", flush=True)
assert list(from_server) == [b"two 2"]
assert unary.result().startswith(b"one from "), unary.result()
print("all over", flush=True)
