"""What was measured, as tables: ratios, their geometric means, fractions of peak, and which goals are met.

A result is {"point": Point, "ours": answer, "torch": answer, …}; an answer has min_seconds, or else `skipped`.
"""

import math

NAMES = {"torch": "PyTorch", "jax": "JAX", "onnx": "ONNX Runtime"}
GROUPS = ("LSTM", "GRU", "RNN", "Cells in a loop", "Eager ops", "Forward alone")


def merge(rounds):
    """Of several answers of one contestant the least time, and the highest of what is a peak."""
    if "skipped" in rounds[0]:
        return rounds[0]
    merged = {"repetitions": sum(r["repetitions"] for r in rounds)}
    for name in ("min_seconds", "median_seconds"):
        merged[name] = min(r[name] for r in rounds)
    for name in ("fma_peak_gflops", "gemm_peak_gflops", "peak_bytes", "threads"):
        if name in rounds[0]:
            merged[name] = max(r[name] for r in rounds)
    return merged


def seconds(result, key):
    """Or None where that contestant was not measured."""
    return result.get(key, {}).get("min_seconds")


def ratio(result, key):
    """How many times faster than that rival we are, or None."""
    ours, theirs = seconds(result, "ours"), seconds(result, key)
    return theirs / ours if ours and theirs else None


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def gflops(result, key="ours"):
    time = seconds(result, key)
    return result["point"].needed_flops() / time * 1e-9 if time else None


def fraction_of_peak(result):
    speed = gflops(result)
    return speed / result["ours"]["fma_peak_gflops"] if speed else None


def missed(result):
    """What was aimed at and not reached, as texts. What was not measured is neither."""
    point, misses = result["point"], []
    for key in NAMES:
        value, goal = ratio(result, key), point.ratio_target() if key == "torch" else 1.0
        if value is not None and value < goal:
            misses.append(f"{NAMES[key]} {times(value, goal)} of {goal:g}×")
    fraction, goal = fraction_of_peak(result), point.peak_target()
    if fraction is not None and goal is not None and fraction < goal:
        misses.append(f"peak {rounded(100 * fraction, 0, 100 * goal)}% of {goal:.0%}")
    return misses


def is_judged(result):
    """Whether there is anything that a goal could be held against."""
    return any(ratio(result, key) is not None for key in NAMES) or (
        fraction_of_peak(result) is not None and result["point"].peak_target() is not None
    )


def scaling(results):
    """(result with one thread, with two, how many times faster, the goal) for each point measured with both."""
    one = {r["point"].label: r for r in results if r["point"].threads == 1 and not r["point"].forward_only}
    pairs = []
    for two in results:
        first = one.get(two["point"].label)
        if two["point"].threads == 2 and first and seconds(first, "ours") and seconds(two, "ours"):
            if two["ours"].get("threads", 2) == 2:
                pairs.append((first, two, seconds(first, "ours") / seconds(two, "ours"), two["point"].scaling_target()))
    return pairs


def rounded(value, digits, goal=0.0):
    """To so many digits, or to as many more as it takes for what misses the goal to read as less."""
    while float(text := f"{value:.{digits}f}") >= goal > value:
        digits += 1
    return text


def times(value, goal=0.0):
    """2.84×, 12.3×, 107×"""
    return rounded(value, 2 if value < 9.995 else 1 if value < 99.95 else 0, goal) + "×"


def microseconds(time):
    if time is None:
        return ""
    return f"{time * 1e6:.1f}" if time < 99.95e-6 else f"{time * 1e6:,.0f}"


