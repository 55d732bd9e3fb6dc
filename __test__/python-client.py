"""What Debian's redis-py does with a server of keys: python-client.py PORT PASSWORD SOCKET. It fails if anything is not as it should be."""

import sys

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

port, password, socket = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = redis.Redis(port=port, password=password, decode_responses=True, client_name="python")
other = redis.Redis(unix_socket_path=socket, password=password, decode_responses=True)


def check(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r}, not {expected!r}")


# It connects and uses all kinds of keys, on either way in.
check(client.ping(), True)
check(client.set("greeting", "hello", ex=100), True)
check(other.get("greeting"), "hello")
check(client.set("greeting", "again", nx=True), None)
check(client.rpush("list", "a", "b", "c"), 3)
check(client.lrange("list", 0, -1), ["a", "b", "c"])
check(client.hset("hash", mapping={"x": 1, "y": 2}), 2)
check(client.hgetall("hash"), {"x": "1", "y": "2"})
check(client.sadd("set", "a", "b"), 2)
check(client.smembers("set"), {"a", "b"})
check(client.zadd("scores", {"low": 1, "high": 2.5}), 2)
check(client.zrange("scores", 0, -1, withscores=True), [("low", 1.0), ("high", 2.5)])
check(sorted(client.scan_iter()), ["greeting", "hash", "list", "scores", "set"])
check(client.info("clients")["connected_clients"], 2)
try:
    client.incr("greeting")
    raise AssertionError("a word was added to")
except redis.ResponseError as error:
    check(str(error), "value is not an integer or out of range")

# It pipelines.
pipeline = client.pipeline(transaction=False)
for number in range(1000):
    pipeline.incr("n")
    pipeline.echo(f"{number}")
check(pipeline.execute(), [reply for number in range(1000) for reply in (number + 1, f"{number}")])

# It transacts, and once more when somebody was faster.
tries = []


def add_one(transaction):
    seen = int(transaction.get("n"))
    tries.append(seen)
    if len(tries) == 1:
        other.incrby("n", 41)
    transaction.multi()
    transaction.set("n", seen + 1)
    transaction.get("n")


check(client.transaction(add_one, "n"), [True, "1042"])
check(tries, [1000, 1041])

# It subscribes, and comes back when it was cut off.
listener = client.pubsub()
listener.subscribe("news")
listener.psubscribe("n*")


def next_message():
    try:
        return listener.get_message(ignore_subscribe_messages=True, timeout=0.1)
    except redis.ConnectionError:
        # It subscribes again by itself when it is asked the next time.
        return None


def until(found):
    for _ in range(100):
        result = found()
        if result:
            return result
    raise AssertionError("it does not come to that")


def listeners():
    next_message()
    return [entry["id"] for entry in other.client_list() if entry["sub"] == "1" and entry["psub"] == "1"]


def hear(text):
    check(other.publish("news", text), 2)
    heard = [until(next_message) for _ in range(2)]
    check(sorted(message["type"] for message in heard), ["message", "pmessage"])
    check({(message["channel"], message["data"]) for message in heard}, {("news", text)})


(first,) = until(listeners)
hear("today")
check(other.execute_command("CLIENT", "KILL", "ID", first), 1)
until(lambda: [id for id in listeners() if id != first])
until(lambda: first not in listeners())
hear("tomorrow")


def ask_again():
    try:
        return [client.get("greeting"), other.get("n")]
    except redis.ConnectionError:
        # Which was cut off only just now.
        return None


check(client.client_kill_filter(_type="normal", skipme=False) >= 2, True)
check(until(ask_again), ["hello", "1042"])

# It is told what a wrong password is.
try:
    redis.Redis(port=port, password="wrong", retry=Retry(NoBackoff(), 0)).ping()
    raise AssertionError("anybody is let in")
except redis.RedisError as error:
    check("invalid username-password pair" in str(error), True)
print("well")
