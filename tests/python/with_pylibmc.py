"""pylibmc against a server, in both protocols: `with_pylibmc.py HOST PORT`. Fails by an exception."""

import sys

import pylibmc

server = f"{sys.argv[1]}:{sys.argv[2]}"


def client(binary, **behaviors):
    mc = pylibmc.Client([server], binary=binary)
    mc.behaviors = {"tcp_nodelay": True, "connect_timeout": 60_000, "receive_timeout": 60_000_000,
                    "send_timeout": 60_000_000, **behaviors}
    return mc


def refused(operation, *arguments):
    """Whether the server refused: libmemcached tells that in two ways, by protocol."""
    try:
        return operation(*arguments) is False
    except pylibmc.NotFound:
        return True


def single(mc):
    assert mc.get("nothing") is None
    for value in (b"bytes", "text \u00e9", 17, 2**70, True, {"a": [1, 2]}, b""):
        assert mc.set("k", value) and mc.get("k") == value, value
    assert refused(mc.add, "k", b"other") and mc.add("new", b"v") is True
    assert mc.replace("k", b"x") is True and refused(mc.replace, "absent", b"x")
    assert mc.append("k", b">") and mc.prepend("k", b"<") and mc.get("k") == b"<x>"
    assert mc.delete("new") is True and refused(mc.delete, "new")


def counters(mc):
    mc.set("n", 10)
    assert mc.incr("n") == 11 and mc.incr("n", 9) == 20 and mc.decr("n", 5) == 15 and mc.decr("n", 100) == 0
    try:
        mc.incr("absent")
    except pylibmc.NotFound:
        pass
    else:
        raise AssertionError("what is not there was incremented")


def several(mc):
    pairs = {f"many-{i}": f"value {i}" for i in range(1000)}
    assert mc.set_multi(pairs) == []
    assert mc.get_multi(list(pairs) + ["absent"]) == pairs
    assert mc.add_multi({"many-1": "x", "fresh": "y"}) == ["many-1"]
    assert mc.delete_multi(list(pairs)[:500]) is True
    assert len(mc.get_multi(list(pairs))) == 500
    assert mc.set_multi({"1": "one"}, key_prefix="p-") == [] and mc.get("p-1") == "one"


def tokens(mc):
    mc.behaviors = {"cas": True}
    mc.set("c", b"1")
    value, token = mc.gets("c")
    assert value == b"1" and mc.cas("c", b"2", token) is True
    assert refused(mc.cas, "c", b"3", token) and mc.get("c") == b"2"
    mc.behaviors = {"cas": False}


def times(mc):
    mc.set("t", b"v", time=1000)
    assert mc.touch("t", 2000) is True and refused(mc.touch, "absent", 10)
    assert mc.get("t") == b"v"


def large(mc):
    for size in (1448, 65536, 500_000, 2**20 - 512):
        value = bytes(i * 11 % 253 for i in range(size))
        assert mc.set("large", value) and mc.get("large") == value, size
    try:
        mc.set("large", b"x" * (2**20 + 1))
    except pylibmc.Error:
        pass
    else:
        raise AssertionError("an item beyond the limit was stored")
    assert mc.set("large", b"small again") and mc.get("large") == b"small again"


def noreply(mc, binary):
    quiet = client(binary, _noreply=True)
    for i in range(1000):
        quiet.set(f"quiet-{i % 50}", i)
    quiet.delete("quiet-49")
    # A reply on the same connection tells that everything before it was executed.
    assert quiet.get("quiet-48") == 998 and quiet.get("quiet-49") is None
    assert mc.get("quiet-48") == 998


def without_blocking(mc, binary):
    pipe = client(binary, no_block=True)
    for i in range(500):
        assert pipe.set(f"unblocked-{i}", i)
    assert pipe.get_multi([f"unblocked-{i}" for i in range(500)]) == {f"unblocked-{i}": i for i in range(500)}
    assert mc.get("unblocked-0") == 0


for binary in (False, True):
    mc = client(binary)
    for part in (single, counters, several, tokens, times, large):
        part(mc)
        print("binary" if binary else "ascii", part.__name__, "ok")
    noreply(mc, binary)
    without_blocking(mc, binary)
    stats = mc.get_stats()[0][1]
    assert int(stats.get("curr_items", stats.get(b"curr_items"))) > 0
    assert mc.flush_all() is True and mc.get("unblocked-0") is None
    print("binary" if binary else "ascii", "ok")
