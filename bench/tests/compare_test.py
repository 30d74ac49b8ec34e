"""The arithmetic of compare.py, on results that are written down: means, ratios, goals, and that a wrong number shows."""

import copy
import pathlib
import sys
import unittest
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import compare  # noqa: E402
from comparison import chart, points, report  # noqa: E402

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

    def test_drawing(self):
        drawing = xml.fromstring(chart.draw(canned(), ["torch", "jax"]))
        svg = "{http://www.w3.org/2000/svg}"
        bars = [r for r in drawing.iter(svg + "rect") if r.get("height") == str(chart.ROW - 6)]
        self.assertEqual(len(bars), 4 + 2)  # and two in the legend
        self.assertEqual(len(list(drawing.iter(svg + "circle"))), 3)
        # On the logarithmic scale the bar of 64 is six times that of 2.
        widths = sorted(float(b.get("width")) for b in bars if b.get("fill") == chart.COLORS["torch"])
        self.assertAlmostEqual(widths[-1] / next(w for w in widths if w > 40), 6, places=1)
        self.assertIsNone(chart.draw([result("GRU", 50, 16, 16, 32, 0.5, None)], []))


class Points(unittest.TestCase):
    def test_names_are_unique_and_groups_known(self):
        names = [p.name for p in points.all_points()]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({p.group for p in points.all_points()}, set(report.GROUPS))

    def test_the_quick_ones_are_of_all_groups(self):
        quick = points.quick_points()
        self.assertEqual({p.group for p in quick}, set(report.GROUPS))
        self.assertLess(len(quick), 15)


if __name__ == "__main__":
    unittest.main()
