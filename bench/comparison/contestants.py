"""Who is measured: our train_step, a process a time, and rivals, each in a process that stays."""

import json
import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
RIVALS = {"torch": "pytorch.py", "jax": "jax_scan.py", "onnx": "onnx_graph.py"}


class Failed(Exception):
    """A contestant could not do what it said it would."""


class Ours:
    key = "ours"

    def __init__(self, program):
        self.program = program

    def measure(self, point, seconds):
        command = [self.program, *point.arguments(), "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def close(self):
        pass


class Rival:
    """Importing takes seconds, so a rival is asked through a pipe: a line of JSON a question, a line an answer. How many
    threads it has cannot change; there is one process a number."""

    def __init__(self, key, python):
        self.key, self.python = key, python
        self.processes = {}
        self.version = None

    def measure(self, point, seconds):
        process = self.process(point.threads)
        process.stdin.write(json.dumps({**point.to_json(), "seconds": seconds}) + "\n")
        process.stdin.flush()
        return self.answer(process)

    def process(self, threads):
        if threads not in self.processes:
            command = [self.python, str(HERE / "rivals" / RIVALS[self.key]), str(threads)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"}
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            self.processes[threads] = process
            self.version = self.answer(process)["version"]
        return self.processes[threads]

    def answer(self, process):
        line = process.stdout.readline()
        if not line:
            raise Failed(f"{self.key} ended with {process.wait()}")
        return json.loads(line)

    def close(self):
        for process in self.processes.values():
            process.stdin.close()  # it ends when nothing more can come
            process.wait()


def find_rivals(folder, keys):
    """Those of `keys` that are installed in the virtual environment `folder`."""
    python = pathlib.Path(folder) / "bin" / "python"
    if not python.exists():
        return []
    modules = {"torch": ["torch"], "jax": ["jax"], "onnx": ["onnx", "onnxruntime"]}
    find = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
    return [Rival(k, str(python)) for k in keys if subprocess.run([python, "-c", find, *modules[k]]).returncode == 0]


def find_train_step():
    """The newest build's, or None."""
    built = [p for p in HERE.parent.glob("build*/bench/train_step") if p.is_file()]
    return str(max(built, key=lambda p: p.stat().st_mtime)) if built else None