def table(head, rows):
    """A table of Markdown; all but the first column are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def group_table(results, rivals):
    rivals = [key for key in rivals if any(seconds(r, key) for r in results)]
    head = ["µs a step", "threads", "ours"]
    for key in rivals:
        head += [NAMES[key], "×"]
    head += ["GF/s", "of FMA peak", "of GEMM peak", "MB", "goal", "met"]
    rows = []
    for r in results:
        point, ours = r["point"], r["ours"]
        cells = [point.label, str(point.threads), microseconds(seconds(r, "ours"))]
        for key in rivals:
            value = ratio(r, key)
            cells += [microseconds(seconds(r, key)), f"**{times(value)}**" if value else ""]
        speed = gflops(r)
        of_gemm = speed / ours["gemm_peak_gflops"]
        cells += [f"{speed:.1f}", f"{fraction_of_peak(r):.0%}", f"{of_gemm:.0%}"] if speed else ["", "", ""]
        goals = [f"{point.ratio_target():g}×"] + ([f"{point.peak_target():.0%}"] if point.peak_target() else [])
        verdict = ("no: " + ", ".join(missed(r)) if missed(r) else "yes") if is_judged(r) else ""
        rows.append([*cells, f"{ours['peak_bytes'] / 1e6:.2f}", ", ".join(goals), verdict])
    return table(head, rows)


def means_table(results, rivals):
    rows = []
    for group in (*GROUPS, "all"):
        for count in (1, 2):
            of_group = [r for r in results if group in (r["point"].group, "all") and r["point"].threads == count]
            values = {key: [v for r in of_group if (v := ratio(r, key)) is not None] for key in rivals}
            if any(values.values()):
                means = [f"{times(geometric_mean(v))} ({len(v)})" if v else "" for v in values.values()]
                rows.append([group, str(count), *means])
    return table(["geometric mean of the ratios (points)", "threads", *(NAMES[key] for key in rivals)], rows)


def scaling_table(pairs):
    rows = [
        [one["point"].label, microseconds(seconds(one, "ours")), microseconds(seconds(two, "ours"))]
        + [times(value, goal), times(goal), "yes" if value >= goal else "no"]
        for one, two, value, goal in pairs
    ]
    return table(["µs a step, ours", "one thread", "two", "×", "goal", "met"], rows)


def kinds_table(results):
    """What a GRU costs beside an LSTM of the same shape; of its products three quarters."""
    by_shape = {r["point"].name: r for r in results}
    rows = []
    for r in results:
        gru = by_shape.get(r["point"].name.replace("LSTM", "GRU", 1)) if r["point"].module == "LSTM" else None
        if gru and seconds(gru, "ours") and seconds(r, "ours"):
            times_ = seconds(r, "ours"), seconds(gru, "ours")
            rows.append([r["point"].name, *map(microseconds, times_), f"{times_[1] / times_[0]:.2f}"])
    return table(["µs a step, ours", "LSTM", "GRU", "GRU / LSTM"], rows)


def hello_table(rows):
    head = ["smallest program that trains an LSTM", "compiles, s", "runs, ms", "resident, MB"]
    cells = [
        [r["what"], f"{r['compile_seconds']:.2f}" if r["compile_seconds"] else "", f"{r['run_seconds'] * 1e3:.1f}"]
        + [f"{r['resident_kib'] / 1024:.1f}"]
        for r in rows
    ]
    return table(head, cells)


def markdown(results, environment, rivals, hello=(), drawing=None):
    """The whole page. `rivals` are those that were measured."""
    judged = [r for r in results if is_judged(r)]
    pairs = scaling(results)
    met = sum(not missed(r) for r in judged) + sum(value >= goal for *_, value, goal in pairs)
    absent = [name for key, name in NAMES.items() if key not in rivals]
    parts = [
        "# Benchmarks\n",
        "Written by `bench/compare.py`; bench/README.md says what is measured and how to repeat it. × is how many times "
        "faster than that rival we are. GF/s and fractions count the operations that are needed, no others; the FMA peak is "
        "what fused multiply-adds reach in the same process, the GEMM peak OpenBLAS's best square product there, which our "
        "layers do without.\n",
        "\n".join(f"- {key}: {value}" for key, value in environment.items()) + "\n",
    ]
    if absent:
        parts.append(f"Not measured here: {', '.join(absent)}.\n")
    parts.append(f"**Goals met: {met} of {len(judged) + len(pairs)}.**\n")
    if drawing:
        parts.append(f"![Ratios to the rivals]({drawing})\n")
    if rivals:
        parts.append(means_table(results, rivals))
    for group in GROUPS:
        if of_group := [r for r in results if r["point"].group == group]:
            parts += [f"## {group}\n", group_table(of_group, rivals)]
    if pairs:
        parts += ["## Two threads\n", scaling_table(pairs)]
    kinds = kinds_table(results)
    if kinds.count("\n") > 2:
        parts += ["## GRU beside LSTM\n", kinds]
    if hello:
        parts += ["## Hello\n", hello_table(hello)]
    return "\n".join(parts)
