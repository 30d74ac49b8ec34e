"""What the rivals share: they read a point a line from stdin, and answer a line each, {"min_seconds": …} or, where they
cannot do it, {"skipped": "why"}. The first line they write is {"version": …}."""

import json
import os
import sys
import time

LEARNING_RATE = 1e-9  # as in train_step: the weights stay what they are


class Unsupported(Exception):
    """This rival has no such point; the text says why."""


def threads():
    return int(sys.argv[1])


def lengths(point):
    """As Point.lengths has them; a rival imports nothing of ours."""
    T, N = point["seq_len"], point["batch"]
    fall = T - max(1, T // 4) if point["packed"] else 0
    return [T - fall * n // max(1, N - 1) for n in range(N)]


def measure(step, seconds):
    """For that long, at least five times, after a few that warm up."""
    for _ in range(3):
        step()
    times = []
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    times.sort()
    return {"repetitions": len(times), "min_seconds": times[0], "median_seconds": times[len(times) // 2]}


def serve(version, prepare):
    """prepare(point) → a function that does one step, or raises Unsupported."""
    # Libraries print; what they print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps({"version": version}) + "\n")
    last, step = None, None
    for line in sys.stdin:
        point = json.loads(line)
        seconds = point.pop("seconds")
        try:
            if point != last:
                step = None  # frees the memory of the one before
                last, step = point, prepare(point)
            answer = measure(step, seconds)
        except Unsupported as why:
            last, answer = None, {"skipped": str(why)}
        answers.write(json.dumps(answer) + "\n")
