"""Whether products of 8-bit integers are added exactly, as the flags of a processor say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.host.processor import adds_int8_in_32_bits


def _machine(root: Path, line: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\nprocessor\t: 1\n{line}\n")
    return root


@pytest.mark.parametrize(
    ("line", "exact"),
    [
        ("flags\t\t: fpu sse4_2 avx avx2 fma", False),  # EPYC of the second generation
        ("flags\t\t: fpu avx2 avx512f avx512bw", False),  # Skylake: wide, and saturates
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", True),
        ("flags\t\t: fpu avx2 avx_vnni", True),
        ("Features\t: fp asimd asimddp", True),  # Orin
        ("Features\t: fp asimd", False),
        ("model name\t: avx512_vnni", False),  # no flag
    ],
)
def test_int8_is_exact_where_the_flags_name_an_instruction_for_it(
    tmp_path: Path, line: str, exact: bool
) -> None:
    assert adds_int8_in_32_bits(_machine(tmp_path, line)) is exact


def test_a_machine_that_says_nothing_is_not_believed_to_be_exact(tmp_path: Path) -> None:
    assert not adds_int8_in_32_bits(tmp_path)
