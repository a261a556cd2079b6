"""The parts of the benchmark that only compute: run with `python3 -m unittest discover bench`."""

import json
import os
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import containerd
import figures
import keeper
import peers
import pod_start
import proc
import programs
import side_by_side
from figures import Figure
from reviews import review
from side_by_side import Row


def command():
    """The command itself, whose file has no ending."""
    loader = SourceFileLoader("run", str(Path(__file__).with_name("run")))
    module = module_from_spec(spec_from_loader("run", loader))
    loader.exec_module(module)
    return module


class Table(unittest.TestCase):
    def test_says_target_ratio_and_what_is_missed(self) -> None:
        rows = figures.table([
            Figure("memory", 3.14159, "MB", 4.0, 31.4159, "Go SDK"),
            Figure("start", 1.5, "s", 1.25, spread="1.40 to 1.60"),
            Figure("bytes", 0, "B", 0, 12345, "Go SDK"),
        ]).splitlines()[2:]
        self.assertEqual(rows, [
            "| memory | ≤ 4 MB | 3.14 MB | 31.4 MB: Go SDK | 0.10 |",
            "| start | ≤ 1.25 s | 1.50 s (1.40 to 1.60), **missed** |  |  |",
            "| bytes | ≤ 0 B | 0 B | 12,345 B: Go SDK | 0.00 |",
        ])

    def test_takes_the_place_between_its_markers(self) -> None:
        document = f"above\n\n{figures.BEGIN}\nold\n{figures.END}\n\nbelow\n"
        put = figures.put(document, "new\n")
        self.assertEqual(put, f"above\n\n{figures.BEGIN}\nnew\n{figures.END}\n\nbelow\n")
        self.assertEqual(figures.put(put, "new"), put)
        for broken in ("", figures.BEGIN, f"{figures.END} {figures.BEGIN}", document + document):
            with self.assertRaises(figures.TableError):
                figures.put(broken, "new")

    def test_the_document_has_a_place_for_each(self) -> None:
        document = (Path(__file__).parent.parent / "docs/performance.md").read_text()
        figures.put(document, "new")
        figures.put(document, "new", figures.WEBHOOK_BEGIN, figures.WEBHOOK_END)

    def test_servers_stand_side_by_side(self) -> None:
        rows = side_by_side.table([
            Row("CPU", "µs", {"ours": 150, "floor": 50, "other": 600}, part=("other", 0.2)),
            Row("p99", "ms", {"ours": 1.5, "floor": 0.5, "other": 3}, limit=2),
            Row("rate", "", {"ours": 5000, "floor": 10000, "other": 0}, part=("absent", 0.2)),
        ]).splitlines()
        self.assertEqual(rows, [
            "| figure | target | ours | floor | ratio | other | ratio |",
            "|---|---|---|---|---|---|---|",
            "| CPU | ≤ 120 µs | 150 µs, **missed** | 50 µs | 3.00 | 600 µs | 0.25 |",
            "| p99 | ≤ 2 ms | 1.50 ms | 0.50 ms | 3.00 | 3 ms | 0.50 |",
            "| rate |  | 5,000 | 10,000 | 0.50 | 0 |  |",
        ])


class Reviews(unittest.TestCase):
    def test_a_pod_has_the_size_that_is_asked_for(self) -> None:
        for kibibytes in (2, 20, 200):
            pod = json.loads(review({}, kibibytes))["request"]["object"]
            self.assertAlmostEqual(len(json.dumps(pod, separators=(",", ":"))), kibibytes * 1024, delta=64)

    def test_each_injector_is_asked_for_as_many_secrets(self) -> None:
        for annotations in (peers.keeper, peers.vault):
            self.assertEqual(len(annotations(100)), 102)
            self.assertEqual(json.loads(review(annotations(3), 2))["request"]["object"]["metadata"]["annotations"], annotations(3))


class Processes(unittest.TestCase):
    def test_sizes_are_read_in_kibibytes(self) -> None:
        text = "5583a000-7ffd0000 ---p 00000000 00:00 0    [rollup]\nRss:  4044 kB\nAnonymous:   600 kB\nThreads:\t1\n"
        self.assertEqual(proc.kibibytes(text), {"Rss": 4044, "Anonymous": 600})

    def test_this_process_has_memory_and_has_used_the_processor(self) -> None:
        before = proc.cpu_seconds(os.getpid())
        memory = proc.memory(os.getpid())
        self.assertLess(0, memory.private)
        self.assertLess(memory.private, memory.rss)
        self.assertLess(before, proc.cpu_seconds(os.getpid()))

    def test_a_file_that_is_written_again_counts_whole(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "below").mkdir()
            (directory / "kept").write_bytes(b"123")
            (directory / "below/replaced").write_bytes(b"1234")
            before = proc.files(directory)
            self.assertEqual(proc.bytes_rewritten(before, proc.files(directory)), 0)
            (directory / "new").write_bytes(b"1234")
            (directory / "new").rename(directory / "below/replaced")
            (directory / "added").write_bytes(b"12")
            self.assertEqual(proc.bytes_rewritten(before, proc.files(directory)), 6)

    def test_a_counter_has_no_labels(self) -> None:
        text = "# TYPE refresh_total counter\nrefresh_total 5\nrefresh_total_of{reason=\"x\"} 1\n"
        self.assertEqual(programs.counter(text, "refresh_total"), 5)
        with self.assertRaises(ValueError):
            programs.counter(text, "refresh")

    def test_calls_are_counted_over_endpoints(self) -> None:
        calls = {"a": {"get_secret": {"total": 2, "answered": 1}, "get_folders": {"total": 1}}, "b": {}}
        self.assertEqual(keeper.count(calls), {"a": 3, "b": 0})

    def test_a_vault_has_its_records_and_clients(self) -> None:
        vault = json.loads(keeper.vault(3, ["a", "b"]))
        self.assertEqual([record["title"] for record in vault["records"]], ["secret-1", "secret-2", "secret-3"])
        self.assertEqual(vault["clients"], [{"name": "a"}, {"name": "b"}])

    def test_the_size_of_the_image_is_in_what_its_build_says(self) -> None:
        said = "docker.io/keeper/injector-webhook:1  sha256:0  9 bytes packed, 9 unpacked\ndocker.io/keeper/injector-sidecar:1  sha256:0  2,048,004 bytes packed, 4,182,080 unpacked\n"
        self.assertEqual(command().sizes(said), (2_048_004, 4_182_080))
        with self.assertRaises(ValueError):
            command().sizes("")


