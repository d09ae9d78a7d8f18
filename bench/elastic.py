#!/usr/bin/env python3
"""The control plane live, on two cores: a pattern of load on a server of up to two elastic threads, a background job that gets the rest.

    sudo bench/elastic.py target/release/zygix step --seconds 120 --json step.json

Needs root, cpus 0 and 1, and nothing else running. Prints requests answered, seconds that missed the objective, how long how many threads served, and the background job's share.
What it starts it ends; the server's namespace goes with it. The load's client shares the two cores with server and job.
"""
import argparse, json, os, signal, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

# Requests of 1 ms: a core serves somewhat less than 1000 a second.
RATES = {"step": "step:200,1400,{stair}", "slope": "slope:1400,{s}", "sine": "sine:100,1300,{half},100"}
CONFIG = """slo_us = {slo}
policy = "consolidate"
listen = "127.0.0.1:0"
journal = "cp.jsonl"
[machine]
siblings = false
[[dataplane]]
name = "elastic"
cpus = "0-1"
[[background]]
name = "job"
command = ["nice", "sh", "-c", "while :; do :; done"]
"""


def end(process):
    """Ends a process that was started here, and waits for it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(what, ready, seconds=20):
    for _ in range(seconds * 10):
        value = ready()
        if value:
            return value
        time.sleep(0.1)
    sys.exit(f"waited {seconds} s for {what}")


def address(log):
    text = log.read_text()
    return text.split("http://")[1].split("/")[0] if "http://" in text else None


def history(at):
    with urllib.request.urlopen(f"http://{at}/api/history", timeout=5) as answer:
        return json.load(answer)


def run(args, directory, started):
    env = dict(os.environ, ZYGIX_DIR=str(directory))
    space, zygix = f"zxe-{os.getpid()}", os.path.abspath(args.zygix)
    subprocess.run(["ip", "netns", "add", space], check=True)
    started.append(lambda: subprocess.run(["ip", "netns", "del", space]))

    def start(name, *command):
        process = subprocess.Popen(command, env=env, cwd=directory, stdin=subprocess.DEVNULL, stdout=open(directory / name, "w"), stderr=subprocess.STDOUT)
        started.append(lambda: end(process))
        return process

    serve = [zygix, "serve", "spin", "-t", "2", "--sched", args.sched, "--name", "elastic", "--netns", space, "--nic", "tap:zx0"]
    start("serve.log", *serve)
    listed = lambda: (directory / "elastic.sock").exists()
    until("the server", listed)
    (directory / "cp.toml").write_text(CONFIG.format(slo=args.slo_us))
    start("cp.log", zygix, "cp", "--config", "cp.toml")
    at = until("the control plane", lambda: address(directory / "cp.log"))
    print(f"the page: http://{at}/")
    time.sleep(4)
    begin = time.time()
    rate = RATES[args.pattern].format(s=args.seconds, half=args.seconds / 2, stair=args.seconds / 14)
    load = ["ip", "netns", "exec", space, zygix, "load", "spin", "198.18.0.2", "--time", "det:1ms", "--rate", rate, "--seconds", str(args.seconds), "--no-spin", "--json", "load.json"]
    client = start("load.log", *load)
    client.wait(args.seconds + 60)
    if client.returncode:
        print((directory / "load.log").read_text(), file=sys.stderr)
    return at, begin, time.time()


def summary(args, directory, at, begin, over):
    samples = [s for s in history(at)["samples"] if begin * 1000 <= s["at_ms"] <= over * 1000]
    events = [json.loads(line) for line in (directory / "cp.jsonl").read_text().splitlines()]
    load = json.loads((directory / "load.json").read_text())
    plane = [s["planes"][0] for s in samples]
    served = [p for p in plane if p[1] is not None]
    threads = {n: sum(p[3] == n for p in plane) for n in sorted({p[3] for p in plane})}
    changes = [e["kind"] for e in events if e["kind"] in ("up", "down")]
    return {
        "pattern": args.pattern, "seconds": args.seconds, "sched": args.sched, "slo_us": args.slo_us,
        "violations": sum(p[1] > args.slo_us for p in served), "seconds_with_requests": len(served),
        "seconds_by_threads": threads, "background": sum(s["background"] for s in samples) / max(len(samples), 1),
        "ups": changes.count("up"), "downs": changes.count("down"), "samples": samples, "load": load,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zygix")
    parser.add_argument("pattern", choices=RATES)
    parser.add_argument("--seconds", type=int, default=120, help="length of the pattern, 10 to 500")
    parser.add_argument("--sched", choices=["ix", "zygos"], default="zygos")
    parser.add_argument("--slo-us", type=int, default=20000)
    parser.add_argument("--json")
    args = parser.parse_args()
    if not 10 <= args.seconds <= 500:
        parser.error("--seconds: 10 to 500; the page remembers ten minutes")
    started = []
    with tempfile.TemporaryDirectory(prefix="zygix-elastic-") as name:
        try:
            directory = Path(name)
            result = summary(args, directory, *run(args, directory, started))
        finally:
            for stop in reversed(started):
                stop()
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k not in ("samples", "load")}, indent=1))


main()
