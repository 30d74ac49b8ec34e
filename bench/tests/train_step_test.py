"""Runs train_step with each module and each option at sizes of no duration. train_step_test.py PROGRAM"""

import json
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from comparison.points import Point  # noqa: E402

PROGRAM = sys.argv.pop()


def run(arguments):
    return subprocess.run([PROGRAM, *arguments, "--seconds", "0"], capture_output=True, text=True)


class TrainStep(unittest.TestCase):
    def check(self, module, **options):
        point = Point(module, 8, 3, 4, 5, **options)
        with self.subTest(point.name):
            done = run(point.arguments())
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.count("\n"), 1)
            answer = json.loads(done.stdout)
            self.assertEqual(answer["module"], module)
            self.assertGreaterEqual(answer["repetitions"], 5)
            self.assertGreaterEqual(answer["median_seconds"], answer["min_seconds"])
            for name in ("min_seconds", "fma_peak_gflops", "gemm_peak_gflops", "peak_bytes"):
                self.assertGreater(answer[name], 0, name)
            # Both programs count the same operations; the numbers were printed with so many digits.
            flops = answer["gflops"] * answer["min_seconds"] * 1e9
            slack = 1e9 * (0.0006 * answer["min_seconds"] + 1e-9 * answer["gflops"])
            self.assertAlmostEqual(flops, point.needed_flops(), delta=slack)

    def test_modules(self):
        for module in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "MGU", "Tanh", "Mul"):
            self.check(module)
            self.check(module, forward_only=True, dtype="float64")

    def test_options(self):
        for module in ("RNN", "LSTM", "GRU"):
            self.check(module, num_layers=2, bidirectional=True, packed=True, input_grad=True)
        self.check("LSTM", num_layers=2, proj_size=2, bidirectional=True)
        self.check("LSTM", packed=True, forward_only=True)
        self.check("GRUCell", input_grad=True, threads=2)

    def test_what_cannot_be_is_refused(self):
        for arguments, why in (
            (["--module", "GRU", "--proj-size", "2"], "only LSTM has --proj-size"),
            (["--module", "LSTMCell", "--packed"], "is no layer"),
            (["--module", "Transformer"], "--module"),
            (["--batch", "0"], "--batch"),
        ):
            done = run(arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, "")
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
