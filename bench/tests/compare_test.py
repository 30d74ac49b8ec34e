"""The arithmetic of compare.py, on results that are written down: means, ratios, goals, and that a wrong number shows."""

import copy
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import compare  # noqa: E402
from comparison import chart, contestants, points, report  # noqa: E402

PEAK = 200.0


def answer(seconds, **more):
    return {"repetitions": 5, "min_seconds": seconds, "median_seconds": 1.1 * seconds, **more}


def ours(point, fraction):
    """An answer of ours at that fraction of the FMA peak."""
    seconds = point.needed_flops() / (fraction * PEAK * 1e9)
    return answer(seconds, fma_peak_gflops=PEAK, gemm_peak_gflops=0.9 * PEAK, peak_bytes=2_500_000, threads=point.threads)


def result(module, T, N, I, H, fraction, torch, jax=None, **options):
    """`torch` and `jax` are how many times slower than we they are."""
    point = points.Point(module, T, N, I, H, **options)
    own = ours(point, fraction)
    rivals = {"torch": torch, "jax": jax}
    measured = {k: answer(v * own["min_seconds"]) for k, v in rivals.items() if v}
    return {"point": point, "ours": own, **measured, "onnx": {"skipped": "forward only"}}


def canned():
    return [
        result("LSTM", 100, 32, 256, 256, 0.83, 2.0, 4.0, target=1.7),
        result("LSTM", 100, 32, 256, 256, 0.79, 1.2, 1.1, target=1.7, threads=2),
        result("GRU", 100, 32, 256, 256, 0.84, 8.0, 1.0, target=2.5),
        result("LSTMCell", 100, 1, 8, 8, 0.1, 64.0, target=60),
    ]


class Arithmetic(unittest.TestCase):
    def test_geometric_mean(self):
        self.assertAlmostEqual(report.geometric_mean([2, 8]), 4)
        self.assertIsNone(report.geometric_mean([]))

    def test_ratio_is_their_time_by_ours(self):
        r = canned()[0]
        self.assertAlmostEqual(report.ratio(r, "torch"), 2)
        self.assertAlmostEqual(report.ratio(r, "jax"), 4)
        self.assertIsNone(report.ratio(r, "onnx"))
        self.assertIsNone(report.ratio({"torch": answer(1.0)}, "torch"))

    def test_fraction_of_peak(self):
        self.assertAlmostEqual(report.fraction_of_peak(canned()[0]), 0.83)

    def test_merging_takes_the_least_time_and_the_highest_peak(self):
        merged = report.merge([answer(3.0, fma_peak_gflops=190), answer(2.0, fma_peak_gflops=180)])
        self.assertEqual((merged["min_seconds"], merged["fma_peak_gflops"], merged["repetitions"]), (2.0, 190, 10))
        self.assertEqual(report.merge([{"skipped": "why"}]), {"skipped": "why"})

    def test_a_miss_reads_as_one(self):
        self.assertEqual([report.times(v, 1.7) for v in (1.2, 1.694, 1.6973, 1.7)], ["1.20×", "1.69×", "1.697×", "1.70×"])
        near = result("LSTM", 25, 64, 1024, 1024, 0.8499, torch=1.69996, target=1.7)
        self.assertEqual(report.missed(near), ["PyTorch 1.69996× of 1.7×", "peak 84.99% of 85%"])

    def test_merging_keeps_medians_memory_and_threads(self):
        merged = report.merge([answer(3.0, peak_bytes=9, threads=1), answer(2.0, peak_bytes=7, threads=2)])
        self.assertEqual((merged["median_seconds"], merged["peak_bytes"], merged["threads"]), (2.2, 9, 2))

    def test_flops_by_hand(self):
        # 2·T·N·(forward 4H(I+H), weights 4H(I+H), state 4HH)
        dense = points.Point("LSTM", 3, 2, 5, 7)
        self.assertEqual(dense.needed_flops(), 2 * 6 * (28 * 12 + 28 * 12 + 28 * 7))
        packed = points.Point("RNN", 8, 3, 5, 7, packed=True, input_grad=True)
        self.assertEqual(packed.lengths(), [8, 5, 2])
        self.assertEqual(packed.needed_flops(), 2 * 15 * (2 * 7 * 12 + 7 * 7 + 7 * 5))

    def test_numbers_as_texts(self):
        self.assertEqual([report.times(v) for v in (0.5, 9.99, 12.34, 107.2)], ["0.50×", "9.99×", "12.3×", "107×"])
        self.assertEqual([report.microseconds(v) for v in (9.31e-6, 0.0123, None)], ["9.3", "12,300", ""])
        # As many digits as are left once the number is rounded.
        self.assertEqual([report.times(v) for v in (9.994, 9.996, 99.94, 99.96)], ["9.99×", "10.0×", "99.9×", "100×"])
        self.assertEqual([report.microseconds(v) for v in (99.94e-6, 99.96e-6, 123e-6)], ["99.9", "100", "123"])


