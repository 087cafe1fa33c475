"""The process pools of Python, measured as the benchmark measures ours: two workers, one call at a time."""
import json, multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor, wait

N = 200 if os.environ.get("BENCH_QUICK") else 2000


def echo(payload):
    return payload


def row(bench, subject, unit, samples):
    samples.sort()
    at = lambda part: samples[int((len(samples) - 1) * part)]
    print(json.dumps({"bench": bench, "subject": subject, "unit": unit, "p50": round(at(0.5), 1),
                      "p99": round(at(0.99), 1), "n": len(samples), "note": ""}), flush=True)


def latency(bench, subject, call, n=N):
    for _ in range(n // 10 + 1):
        call()
    samples = []
    for _ in range(n):
        begun = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - begun) / 1000)
    row(bench, subject, "us", samples)


def measure(subject, call, submit):
    for bench, payload in (("call/noop", b"x"), ("call/4k", bytes(4096))):
        latency(bench, subject, lambda: call(payload))
    latency("call/1m", subject, lambda: call(bytes(1 << 20)), N // 20)
    begun, open_calls, count = time.perf_counter(), [], N * 4
    for _ in range(count):
        open_calls.append(submit(b"x"))
        if len(open_calls) >= 64:
            open_calls.pop(0)()
    for finish in open_calls:
        finish()
    row("inflight_64", subject, "calls/s", [count / (time.perf_counter() - begun)])


def main():
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        measure("ProcessPoolExecutor", lambda p: pool.submit(echo, p).result(), lambda p: pool.submit(echo, p).result)
    with context.Pool(2) as pool:
        measure("multiprocessing.Pool", lambda p: pool.apply(echo, (p,)), lambda p: pool.apply_async(echo, (p,)).get)
    try:
        from loky import get_reusable_executor
    except ImportError:
        print("missing: loky (pip install loky)", file=sys.stderr)
        return
    pool = get_reusable_executor(max_workers=2)
    measure("loky", lambda p: pool.submit(echo, p).result(), lambda p: pool.submit(echo, p).result)
    pool.shutdown()


if __name__ == "__main__":
    main()