class PodStart(unittest.TestCase):
    def test_a_log_line_has_its_moment(self) -> None:
        self.assertAlmostEqual(pod_start.moment("2026-01-02T03:04:05.250000001Z started\n"), 1767323045.25, places=6)
        with self.assertRaises(ValueError):
            pod_start.moment("2026-01-02T03:04:05.25Z no secrets\n")

    def test_the_rounds_go_through_all_parts_of_a_second(self) -> None:
        parts = sorted(int(phase * 8) for phase in pod_start.phases(8))
        self.assertEqual(parts, list(range(8)))

    def test_what_is_added_is_what_a_bare_pod_does_not_take(self) -> None:
        starts = {shape: [pod_start.Start(whole, 0.5) for whole in (2.0, 2.5, 3.0)] for shape in pod_start.SHAPES}
        starts[pod_start.BARE], starts[pod_start.INIT] = [pod_start.Start(1.0, 0.0)] * 3, [pod_start.Start(1.5, 0.25)] * 3
        bare, native, like, wait, both, *_ = pod_start.added(starts)
        self.assertEqual((bare.value, native.value, native.beside, native.limit), (1.0, 1.0, 0.25, 0.35))
        self.assertEqual((like.value, like.beside, like.peer), (1.0, 1.0, pod_start.LIKE_OURS))
        self.assertEqual(native.spread, "0.75 to 1.25")
        self.assertTrue(native.is_missed)
        self.assertEqual((wait.value, wait.beside), (0.5, 0.25))
        self.assertEqual((both.value, both.beside), (1.5, 1.5))

    def test_a_step_like_ours_is_ours_with_another_program(self) -> None:
        step = {"name": "keeper-init", "image": "ours", "command": ["/keeper-init"], "env": [1], "securityContext": {"a": 1}, "volumeMounts": [{"name": "v"}]}
        injected = {"spec": {"initContainers": [step], "volumes": [{"name": "token"}, {"name": "v", "emptyDir": {}}]}}
        made = pod_start.like_ours(injected, "a")["spec"]
        self.assertEqual(made["initContainers"], [{**pod_start.STEP, "securityContext": {"a": 1}, "volumeMounts": [{"name": "v"}]}])
        self.assertEqual(made["volumes"], [{"name": "v", "emptyDir": {}}])

    def test_only_our_shapes_have_our_annotations(self) -> None:
        self.assertEqual(pod_start.OURS, ["native", "classic", "init-only"])
        self.assertEqual(pod_start.pod("a", pod_start.BARE)["metadata"]["annotations"], {})


class Containerd(unittest.TestCase):
    def test_reads_what_ctr_prints(self) -> None:
        said = [
            '2026-01-02 03:04:05.250000001 +0000 UTC k8s.io /snapshot/prepare {"key":"a"}\n',
            '2026-01-02 03:04:05.250000001 +0000 UTC k8s.io /containers/create {"id":"a","image":"i"}\n',
            '2026-01-02 03:04:06 +0100 CET k8s.io /tasks/exit {"container_id":"a","id":"hook","pid":1}\n',
            '2026-01-02 03:04:06.0 +0000 UTC k8s.io /tasks/start {"conta',
        ]
        created, ended = containerd.parse(said)
        self.assertAlmostEqual(created.moment, 1767323045.25, places=6)
        self.assertEqual(ended.moment, 1767319446)
        self.assertEqual((created.topic, created.container, ended.container), (containerd.CREATED, "a", "a"))

    def test_a_pod_waits_after_each_init_container(self) -> None:
        def events(container: str, *moments: float) -> list[containerd.Event]:
            topics = [containerd.CREATED, "/tasks/start", "/tasks/exit"]
            return [containerd.Event(moment, topic, container) for moment, topic in zip(moments, topics)]

        bare = events("app", 1.0, 1.5)
        self.assertEqual(containerd.waited(bare, [], ["app"]), 0)
        # The second goes on after the app has been created; that it ends then is no matter.
        pod = events("first", 1.0, 1.25, 1.5) + events("second", 2.0, 2.25, 9.0) + events("app", 3.0, 3.25) + events("other", 3.5, 3.75)
        self.assertEqual(containerd.waited(pod, ["first", "second"], ["other", "app"]), 0.5 + 0.75)


if __name__ == "__main__":
    unittest.main()