class Turns(unittest.TestCase):
    def test_points_that_differ_in_threads_are_twins(self):
        chosen = points.all_points()
        groups = points.twins(chosen)
        self.assertCountEqual([p for group in groups for p in group], chosen)
        for group in groups:
            self.assertEqual(len({p.label for p in group}), 1)
            self.assertIn([p.threads for p in group], ([1], [1, 2]))
        self.assertEqual(sum(len(group) == 2 for group in groups), sum(p.threads == 2 for p in chosen))

    def test_twins_and_contestants_are_measured_side_by_side(self):
        log = []

        class Player:
            def __init__(self, key):
                self.key = key

            def measure(self, point, seconds):
                log.append((point.threads, self.key))
                return answer(1.0 + len(log))

        twins = [points.Point("GRU", 5, 1, 2, 3, threads=n) for n in (1, 2)]
        results = compare.in_turn(twins, [Player("ours"), Player("torch")], 0.1, 2)
        rounds = [(1, "ours"), (1, "torch"), (2, "ours"), (2, "torch")], [(1, "torch"), (1, "ours"), (2, "torch"), (2, "ours")]
        self.assertEqual(log, [*rounds[0], *rounds[1]])
        self.assertEqual([r["point"] for r in results], twins)
        self.assertEqual([report.seconds(r, "ours") for r in results], [2.0, 4.0])

    def test_who_skips_a_point_is_not_asked_again(self):
        class Player:
            def __init__(self, key, said):
                self.key, self.said, self.asked = key, said, 0

            def measure(self, point, seconds):
                self.asked += 1
                return self.said

        players = [Player("ours", answer(1.0)), Player("onnx", {"skipped": "forward only"})]
        (measured,) = compare.in_turn([points.Point("GRU", 5, 1, 2, 3)], players, 0.1, 3)
        self.assertEqual([p.asked for p in players], [3, 1])
        self.assertEqual(measured["onnx"], {"skipped": "forward only"})


class Contestants(unittest.TestCase):
    def test_a_program_that_fails_is_no_measurement(self):
        with self.assertRaises(contestants.Failed):
            contestants.Ours("false").measure(points.Point("GRU", 5, 1, 2, 3), 0.1)

    def test_there_are_no_rivals_where_nothing_is_installed(self):
        self.assertEqual(contestants.find_rivals("/nowhere", ["torch"]), [])


class Goals(unittest.TestCase):
    def test_what_is_good_enough_misses_nothing(self):
        self.assertEqual([report.missed(r) for r in canned()], [[], [], [], []])

    def test_goals_for_one_thread_do_not_hold_for_two(self):
        self.assertEqual([r["point"].ratio_target() for r in canned()[:2]], [1.7, 1.0])
        self.assertEqual([r["point"].peak_target() for r in canned()[:2]], [0.82, 0.78])

    def test_a_planted_slow_step_is_noticed(self):
        slow = canned()[0]
        slow["ours"]["min_seconds"] *= 1.25
        self.assertEqual(report.missed(slow), ["PyTorch 1.60× of 1.7×", "peak 66% of 82%"])

    def test_a_planted_fast_rival_is_noticed(self):
        results = canned()
        results[2]["jax"]["min_seconds"] *= 0.98
        self.assertEqual(report.missed(results[2]), ["JAX 0.98× of 1×"])

    def test_scaling(self):
        ((_, _, value, goal),) = report.scaling(canned())
        self.assertAlmostEqual(value, 0.79 / 0.83)
        self.assertEqual(goal, 1.8)

    def test_forward_alone_is_not_what_two_threads_are_compared_with(self):
        forward = result("LSTM", 100, 32, 256, 256, 0.5, None, forward_only=True)
        self.assertEqual(report.scaling([*canned(), forward]), report.scaling(canned()))
        self.assertEqual(report.scaling([forward, canned()[1]]), [])

    def test_goals_by_size(self):
        def peaks(H, N, **options):
            return [points.Point("LSTM", 9, N, H, H, threads=n, **options).peak_target() for n in (1, 2)]

        self.assertEqual([peaks(1024, 64), peaks(1024, 63)], [[0.85, 0.78], [None, None]])
        self.assertEqual([peaks(128, 32), peaks(512, 32)], [[0.82, 0.78]] * 2)
        self.assertEqual([peaks(127, 32), peaks(513, 32), peaks(128, 31)], [[None, None]] * 3)
        self.assertEqual(peaks(64, 16), [0.65, None])
        for option in ({"packed": True}, {"proj_size": 2}, {"dtype": "float64"}, {"forward_only": True}):
            self.assertEqual(peaks(128, 32, **option), [None, None])
        sizes = [("LSTM", 32, 128), ("LSTM", 31, 128), ("LSTM", 32, 127), ("LSTMCell", 32, 128)]
        goals = [points.Point(module, 9, N, H, H, threads=2).scaling_target() for module, N, H in sizes]
        self.assertEqual(goals, [1.8, 0.98, 0.98, 0.98])

    def test_what_ran_with_one_thread_is_not_compared_as_two(self):
        results = canned()
        results[1]["ours"]["threads"] = 1
        self.assertEqual(report.scaling(results), [])

    def test_unmeasured_is_neither_met_nor_missed(self):
        alone = result("GRU", 50, 16, 16, 32, 0.5, None, target=15)
        self.assertEqual((report.missed(alone), report.is_judged(alone)), ([], False))


