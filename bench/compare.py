#!/usr/bin/env python3
"""Measures unroll and its rivals in turn, and writes the tables and the drawing. See README.md beside it."""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
from dataclasses import asdict

from comparison import chart, contestants, points, report

HERE = pathlib.Path(__file__).resolve().parent


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few points, one round")
    parser.add_argument("--points", metavar="REGEX", default="", help="those whose name it is found in")
    parser.add_argument("--list", action="store_true", help="print the names of the points, and end")
    parser.add_argument("--only", choices=["ours", *contestants.RIVALS], help="one contestant (rivals beside ours)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each contestant, point and round (%(default)s)")
    parser.add_argument("--rounds", type=int, help="how often each point goes round (3; quick: 1)")
    parser.add_argument("--rivals", metavar="FOLDER", default=str(HERE.parent / "build-rivals"), help="what setup.sh made")
    parser.add_argument("--train-step", metavar="FILE", help="our program (the newest build's)")
    parser.add_argument("--out", metavar="FILE", help="(docs/benchmarks.md; build-bench/benchmarks.md of some points only)")
    parser.add_argument("--raw", metavar="FILE", help="keep what was measured, as JSON")
    parser.add_argument("--read", metavar="FILE", help="write the tables of such a file, without measuring")
    args = parser.parse_args()
    if args.out is None:
        some = args.quick or args.points or args.only
        folder = HERE.parent / ("build-bench" if some else "docs")
        folder.mkdir(exist_ok=True)
        args.out = str(folder / "benchmarks.md")
    if not os.access(pathlib.Path(args.out).parent, os.W_OK):  # not after an hour
        parser.error(f"--out {args.out}: no folder to write to")
    return args


def in_turn(twins, players, seconds, rounds):
    """A result for each of these points: all of them once a round, each player once a point, and another one first each
    time. What is compared is measured side by side, for a clock may change within minutes."""
    answers = {point: {p.key: [] for p in players} for point in twins}
    for i in range(rounds):
        shift = i % len(players)
        for point, of_point in answers.items():
            for player in players[shift:] + players[:shift]:
                if not (of_point[player.key] and "skipped" in of_point[player.key][0]):
                    of_point[player.key].append(player.measure(point, seconds))
    return [{"point": point, **{key: report.merge(a) for key, a in answers[point].items()}} for point in twins]


def describe_machine():
    """Family and model beside the name: on a virtual machine several generations call themselves AMD EPYC."""
    first_core = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    cpu = dict(re.findall(r"(\w[\w ]*?)\s*: (.*)", first_core))
    processor = cpu.get("model name", "unknown")
    if "cpu family" in cpu and "model" in cpu:
        processor += f" (family {cpu['cpu family']}, model {cpu['model']})"
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{processor}, {os.cpu_count()} threads",
    }


def measure_hello(rivals):
    """What hello.sh says, a line each; nothing where there is no compiler for it."""
    python = [rival.python for rival in rivals if rival.key == "torch"]
    done = subprocess.run([str(HERE / "hello.sh"), *python], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"hello.sh: {done.stderr.strip()}", file=sys.stderr)
        return []
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(args, chosen):
    """The raw results, as --raw keeps them."""
    program = args.train_step or contestants.find_train_step()
    if program is None:
        sys.exit("no train_step: cmake --preset bench && cmake --build --preset bench")
    wanted = [key for key in contestants.RIVALS if args.only in (None, key)]
    rivals = contestants.find_rivals(args.rivals, wanted)
    for key in wanted:
        if key not in [r.key for r in rivals]:
            print(f"{report.NAMES[key]} is not in {args.rivals} (bench/setup.sh installs it): measuring without")
    players = [contestants.Ours(program), *rivals]
    results = {}
    load = os.getloadavg()[0]
    try:
        for twins in points.twins(chosen):
            for result in in_turn(twins, players, args.seconds, args.rounds or (1 if args.quick else 3)):
                results[result["point"]] = result
                ratios = [f"{r.key} {report.times(x)}" for r in rivals if (x := report.ratio(result, r.key))]
                ours = report.microseconds(report.seconds(result, "ours"))
                name = f"{len(results)}/{len(chosen)}  {result['point'].name}"
                print(f"{name}: {ours} us  {'  '.join(ratios)}", flush=True)
    finally:
        for player in players:
            player.close()
    environment = {**describe_machine(), "load before": f"{load:.1f}"}
    environment.update({report.NAMES[r.key]: r.version for r in rivals if r.version})
    return {
        "environment": environment,
        "rivals": [r.key for r in rivals],
        "hello": [] if args.points or args.only == "ours" else measure_hello(rivals),
        "results": [{**results[point], "point": asdict(point)} for point in chosen],
    }


def write(raw, out):
    """The page at `out`, and beside it the drawing."""
    results = [{**r, "point": points.Point(**r["point"])} for r in raw["results"]]
    svg = chart.draw(results, raw["rivals"])
    drawing = out.with_suffix(".svg")
    if svg:
        drawing.write_text(svg)
    page = report.markdown(results, raw["environment"], raw["rivals"], raw["hello"], drawing.name if svg else None)
    out.write_text(page)
    print(f"wrote {out}" + (f" and {drawing}" if svg else ""))


def main():
    args = parse()
    chosen = [p for p in (points.quick_points() if args.quick else points.all_points()) if re.search(args.points, p.name)]
    if args.list:
        print("\n".join(p.name for p in chosen))
        return
    if not chosen and not args.read:
        sys.exit(f"no point's name has {args.points}")
    raw = json.loads(pathlib.Path(args.read).read_text()) if args.read else measure(args, chosen)
    if args.raw:
        pathlib.Path(args.raw).write_text(json.dumps(raw, indent=1) + "\n")
    write(raw, pathlib.Path(args.out))


if __name__ == "__main__":
    main()
