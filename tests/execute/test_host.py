"""The facts of a host: what this machine tells, and what others' files would."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.execute.host import cpu_of_cpuinfo, cpu_of_sysctl, differing_facts, gpus, host_facts

INTEL = """\
processor\t: 0
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu vme sse avx512f avx2
power management:

processor\t: 1
model name\t: another
flags\t\t: fpu
"""

GRAVITON = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0c

"""

INTEL_MAC = """\
machdep.cpu.brand_string: Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz
machdep.cpu.features: FPU VME SSE4.1 AVX1.0
machdep.cpu.leaf7_features: RDWRFSGS AVX2
hw.optional.avx2_0: 1
"""

APPLE = """\
machdep.cpu.brand_string: Apple M1
hw.optional.neon: 1
hw.optional.arm.FEAT_BF16: 0
hw.optional.arm.FEAT_AES: 1
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_this_machine_tells_its_processor_as_lscpu_does() -> None:
    facts = host_facts({"OMP_NUM_THREADS": "2"})
    done = subprocess.run(["lscpu", "--json"], capture_output=True, text=True, check=True, env={"LANG": "C"})
    told = {item["field"]: item["data"] for item in json.loads(done.stdout)["lscpu"]}
    if platform.machine() == "x86_64":
        assert facts["cpu"] == told["Model name:"]
    assert facts["cpu_flags"].split() == sorted(told["Flags:"].split())
    assert facts["variables"] == {"OMP_NUM_THREADS": "2"}
    assert json.loads(json.dumps(facts)) == facts


def test_only_the_first_processor_is_read() -> None:
    lines = iter(INTEL.splitlines(keepends=True))
    assert cpu_of_cpuinfo(lines) == ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "avx2 avx512f fpu sse vme")
    assert next(lines).startswith("processor\t: 1")


def test_an_arm_processor_is_named_by_its_part() -> None:
    assert cpu_of_cpuinfo(GRAVITON.splitlines()) == ("ARM implementer 0x41, part 0xd0c", "aes asimd evtstrm fp")


def test_a_system_that_tells_nothing_of_its_processor() -> None:
    assert cpu_of_cpuinfo([]) == ("", "")
    assert cpu_of_sysctl("") == ("", "")


def test_both_kinds_of_macs_tell_model_and_flags() -> None:
    assert cpu_of_sysctl(INTEL_MAC) == (
        "Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz",
        "avx1.0 avx2 fpu rdwrfsgs sse4.1 vme",
    )
    assert cpu_of_sysctl(APPLE) == ("Apple M1", "arm.FEAT_AES neon")


def test_gpus_of_nvidia_are_told_with_their_driver(tmp_path: Path) -> None:
    for bus in ("0000:65:00.0", "0000:17:00.0"):
        about = "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 221\nGPU UUID: \t GPU-2d1c\n"
        write(tmp_path, f"proc/driver/nvidia/gpus/{bus}/information", about)
    assert gpus(tmp_path) == ["NVIDIA A100-SXM4-80GB"] * 2
    write(tmp_path, "sys/module/nvidia/version", "535.104.05\n")
    assert gpus(tmp_path) == ["NVIDIA A100-SXM4-80GB, driver 535.104.05"] * 2


def test_gpus_of_amd_are_told_and_processors_are_none(tmp_path: Path) -> None:
    nodes = "sys/class/kfd/kfd/topology/nodes"
    write(tmp_path, f"{nodes}/0/properties", "cpu_cores_count 16\nsimd_count 0\ngfx_target_version 0\n")
    write(tmp_path, f"{nodes}/1/properties", "simd_count 416\ngfx_target_version 90010\ndevice_id 29711\nodd\n")
    (tmp_path / nodes / "2").mkdir()
    assert gpus(tmp_path) == ["AMD gfx90a (device 0x740f)"]


def test_a_machine_without_gpus_has_none(tmp_path: Path) -> None:
    assert gpus(tmp_path) == []


def test_facts_differ_where_both_hosts_tell_them() -> None:
    old = {"cpu": "a", "cpus": 8, "kernel": "6.1"}
    new = {"cpu": "b", "cpus": 8, "gpus": ["NVIDIA T4"], "cpu_flags": "avx"}
    assert differing_facts(old, new) == [("cpu", "a", "b")]


def test_of_flags_each_side_has_those_that_the_other_lacks() -> None:
    found = differing_facts({"cpu_flags": "avx avx2 sse"}, {"cpu_flags": "amx avx sse4"})
    assert found == [("cpu_flags", ["avx2", "sse"], ["amx", "sse4"])]
