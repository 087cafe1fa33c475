"""The process pools of Python, two workers each. Reads `subject what size n`, answers with numbers."""
import multiprocessing
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor

CONTEXT = multiprocessing.get_context("fork")


def echo(payload):
    return payload


def executor(pool):
    return lambda p: pool.submit(echo, p).result(), lambda p: pool.submit(echo, p).result


def make(subject):
    if subject == "ProcessPoolExecutor":
        return executor(ProcessPoolExecutor(2, mp_context=CONTEXT))
    if subject == "multiprocessing.Pool":
        pool = CONTEXT.Pool(2)
        return lambda p: pool.apply(echo, (p,)), lambda p: pool.apply_async(echo, (p,)).get
    from loky import get_reusable_executor
    return executor(get_reusable_executor(max_workers=2, timeout=None))


def latency(call, payload, n):
    samples = []
    for _ in range(n):
        begun = time.perf_counter_ns()
        call(payload)
        samples.append((time.perf_counter_ns() - begun) / 1000)
    return samples


def in_flight(submit, payload, n):
    begun, calls = time.perf_counter(), deque()
    for _ in range(n):
        calls.append(submit(payload))
        if len(calls) >= 64:
            calls.popleft()()
    for finish in calls:
        finish()
    return [n / (time.perf_counter() - begun)]


def main():
    pools = {}
    for line in sys.stdin:
        if line.strip() == "end":
            break
        subject, what, size, n = line.split()
        try:
            if subject not in pools:
                pools[subject] = make(subject)
        except ImportError as error:
            print("missing:", error, flush=True)
            continue
        call, submit = pools[subject]
        payload = bytes(int(size))
        numbers = latency(call, payload, int(n)) if what == "latency" else in_flight(submit, payload, int(n))
        print(*numbers, flush=True)


if __name__ == "__main__":
    main()
