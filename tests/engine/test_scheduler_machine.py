"""Whatever comes, is cancelled, is put back or is lost, all ranks stay in step and every answer is right."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from mlxserve.engine import decoding, memory, waiting
from mlxserve.engine.client import Generated, Open
from mlxserve.engine.messages import Cancel, NewToken, PromptLikelihoods, Sampling, Step, Submit
from mlxserve.pipeline import row_cache
from tests.engine.crashing_disk import CrashingDisk
from tests.engine.reference import Answer, Reference
from tests.engine.whole_engine import CONFIGS, Conditions, WholeEngine
from tests.pipeline.one_rank import VOCABULARY, build

STEP = 16
"""Tokens by which caches grow here, so that few make a difference."""
BORDER_STEP = 40
MOST_PROMPT = 130
MOST_ANSWER = 40
BLOCKS = [[(7 * place * place + 11 * block + 3) % VOCABULARY for place in range(26)] for block in range(3)]
"""What prompts consist of: many begin alike."""

WHICH = st.sampled_from([0, 1, 2, 3, 5, 9])
"""So many were asked later."""
STEPS = st.sampled_from([0, 1, 2, 3, 5, 8, 12, 30])
TOKENS = st.integers(0, VOCABULARY - 1)
SHORT = st.lists(TOKENS, min_size=1, max_size=12)
PROMPTS = SHORT | st.builds(
    lambda blocks, cut, tail: sum((BLOCKS[block] for block in blocks), list[int]())[: -cut or None] + tail,
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.integers(0, 24),
    SHORT,
)
PLAIN = st.builds(Sampling, st.integers(0, 9), st.sampled_from([0.0, 0.0, 0.8, 1.0]))
SAMPLINGS = PLAIN | st.builds(
    Sampling,
    seed=st.integers(0, 9),
    temperature=st.sampled_from([0.0, 1.0]),
    top_k=st.sampled_from([0, 0, 12]),
    presence_penalty=st.sampled_from([0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.4]),
    logit_bias=st.lists(st.tuples(TOKENS, st.just(3.0)), max_size=1),
)
WANTED = st.builds(
    Submit,
    id=st.just(0),
    prompt=PROMPTS,
    sampling=SAMPLINGS,
    max_tokens=st.integers(1, MOST_ANSWER) | st.just(MOST_ANSWER),
    stop_tokens=st.lists(TOKENS, max_size=2),
    top_logprobs=st.sampled_from([0, 0, 3, -1]),
    prompt_logprobs=st.sampled_from([False, False, False, True]),
    borders=st.lists(st.integers(1, MOST_PROMPT), max_size=1),
)


@pytest.fixture(autouse=True, scope="module")
def _few_tokens_make_a_difference() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_cache, "STEP", STEP)
        patch.setattr(memory, "STEP", STEP)
        patch.setattr(waiting, "BORDER_STEP", BORDER_STEP)
        patch.setattr(decoding, "_SPARE_FOR", 3)
        yield


@cache
def reference(model_type: str) -> Reference:
    return Reference(build(model_type, **CONFIGS[model_type]))


@dataclass
class Asked:
    """A sequence as the node and its client know it."""

    submit: Submit
    open: Open
    answer: Answer = field(default_factory=Answer)
    cancelled: bool = False
    checked: bool = False

    def read(self) -> None:
        """The client takes what has come."""
        events = self.open.inbox._events
        while events:
            match events.popleft():
                case Generated(tokens, finish, likelihoods):
                    ((token,), likelihood) = tokens, likelihoods[0] if likelihoods else None
                    self.answer.tokens.append(NewToken(self.submit.id, token, finish, likelihood))
                case PromptLikelihoods(_, likelihoods):
                    self.answer.of_prompt += likelihoods


class AnyService(RuleBasedStateMachine):
    """A node with its engine, whose ranks may be lost at any time."""

    model_type = "qwen2"

    @initialize(
        ranks=st.sampled_from([2, 1, 3]),
        memory=st.sampled_from([(2, 95), (16, 191), (1, 95), (2, 63), (1, 31)]),
        stored=st.sampled_from([2000, 300, 150, 0]),
        chunk=st.sampled_from([64, 16, 4]),
        rows=st.sampled_from([6, 4, 1]),
        token_cost=st.sampled_from([0.0, 0.02, 1.0]),
        batchable=st.sampled_from([*[True] * 7, False]),
        speculates=st.booleans(),
        drafts=st.booleans(),
    )
    def begin(self, **drawn: Any) -> None:
        self.conditions = Conditions(self.model_type, **drawn)
        self.disks = [CrashingDisk() for _ in range(self.conditions.ranks)]
        self.engine = WholeEngine(self.conditions, self.disks)
        self.asked: dict[int, Asked] = {}
        self.under_way: deque[Step] = deque()
        """What the engine has told and the node has not read yet."""

    @rule(wanted=st.lists(WANTED, min_size=2, max_size=6), steps=STEPS)
    def ask(self, wanted: list[Submit], steps: int) -> None:
        """Several that come together."""
        for one in wanted:
            number = len(self.asked) + 1
            prompt = one.prompt[: min(MOST_PROMPT, self.engine.longest - 1)]
            most = min(one.max_tokens, self.engine.longest - len(prompt))
            submit = msgspec.structs.replace(one, id=number, prompt=prompt, max_tokens=most)
            self.asked[number] = Asked(submit, Open(submit))
            self.engine.take(submit)
        self.step(steps, read=True)

    @precondition(lambda self: self.asked)
    @rule(which=WHICH, wanted=WANTED, steps=STEPS)
    def ask_on(self, which: int, wanted: Submit, steps: int) -> None:
        """The next turn of a conversation, whose last may still be going on."""
        last = self.one(which)
        prompt = [*last.submit.prompt, *(new.token for new in last.answer.tokens), *wanted.prompt]
        self.ask([msgspec.structs.replace(wanted, prompt=prompt)], steps)

    @precondition(lambda self: self.asked)
    @rule(these=st.sets(WHICH, min_size=1), steps=STEPS)
    def cancel(self, these: set[int], steps: int) -> None:
        """Perhaps what has ended, or is cancelled already."""
        for one in map(self.one, sorted(these)):
            one.cancelled = True
            self.engine.take(Cancel(one.submit.id))
        self.step(steps, read=True)

    @rule(steps=STEPS, read=st.sampled_from([True, True, False]))
    def step(self, steps: int, read: bool) -> None:
        for _ in range(steps):
            self.under_way.append(self.engine.step())
            if read:
                self.read()

    @rule(lost=st.lists(st.sampled_from([0, 0, 1, 2, 5, 1000]), min_size=3, max_size=3), steps=STEPS)
    def lose_the_engine(self, lost: list[int], steps: int) -> None:
        """And what it had told last; of what each disk was to have, the last is `lost`."""
        self.under_way.clear()
        for disk, count in zip(self.disks, lost, strict=False):
            disk.crash(count)
        self.engine = WholeEngine(self.conditions, self.disks)
        for one in self.asked.values():
            if not one.open.over and not one.cancelled:
                self.engine.take(one.open.again())
        self.step(steps, read=True)

    def teardown(self) -> None:
        if hasattr(self, "asked"):
            self.under_way += self.engine.end()
            self.read()
            self.engine.check_nothing_left()
            assert all(one.cancelled or one.answer.finish for one in self.asked.values())

    def one(self, which: int) -> Asked:
        return list(self.asked.values())[-1 - which % len(self.asked)]

    def read(self) -> None:
        """The node reads what the engine has told; what was cancelled meanwhile it does not know any more."""
        while self.under_way:
            step = msgspec.msgpack.decode(msgspec.msgpack.encode(self.under_way.popleft()), type=Step)
            assert not step.failed
            for prompt in step.prompts:
                if not self.asked[prompt.id].cancelled:
                    self.asked[prompt.id].open.told(prompt)
            for new in step.tokens:
                if not self.asked[new.id].cancelled:
                    assert not self.asked[new.id].open.over
                    self.asked[new.id].open.generated(new)
        for one in self.asked.values():
            one.read()
            if (one.cancelled or one.answer.finish) and not one.checked:
                reference(self.model_type).check(one.submit, one.answer)
                one.checked = True


@pytest.mark.parametrize("model_type", CONFIGS)
def test_ranks_stay_in_step_and_answers_are_right_whatever_happens(model_type: str) -> None:
    machine: Any = type("Machine", (AnyService,), {"model_type": model_type})
    bounds = settings(
        max_examples=15,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=os.environ.get("CI") == "true",
    )
    run_state_machine_as_test(machine, settings=bounds)
