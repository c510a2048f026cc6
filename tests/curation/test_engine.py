"""However a run is shared out, stopped or killed, the same bytes are there in the end: nothing lost, nothing twice."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runs import FLAGS, NUM_PARTS, curate, digests, driver, finish, litter, start, twoview, wait_for
from twoview.cli import main
from twoview.errors import ConfigError
from twoview.locks import Lock, holder
from twoview.shards import finished_parts, is_finished, read_manifest, read_scenes


def assert_whole(out: Path, dataset: Path) -> None:
    """The same bytes as a run that nobody disturbed, nothing left over, and audit agrees."""
    assert digests(out) == digests(dataset)
    assert litter(out) == []
    assert main(["audit", str(out)]) == 0


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_footage_is_cut_into_parts_of_every_kind(dataset: Path) -> None:
    """What the tests below rely on: several parts a scene, some without a stored pair."""
    rows = read_manifest(dataset).to_pylist()
    assert finished_parts(dataset) == list(range(NUM_PARTS))
    assert len(rows) == 59 + 19
    for scene, num_parts in (("walk.mp4", 3), ("photos", 2)):
        assert len({s["part"] for s in read_scenes(dataset).to_pylist() if s["scene"] == scene}) == num_parts
    assert 0 < len(list((dataset / "shards").iterdir())) < NUM_PARTS


def test_two_workers(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    done = twoview("curate", *footage, "--out", out, *FLAGS, "--workers", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(out, dataset)


def test_two_commands_at_once(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    both = [start(None, "curate", *footage, "--out", out, *FLAGS, "--workers", 1) for _ in range(2)]
    codes, said = zip(*(finish(p) for p in both), strict=True)
    assert codes == (0, 0), said
    assert_whole(out, dataset)


def test_shares(footage: list[Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two array jobs do disjoint halves; a share of nothing is done at once."""
    out = tmp_path / "pairs"
    assert curate(footage, out, "--parts", "1/2") == 0
    assert finished_parts(out) == [0, 1]
    assert curate(footage, out, "--parts", "2/2") == 0
    assert_whole(out, dataset)
    capsys.readouterr()
    assert curate(footage, out, "--parts", "1/100") == 0
    assert "none of the 5 parts" in capsys.readouterr().out