class Page(unittest.TestCase):
    def page(self, results):
        return report.markdown(results, {"processor": "some"}, ["torch", "jax"])

    def test_means_and_counts(self):
        page = self.page(canned())
        self.assertIn("| LSTM | 1 | 2.00× (1) | 4.00× (1) |", page)
        self.assertIn("| all | 1 | 10.1× (3) | 2.00× (2) |", page)  # ∛(2·8·64), √(4·1)
        self.assertIn("Goals met: 4 of 5.", page)  # all but the two threads' speed
        self.assertIn("Not measured here: ONNX Runtime.", page)
        self.assertIn("| 0.74 |", page)  # GRU beside LSTM: 3/4 · 0.83/0.84

    def test_every_row_has_as_many_cells_as_its_head(self):
        for block in self.page(canned()).split("\n\n"):
            lines = [line for line in block.splitlines() if line.startswith("|")]
            self.assertLessEqual(len({line.count("|") for line in lines}), 1, block)

    def test_a_planted_wrong_time_changes_the_page(self):
        wrong = copy.deepcopy(canned())
        wrong[3]["torch"]["min_seconds"] /= 2
        page = self.page(wrong)
        self.assertNotIn("| all | 1 | 10.1× (3) |", page)
        self.assertIn("no: PyTorch 32.0× of 60×", page)
        self.assertIn("Goals met: 3 of 5.", page)

    def test_ours_alone(self):
        page = report.markdown([result("GRU", 50, 16, 16, 32, 0.5, None)], {}, [])
        self.assertIn("Not measured here: PyTorch, JAX, ONNX Runtime.", page)
        self.assertIn("| GRU T50 N16 I16 H32 | 1 |", page)

        self.assertIn("| 2.50 | 1× |  |", page)  # nothing to hold against the goal
        self.assertIn("Goals met: 0 of 0.", page)
        self.assertNotIn("## Hello", page)

    def test_a_row(self):
        page = self.page(canned())
        # 0.83 of the FMA peak are 0.83 / 0.9 of the GEMM peak.
        self.assertIn("| 83% | 92% | 2.50 | 1.7×, 82% | yes |", page)
        self.assertIn("| 0.95× | 1.80× | no |", page)
        self.assertNotIn("JAX", page.split("## Cells in a loop")[1].split("##")[0])

    def test_a_goal_that_is_just_reached_is_met(self):
        pair = [result("LSTM", 100, 32, 256, 256, 0.5, None, threads=n) for n in (1, 2)]
        pair[0]["ours"]["min_seconds"], pair[1]["ours"]["min_seconds"] = 1.8, 1.0
        page = self.page(pair)
        self.assertIn("| 1.80× | 1.80× | yes |", page)
        self.assertIn("Goals met: 1 of 3.", page)  # and neither of the two fractions of the peak

    def test_hello(self):
        hello = [
            {"what": "ours", "compile_seconds": 1.5, "run_seconds": 0.0123, "resident_kib": 2048},
            {"what": "PyTorch", "compile_seconds": None, "run_seconds": 1.5, "resident_kib": 3072},
        ]
        page = report.markdown([], {}, [], hello)
        self.assertIn("| ours | 1.50 | 12.3 | 2.0 |\n| PyTorch |  | 1500.0 | 3.0 |", page)

    def test_drawing_of_what_is_slower(self):
        slow = [
            result("GRU", 50, 16, 16, 32, 0.5, 0.25, target=64),
            result("GRU", 50, 16, 16, 32, 0.5, 0.5, target=64, threads=2),
        ]
        slow[0]["onnx"] = answer(slow[0]["ours"]["min_seconds"])
        drawing = xml.fromstring(chart.draw(slow, ["torch", "onnx"]))
        svg = "{http://www.w3.org/2000/svg}"
        # From 0.25 to 64 there are eight octaves: 1 lies at the second, and both bars end there.
        octave = chart.WIDTH / 8
        bars = [r for r in drawing.iter(svg + "rect") if r.get("fill") == "#b03030"]
        spans = [(float(b.get("x")), float(b.get("width"))) for b in bars]
        self.assertEqual(spans, [(chart.LEFT, 2 * octave), (chart.LEFT + octave, octave)])
        goals = [p.get("d") for p in drawing.iter(svg + "path") if p.get("d").endswith(f"v{chart.ROW - 2}")]
        ends = [chart.LEFT + chart.WIDTH, chart.LEFT + 2 * octave]  # for two threads the goal is 1
        self.assertEqual([float(d[1:].split()[0]) for d in goals], ends)
        self.assertEqual([float(c.get("cx")) for c in drawing.iter(svg + "circle")], ends[1:])
        words = [w.text for w in drawing.iter(svg + "text")]
        self.assertIn("0.25×", words)
        self.assertEqual([w for w in words if w.endswith("×")][:3], ["0.5×", "1×", "2×"])
        self.assertEqual([w for w in words if w.endswith("×")][-3:], ["50×", "0.25×", "0.50×"])

    def test_drawing(self):
        drawing = xml.fromstring(chart.draw(canned(), ["torch", "jax"]))
        svg = "{http://www.w3.org/2000/svg}"
        bars = [r for r in drawing.iter(svg + "rect") if r.get("height") == str(chart.ROW - 6)]
        self.assertEqual(len(bars), 4 + 2)  # and two in the legend
        self.assertEqual(len(list(drawing.iter(svg + "circle"))), 3)
        # On the logarithmic scale the bar of 64 is six times that of 2.
        widths = sorted(float(b.get("width")) for b in bars if b.get("fill") == chart.COLORS["torch"])
        self.assertAlmostEqual(widths[-1] / next(w for w in widths if w > 40), 6, places=1)
        self.assertNotIn("#b03030", chart.draw(canned(), ["torch", "jax"]))  # nothing is slower
        self.assertIsNone(chart.draw([result("GRU", 50, 16, 16, 32, 0.5, None)], []))


