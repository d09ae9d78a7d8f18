"""pymemcache against a server: `with_pymemcache.py HOST PORT`. Fails by an exception."""

import sys
import threading
from contextlib import closing

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError
from pymemcache.serde import pickle_serde

server = (sys.argv[1], int(sys.argv[2]))
options = dict(connect_timeout=60, timeout=60, no_delay=True)


def classic(c):
    assert c.version().startswith(b"1.6")
    assert c.get("nothing") is None and c.get("nothing", "default") == "default"
    assert c.set("k", b"v", noreply=False) is True and c.get("k") == b"v"
    assert c.add("k", b"w", noreply=False) is False and c.add("new", b"w", noreply=False) is True
    assert c.replace("k", b"x", noreply=False) is True and c.replace("absent", b"x", noreply=False) is False
    assert c.append("k", b">", noreply=False) and c.prepend("k", b"<", noreply=False) and c.get("k") == b"<x>"
    assert c.delete("new", noreply=False) is True and c.delete("new", noreply=False) is False


def numbers(c):
    c.set("n", b"10", noreply=False)
    assert c.incr("n", 5) == 15 and c.decr("n", 1) == 14 and c.decr("n", 100) == 0
    c.set("n", str(2**64 - 1).encode(), noreply=False)
    assert c.incr("n", 2) == 1
    assert c.incr("absent", 1) is None
    c.set("word", b"ten", noreply=False)
    try:
        c.incr("word", 1)
    except MemcacheClientError as e:
        assert b"non-numeric" in e.args[0], e
    else:
        raise AssertionError("a word was incremented")
    # A number that became shorter keeps its length: it is followed by blanks.
    assert c.incr("n", 1, noreply=True) is None and c.get("n") == b"2".ljust(20)


def cas(c):
    c.set("c", b"1", noreply=False)
    value, token = c.gets("c")
    assert value == b"1"
    assert c.cas("c", b"2", token, noreply=False) is True
    assert c.cas("c", b"3", token, noreply=False) is False
    assert c.cas("absent", b"3", token, noreply=False) is None
    assert c.get("c") == b"2"


def many(c):
    pairs = {f"many-{i}": f"value {i}".encode() for i in range(1000)}
    assert c.set_many(pairs, noreply=False) == []
    assert c.get_many(list(pairs) + ["absent"]) == pairs
    found = c.gets_many(list(pairs)[:10])
    assert len(found) == 10 and all(value == pairs[key] for key, (value, _) in found.items())
    assert c.delete_many(list(pairs)[:500], noreply=False) is True
    assert len(c.get_many(list(pairs))) == 500


def expiry(c):
    c.set("old", b"v", expire=-1, noreply=False)
    assert c.get("old") is None
    c.set("soon", b"v", expire=1000, noreply=False)
    assert c.touch("soon", 2000, noreply=False) is True and c.touch("absent", 1, noreply=False) is False
    assert c.touch("soon", -1, noreply=False) is True and c.get("soon") is None
    c.set("gat", b"v", noreply=False)
    # The library knows no get-and-touch: in our own words.
    assert c.raw_command("gat 1000 gat absent", "END\r\n") == b"VALUE gat 0 1\r\nv\r\n"
    assert c.raw_command("gat -1 gat", "END\r\n") == b"VALUE gat 0 1\r\nv\r\n" and c.get("gat") is None


def sizes(c):
    # The largest item holds key and header, too.
    for size in (0, 1, 1400, 1448, 1449, 2048, 65535, 65536, 500_000, 2**20 - 512):
        value = bytes(i * 7 % 251 for i in range(size))
        assert c.set("size", value, noreply=False) is True
        assert c.get("size") == value, size
    try:
        c.set("size", b"x" * (2**20 + 1), noreply=False)
    except MemcacheServerError as e:
        assert b"too large" in e.args[0], e
    else:
        raise AssertionError("an item beyond the limit was stored")
    # A key of 250 bytes is the longest; the refused value was swallowed, so the connection is still in step.
    assert c.set("k" * 250, b"v", noreply=False) is True and c.get("k" * 250) == b"v"


def noreply(c):
    for i in range(2000):
        c.set(f"quiet-{i % 100}", str(i).encode(), noreply=True)
    assert c.get("quiet-99") == b"1999"
    c.delete("quiet-99", noreply=True)
    c.append("quiet-98", b"!", noreply=True)
    c.touch("quiet-98", 1000, noreply=True)
    assert c.get("quiet-99") is None and c.get("quiet-98") == b"1998!"
    c.flush_all(noreply=True)
    assert c.get("quiet-97") is None


def threads():
    pool = PooledClient(server, max_pool_size=8, serde=pickle_serde, **options)
    failures = []

    def work(me):
        try:
            for i in range(200):
                key = f"t{me}-{i % 10}"
                pool.set(key, {"me": me, "i": i}, noreply=False)
                assert pool.get(key) == {"me": me, "i": i}
                pool.incr("shared", 1)
        except Exception as e:  # a thread's exception would be lost
            failures.append(e)

    pool.set("plain", 1, noreply=False)
    with closing(Client(server, **options)) as c:
        c.set("shared", b"0", noreply=False)
    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    assert not failures, failures
    with closing(Client(server, **options)) as c:
        assert c.get("shared") == b"1600"


with closing(Client(server, **options)) as client:
    for part in (classic, numbers, cas, many, expiry, sizes, noreply):
        part(client)
        client.flush_all(noreply=False)
        print(part.__name__, "ok")
    stats = client.stats()
    assert stats[b"curr_connections"] == 1 and stats[b"get_hits"] > 0 and stats[b"cmd_touch"] > 0, stats
threads()
print("threads ok")