def test_a_finished_run_is_left_alone(
    footage: list[Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(dataset, tmp_path / "pairs")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    assert curate(footage, out) == 0
    assert "5 of 5 parts were finished before" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.*")} == before


def test_a_part_without_its_manifest_is_made_anew(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    out = shutil.copytree(dataset, tmp_path / "pairs")
    (out / "manifest" / "part-000003.parquet").unlink()
    assert curate(footage, out) == 0
    assert_whole(out, dataset)


KILLED = "os.killpg(0, signal.SIGKILL)"
PLACES = {
    "while the plan is made": f"engine.make_plan = lambda *_: {KILLED}",
    "with the plan written aside": f"""
Path.replace = lambda path, to: {KILLED} if to.name == 'plan.parquet' else os.replace(path, to)
""",
    "inside the first sample": f"""
import tarfile
add, calls = tarfile.TarFile.addfile, []
def addfile(self, *args):
    calls.append(args)
    add(self, *args)
    if len(calls) == 3: {KILLED}
tarfile.TarFile.addfile = addfile
""",
    "inside a later part's tar": f"""
write = shards.ShardWriter.write_sample
def write_sample(self, *args):
    write(self, *args)
    if self.part == 3 and len(self._rows) == 4: {KILLED}
shards.ShardWriter.write_sample = write_sample
""",
    "between the tar's rename and the inputs": f"""
write = shards.write_whole
shards.write_whole = lambda path, data: {KILLED} if path.parent.name == 'scenes' else write(path, data)
""",
    "between the inputs and the manifest": f"""
write = shards.write_whole
shards.write_whole = lambda path, data: {KILLED} if path.parent.name == 'manifest' and '3' in path.name else write(path, data)
""",
    "with the manifest of a part that stores nothing": f"""
write = shards.write_whole
shards.write_whole = lambda path, data: (write(path, data), path.parent.name == 'manifest' and '1' in path.name and {KILLED})
""",
    "with the manifest written aside": f"""
Path.replace = lambda path, to: {KILLED} if to.parent.name == 'manifest' and '3' in to.name else os.replace(path, to)
""",
    "between the manifest and the release of its lock": f"""
release = locks.Lock.release
locks.Lock.release = lambda self: {KILLED} if 'part' in self.path.name else release(self)
""",
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_run_again(place: str, footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """SIGKILL of everything at an exact place, then one plain run."""
    out = tmp_path / "pairs"
    code, said = finish(start(driver(tmp_path, PLACES[place]), "curate", *footage, "--out", out, *FLAGS, "--workers", 1))
    assert code == -signal.SIGKILL, said
    assert litter(out)  # it was killed at work: at least a lock is left
    finished = {name: digest for name, digest in digests(out).items() if name.startswith("manifest/part")}
    assert finished.items() <= digests(dataset).items()  # what there is is whole already
    assert curate(footage, out) == 0
    assert_whole(out, dataset)


@pytest.mark.parametrize("place", ["while the plan is made", "with the plan written aside"])
def test_killed_in_the_plan_and_run_with_other_flags(place: str, footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """Where nothing was planned yet nothing is spoilt: the second thoughts count."""
    out = tmp_path / "pairs"
    other = ("--recipe", "consecutive", "--size", "64")
    assert finish(start(driver(tmp_path, PLACES[place]), "curate", *footage, "--out", out, *other))[0] == -signal.SIGKILL
    assert curate(footage, out) == 0
    assert_whole(out, dataset)
    assert (out / "config.json").read_bytes() == (dataset / "config.json").read_bytes()


DIES = """
work = engine.curate_part
def curate_part(out, slices, *rest):
    mark = out.parent / "died"
    if slices[0].part == 3 and (ALWAYS or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    work(out, slices, *rest)
engine.curate_part = curate_part
"""


@pytest.mark.slow
def test_a_worker_killed_alone(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """As the system does where memory runs out: the run goes on."""
    out = tmp_path / "pairs"
    script = driver(tmp_path, f"ALWAYS = False\n{DIES}")
    code, said = finish(start(script, "curate", *footage, "--out", out, *FLAGS, "--workers", 2))
    assert (code, said) == (0, "twoview: a worker was killed (by SIGKILL): another goes on\n")
    assert (tmp_path / "died").exists()
    assert_whole(out, dataset)


@pytest.mark.slow
def test_a_part_that_always_kills_its_worker(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    script = driver(tmp_path, f"ALWAYS = True\n{DIES}")
    code, said = finish(start(script, "curate", *footage, "--out", out, *FLAGS, "--workers", 2))
    first, last = said.splitlines()
    assert code == 1
    assert first == "twoview: a worker was killed (by SIGKILL): another goes on"
    assert "died 2 times in part 3 (photos), by SIGKILL. Finished parts are kept" in last
    assert finished_parts(out)
    assert not is_finished(out, 3)
    assert curate(footage, out) == 0
    assert_whole(out, dataset)


HANGS = """
work = engine.curate_part
def curate_part(out, slices, *rest):
    if slices[0].part >= 1:
        (out.parent / f"at-{slices[0].part}").touch()
        time.sleep(600)
    work(out, slices, *rest)
engine.curate_part = curate_part
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("sent", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(
    sent: signal.Signals, expected: int, workers: int, footage: list[Path], dataset: Path, tmp_path: Path
) -> None:
    """Ctrl-C reaches every process of the terminal, a scheduler's SIGTERM the parent: finished parts stay, nobody wails."""
    out = tmp_path / "pairs"
    process = start(driver(tmp_path, HANGS), "curate", *footage, "--out", out, *FLAGS, "--workers", workers)
    wait_for(lambda: is_finished(out, 0) and len(list(tmp_path.glob("at-*"))) == workers)
    crew = workers_of(process)
    assert len(crew) == (workers if workers > 1 else 0)
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    assert finish(process) == (expected, "\nstopped: 1 of 5 parts are finished and kept; the same command goes on\n")
    assert not any(map(lives, crew))
    assert litter(out) == []
    assert curate(footage, out) == 0
    assert_whole(out, dataset)


def test_stopped_before_the_plan(footage: list[Path], tmp_path: Path) -> None:
    """The workers are only importing then: they do not wail either."""
    script = driver(tmp_path, "engine.make_plan = lambda *_: ((Path(sys.argv[-1]) / 'now').touch(), time.sleep(600))")
    process = start(script, "curate", *footage, "--workers", 2, *FLAGS, "--out", tmp_path / "pairs")
    wait_for((tmp_path / "pairs" / "now").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process) == (130, "")


def test_stopped_while_a_worker_starts(footage: list[Path], tmp_path: Path) -> None:
    """Ctrl-C reaches an interpreter that has not come to its first line of ours."""
    at_once = """
from multiprocessing.process import BaseProcess
begin = BaseProcess.start
def start(self):
    begin(self)
    time.sleep(0.08)
    try:
        os.killpg(0, signal.SIGINT)
    finally:
        time.sleep(0.3)  # time to wail
BaseProcess.start = start
"""
    process = start(driver(tmp_path, at_once), "curate", *footage, "--workers", 2, "--out", tmp_path / "pairs")
    assert finish(process) == (130, "")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.slow
def test_only_the_parent_is_killed(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """Its workers notice at their next pair and leave; their locks hold nobody up."""
    slow = """
view = curate.OpenScene._view
def _view(self, index):
    (Path(sys.argv[-1]).parent / "begun").touch()
    time.sleep(0.3)
    return view(self, index)
curate.OpenScene._view = _view
"""
    process = start(driver(tmp_path, slow), "curate", *footage, *FLAGS, "--workers", 2, "--out", out := tmp_path / "pairs")
    wait_for((tmp_path / "begun").exists)
    crew = workers_of(process)
    assert len(crew) == 2
    process.kill()
    assert curate(footage, out) == 0  # waits for a part that is still held
    wait_for(lambda: not any(map(lives, crew)))
    assert finish(process) == (-signal.SIGKILL, "")
    assert_whole(out, dataset)


def test_a_part_held_elsewhere_is_waited_for(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """And it is said who holds it."""
    out = shutil.copytree(dataset, tmp_path / "pairs")
    kept = (out / "manifest" / "part-000003.parquet").rename(tmp_path / "kept")
    with Lock.acquire(out / "locks" / "part-000003.lock") as lock:
        process = start(None, "curate", *footage, "--out", out, *FLAGS, "--workers", 1)
        line = process.stderr.readline() + process.stderr.readline()
        assert f"waiting for 1 parts held by process {os.getpid()} on " in line
        kept.rename(out / "manifest" / "part-000003.parquet")
        assert lock.path.exists()
    assert finish(process)[0] == 0
    assert_whole(out, dataset)


def test_workers_are_sent_no_lambda(footage: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from twoview.recipes import paper\nfrom dataclasses import replace\n"
        "def mine(): return replace(paper(), filters=(lambda pair: '',))\n"
    )
    done = twoview("curate", *footage, "--out", "pairs", "--recipe", "mine:mine", "--workers", 2, cwd=tmp_path)
    assert done.returncode == 2
    assert "the recipe cannot be sent to a worker" in done.stderr
    assert "--workers 1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_lock_is_held_once_and_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = Lock.acquire(path)
    assert first is not None
    assert Lock.acquire(path) is None
    assert holder(path).startswith(f"process {os.getpid()} on ")
    first.release()
    assert not path.exists()
    assert holder(path) == "somebody"
    with Lock.wait(path):
        assert Lock.acquire(path) is None


def test_lock_of_a_dead_holder_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = "import os, sys; from twoview.locks import *; lock = Lock.acquire(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -signal.SIGKILL
    assert path.exists()
    lock = Lock.acquire(path)
    assert lock is not None
    lock.release()


def test_no_lock_on_a_file_that_its_holder_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening a lock and locking it, its holder may remove it: that file locks nobody out."""
    path = tmp_path / "a.lock"
    flock, removed = fcntl.flock, []

    def removed_meanwhile(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(path.unlink())
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with Lock.acquire(path):
        assert removed
        assert Lock.acquire(path) is None


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(38, "Function not implemented")))
    with pytest.raises(ConfigError, match=r"a\.lock: this file system has no locks \(Function not implemented\)"):
        Lock.acquire(tmp_path / "a.lock")
