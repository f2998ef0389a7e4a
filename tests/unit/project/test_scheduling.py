"""The scheduling policy of the test process survives no test, as `conftest.py` promises.

Both tests belong together, in this order.
"""

import os

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setscheduler"), reason="named: no scheduling policies here"
)


def test_changes_the_policy_as_an_encoder_does():
    # SCHED_BATCH needs no privilege; SVT-AV1 sets SCHED_FIFO, if root runs it.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    assert os.sched_getscheduler(0) == os.SCHED_BATCH


def test_policy_is_normal_after_another_test_changed_it():
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