class Points(unittest.TestCase):
    def test_names_are_unique_and_groups_known(self):
        names = [p.name for p in points.all_points()]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({p.group for p in points.all_points()}, set(report.GROUPS))

    def test_labels_say_what_is_out_of_the_ordinary(self):
        point = points.Point("LSTM", 5, 1, 2, 3, num_layers=2, proj_size=2)
        self.assertEqual(point.label, "LSTM T5 N1 I2 H3, 2 layers, projected to 2")

    def test_all_but_eager_ops_are_measured_with_two_threads(self):
        self.assertEqual({p.group for p in points.all_points() if p.threads == 2}, {"LSTM", "GRU", "RNN", "Cells in a loop"})
        self.assertIn(2, [p.threads for p in points.quick_points()])

    def test_points_are_searched_for(self):
        program = str(pathlib.Path(compare.__file__))
        command = [sys.executable, program, "--list", "--points", "H650", "--out", f"{tempfile.gettempdir()}/none.md"]
        done = subprocess.run(command, capture_output=True, text=True)
        label = "LSTM T35 N20 I650 H650, 2 layers"
        self.assertEqual(done.stdout, f"{label}, 1 thread\n{label}, 2 threads\n")

    def test_the_quick_ones_are_of_all_groups(self):
        quick = points.quick_points()
        self.assertEqual({p.group for p in quick}, set(report.GROUPS))
        self.assertLess(len(quick), 15)


if __name__ == "__main__":
    unittest.main()
