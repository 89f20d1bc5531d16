"""kill -9 again and again, under real logrotate and a faulty CloudWatch: no line is lost, and it is proven.

A few kills in `make test`, two hundred in `make soak` (OUTLIVE_KILLS). What went wrong is told line by line; the
folder that it names holds the agent's log, the writers' journals and what logrotate left.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from real_agent import RealAgent
from soak_rotation import COPIES, PLANS, Plan, find_logrotate
from soak_run import SEED, Report, configuration, soak

from agent.standin.standin import Standin

KILLS = int(os.environ.get("OUTLIVE_KILLS", "5"))
COPY_KILLS = max(2, KILLS // 10)

Soak = Callable[[Sequence[Plan], int], tuple[RealAgent, Report]]


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin.start(seed=SEED) as running:
        yield running


@pytest.fixture
def soaked(tmp_path: Path, standin: Standin, capsys: pytest.CaptureFixture[str]) -> Iterator[Soak]:
    """Runs a soak with these plans and so many kills; says what it came to, whatever comes of it."""
    logrotate = find_logrotate()
    if logrotate is None:
        pytest.skip("no logrotate: install the package, or say where it is with OUTLIVE_LOGROTATE")
    agents = []

    def run(plans: Sequence[Plan], kills: int) -> tuple[RealAgent, Report]:
        agent = RealAgent(tmp_path, standin, configuration(plans, tmp_path))
        agents.append(agent)
        report = soak(agent, standin, plans, logrotate, kills)
        with capsys.disabled():
            sys.stdout.write(f"\n{report}\n")
        return agent, report

    yield run
    for agent in agents:
        agent.close()


def check(agent: RealAgent, report: Report) -> None:
    troubles = list(report.troubles())
    assert not troubles, "\n".join([f"see {agent.folder}", *troubles])


def test_kills_under_logrotate_and_faults_lose_no_line_and_the_receipt_is_proven(soaked: Soak) -> None:
    agent, report = soaked(PLANS, KILLS)
    check(agent, report)
    assert sum(report.killer.costs) <= report.killer.allowed()
    receipt = json.loads(agent.call("receipt", "--json").stdout)
    assert (receipt["outcome"], receipt["gaps"], receipt["refused"]) == ("proven", [], [])
    assert receipt["logs"], "a receipt of nothing shows nothing"
    assert [row for row in receipt["logs"] if row["acknowledged"] < row["size"]] == []
    assert report.drained == 0
    assert agent.terminate() == 0


def test_what_is_truncated_before_it_is_read_comes_from_the_copy_where_the_pattern_means_it(soaked: Soak) -> None:
    """Nothing waits for the agent here, which need not know that the copy holds what was gone: nothing is proven."""
    agent, report = soaked(COPIES, COPY_KILLS)
    for name, rotator in report.rotators.items():
        ledger, written = report.arrivals.ledgers[name], report.journals[name].written
        assert ledger.halves() <= rotator.rotations
        assert ledger.duplicates <= written + report.killer.allowed()
    check(agent, report)
