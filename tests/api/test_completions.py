"""POST /v1/completions as clients of it see it: whole and streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from mlxserve.config import Settings
from mlxserve.engine import messages

from ..text.tokenizer_folder import write_tokenizer_folder
from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

PROMPT = "The capital of France is"


def encode(plain: Any, text: str) -> list[int]:
    return list(plain.encode(text, add_special_tokens=False))


async def whole(client: AsyncOpenAI, **fields: Any) -> dict[int, dict[str, Any]]:
    """The choices of an answer by index."""
    answer = await client.completions.create(**{"model": "", "prompt": PROMPT} | fields)
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    return {choice.index: choice.model_dump() for choice in answer.choices}


async def streamed(client: AsyncOpenAI, **fields: Any) -> dict[int, dict[str, Any]]:
    """The choices of a stream, put together."""
    choices: dict[int, dict[str, Any]] = {}
    async for chunk in await client.completions.create(**{"model": "", "prompt": PROMPT} | fields, stream=True):
        for choice in chunk.choices:
            put = choices.setdefault(
                choice.index, {"index": choice.index, "text": "", "logprobs": None, "finish_reason": None}
            )
            assert put["finish_reason"] is None, "nothing follows the end of a choice"
            put["text"] += choice.text
            put["finish_reason"] = choice.finish_reason
            if choice.logprobs:
                put["logprobs"] = put["logprobs"] or {name: [] for name in choice.logprobs.model_dump()}
                for name, entries in choice.logprobs.model_dump().items():
                    put["logprobs"][name] += entries
    return dict(sorted(choices.items()))


async def test_a_text_goes_on(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = encode(plain, " Paris. 日本 🎉")
    answer = await client.completions.create(model="default", prompt=PROMPT, max_tokens=100)
    submitted = await engine.submitted.get()
    assert submitted.prompt == encode(plain, PROMPT)
    assert (submitted.top_logprobs, submitted.prompt_logprobs) == (-1, False)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == "mlx-community/Tiny-8bit"
    assert answer.system_fingerprint
    [choice] = answer.choices
    assert (choice.index, choice.text, choice.logprobs, choice.finish_reason) == (0, " Paris. 日本 🎉", None, "stop")
    assert answer.usage
    assert answer.usage.prompt_tokens == len(submitted.prompt)
    assert answer.usage.completion_tokens == len(engine.script) + 1
    timings: Any = answer.model_extra
    assert timings["timings"]["predicted_n"] == len(engine.script) + 1


async def test_the_default_bound_is_sixteen_tokens(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = encode(plain, " word" * 40)
    answer = await client.completions.create(model="", prompt=PROMPT)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 16


async def test_a_stream_is_what_strict_clients_want(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = encode(plain, " Paris.")
    body = {"prompt": PROMPT, "stream": True, "stream_options": {"include_usage": True}}
    answer = await http.post("/v1/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert len({(chunk["id"], chunk["created"], chunk["object"], chunk["model"]) for chunk in chunks}) == 1
    *with_choice, usage = chunks
    assert all(chunk["choices"][0].keys() == {"index", "text", "logprobs", "finish_reason"} for chunk in with_choice)
    ends = [chunk["choices"][0]["finish_reason"] for chunk in with_choice]
    assert ends == [None] * (len(ends) - 1) + ["stop"]
    assert [chunk["usage"] for chunk in with_choice] == [None] * len(with_choice)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(engine.script) + 1


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "echo": {"echo": True},
    "logprobs": {"logprobs": 2},
    "only the chosen": {"logprobs": 0},
    "echo with logprobs": {"echo": True, "logprobs": 1},
    "the prompt alone": {"echo": True, "logprobs": 1, "max_tokens": 0},
    "the prompt's text alone": {"echo": True, "max_tokens": 0},
    "several": {"n": 3, "logprobs": 1},
    "several prompts": {"prompt": ["One", "Two", "日本"], "n": 2, "echo": True, "logprobs": 1},
    "tokens": {"prompt": [70, 71, 72], "echo": True, "logprobs": 1},
    "several lists of tokens": {"prompt": [[70, 71, 72], [73]], "echo": True},
    "a stop string": {"stop": ["ris"], "logprobs": 1},
    "a stop string that does not come": {"stop": ["🎉!", "zzz"], "logprobs": 1},
    "no stop string": {"stop": ""},
    "cut off": {"max_tokens": 4, "logprobs": 1},
}


@pytest.mark.parametrize("name", SHAPES)
async def test_streamed_and_whole_answers_are_equal(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any, name: str
) -> None:
    fields = {"max_tokens": 60} | SHAPES[name]
    engine.likelihood = messages.Likelihood(-0.5, [(70, -0.5), (71, -1.5)])
    for text in ("", " Paris. 日本 🎉", "\n", " "):
        engine.script = encode(plain, text)
        choices = await whole(client, **fields)
        assert await streamed(client, **fields) == choices, text
        prompts = fields.get("prompt", "")
        several = isinstance(prompts, list) and not isinstance(prompts[0], int)
        assert len(choices) == (len(prompts) if several else 1) * fields.get("n", 1)
        for choice in choices.values():
            assert ("logprobs" in fields) == (choice["logprobs"] is not None)
            assert len({len(entries) for entries in (choice["logprobs"] or {}).values()}) <= 1


async def test_texts_come_back_as_they_were_written(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = encode(plain, " Paris.")
    assert (await whole(client))[0]["text"] == " Paris.", "the space between prompt and answer is the answer's"
    assert (await whole(client, echo=True))[0]["text"] == PROMPT + " Paris."
    for prompt in ("Q: ", " lead", "tab\t", "日本"):
        assert (await whole(client, prompt=prompt, echo=True))[0]["text"] == prompt + " Paris."
        assert (await whole(client, prompt=encode(plain, prompt), echo=True))[0]["text"] == prompt + " Paris."


async def test_each_token_begins_at_its_offset(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = encode(plain, " Paris é.")
    engine.likelihood = messages.Likelihood(-0.5, [(70, -0.25), (71, -1.5)])
    choice = (await whole(client, prompt="Straße 日本", echo=True, logprobs=2, max_tokens=60))[0]
    logprobs = choice["logprobs"]
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    for offset, token in zip(logprobs["text_offset"][:-1], logprobs["tokens"][:-1], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token), (offset, token)
    assert any(token.startswith("bytes:\\x") for token in logprobs["tokens"]), "characters that are several tokens"
    assert (logprobs["text_offset"][-1], logprobs["tokens"][-1]) == (len(choice["text"]), "<|im_end|>")


async def test_prompts_likelihoods_are_what_evaluation_harnesses_read(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    """The last entry is the generated token's, whatever it is: harnesses cut off exactly one."""
    engine.likelihood = messages.Likelihood(-0.5, [(70, -0.5)])
    prompts = [encode(plain, "The fox jumps"), encode(plain, "Paris")]
    for script in ([], encode(plain, " x")):
        engine.script = script
        choices = await whole(client, prompt=prompts, max_tokens=1, echo=True, logprobs=1, temperature=0, seed=1234)
        for prompt, choice in zip(prompts, choices.values(), strict=True):
            logprobs = choice["logprobs"]
            told = [None, *(-1.0 - i for i in range(len(prompt) - 1)), -0.5]
            assert logprobs["token_logprobs"] == told
            assert logprobs["top_logprobs"][0] is None
            own = [plain.decode([token]) for token in prompt]
            assert logprobs["tokens"][:-1] == own
            for token, logprob, top in zip(own[1:], told[1:-1], logprobs["top_logprobs"][1:-1], strict=True):
                assert top == {token: -0.5, "<|endoftext|>": -1.5}, "two tokens of one name: the likelier"
                assert max(top.values()) != logprob
    submitted = await engine.submitted.get()
    assert (submitted.max_tokens, submitted.top_logprobs, submitted.prompt_logprobs) == (1, 1, True)
    assert submitted.sampling.temperature == 0


async def test_a_chosen_token_is_among_the_likeliest_of_its_place(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = encode(plain, "P")
    engine.likelihood = messages.Likelihood(-3.0, [(encode(plain, "Q")[0], -0.1)])
    logprobs = (await whole(client, logprobs=1))[0]["logprobs"]
    assert logprobs["top_logprobs"][0] == {"Q": -0.1, "P": -3.0}


async def test_an_impossible_token_has_a_number_for_its_log_probability(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = encode(plain, "P")
    engine.likelihood = messages.Likelihood(float("-inf"), [])
    assert (await whole(client, logprobs=0))[0]["logprobs"]["token_logprobs"][0] == -9999.0


async def test_with_no_new_tokens_nothing_but_the_prompt_is_told(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    for script in ([], encode(plain, " x")):
        engine.script = script
        answer = await client.completions.create(model="", prompt=PROMPT, max_tokens=0, echo=True, logprobs=0)
        assert (await engine.submitted.get()).max_tokens == 1
        [choice] = answer.choices
        assert (choice.text, choice.finish_reason) == (PROMPT, "length")
        assert choice.logprobs
        assert len(choice.logprobs.tokens or []) == len(encode(plain, PROMPT))
        assert answer.usage
        assert answer.usage.completion_tokens == 0


@pytest.mark.parametrize("at_once", [False, True])
async def test_tokens_of_a_stop_string_are_not_told_however_they_arrive(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any, at_once: bool
) -> None:
    engine.script = None
    engine.likelihood = messages.Likelihood(-0.5, [])
    asking = asyncio.create_task(whole(client, stop=["END"], logprobs=0))
    submitted = await engine.submitted.get()
    tokens = [plain.convert_tokens_to_ids(letter) for letter in "okEND"]
    for group in [tokens] if at_once else [[token] for token in tokens]:
        engine.say(submitted.id, *group)
        await asyncio.sleep(0)
    choice = (await asking)[0]
    assert (choice["text"], choice["finish_reason"]) == ("ok", "stop")
    assert choice["logprobs"]["tokens"] == ["o", "k"]


async def test_the_best_of_several_are_told(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = None
    asking = asyncio.create_task(
        client.completions.create(model="", prompt=["a", "b"], n=2, best_of=3, seed=7, max_tokens=4)
    )
    submitted = [await engine.submitted.get() for _ in range(6)]
    assert [one.sampling.seed for one in submitted] == [7, 8, 9, 7, 8, 9], "a prompt's answers depend on nothing else"
    for one, logprob in zip(submitted, [-3.0, -1.0, -2.0, -0.1, -0.3, -0.2], strict=True):
        assert one.top_logprobs == 0
        engine.likelihood = messages.Likelihood(logprob)
        token = encode(plain, str(-logprob)[2] if logprob > -1 else str(-logprob)[0])
        engine.say(one.id, *token, *token[: int(logprob <= -3)], finish="length")
    answer = await asking
    assert [(choice.index, choice.text, choice.logprobs) for choice in answer.choices] == [
        (0, "1", None),
        (1, "2", None),
        (2, "1", None),
        (3, "2", None),
    ]
    assert answer.usage
    assert answer.usage.prompt_tokens == 2, "each prompt counts once"
    assert answer.usage.completion_tokens == 7, "those that were not chosen, too"


async def test_choices_are_numbered_prompt_by_prompt(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = None
    asking = asyncio.create_task(streamed(client, prompt=["a", "b"], n=2))
    submitted = [await engine.submitted.get() for _ in range(4)]
    assert [one.prompt for one in submitted] == [encode(plain, text) for text in "aabb"]
    for letter, one in reversed(list(zip("wxyz", submitted, strict=True))):
        engine.say(one.id, *encode(plain, letter), finish="length")
    assert [choice["text"] for choice in (await asking).values()] == ["w", "x", "y", "z"]


async def test_control_tokens_in_a_text_are_control_tokens(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    await client.completions.create(model="", prompt="<|im_start|>user")
    assert (await engine.submitted.get()).prompt[0] == plain.convert_tokens_to_ids("<|im_start|>")


async def test_marks_of_reasoning_and_calls_stay_text(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    text = ' <think>Hm</think>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n'
    engine.script = encode(plain, text)
    assert (await whole(client, max_tokens=200))[0]["text"] == text


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"extra_body": {"guided_regex": "[a-z]+"}},
        {"extra_body": {"structured_outputs": {"choice": ["a", "b"]}}},
        {"extra_body": {"grammar": 'root ::= "a"'}},
        {"extra_body": {"json_schema": {"type": "object"}}},
    ],
)
async def test_answers_can_be_given_a_form(client: AsyncOpenAI, engine: ScriptedEngine, fields: Any) -> None:
    extra = fields.get("extra_body", fields)
    await client.completions.create(model="", prompt=["a", "b"], extra_body=extra)
    assert (await engine.submitted.get()).grammar
    assert (await engine.submitted.get()).grammar


async def test_how_tokens_are_drawn_reaches_the_engine(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    await client.completions.create(
        model="",
        prompt=PROMPT,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"70": -100},
        user="me",
        extra_body={"top_k": 7, "min_p": 0.1, "repetition_penalty": 1.2, "no_such_field": 1},
    )
    assert (await engine.submitted.get()).sampling == messages.Sampling(
        seed=3,
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.2,
        logit_bias=[(70, -100)],
    )


async def test_a_client_that_leaves_ends_all_its_sequences(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.script = None
    for stream in (True, False):
        body = {"prompt": ["a", "b"], "n": 2, "stream": stream}
        asking = asyncio.create_task(http.post("/v1/completions", json=body))
        submitted = {(await engine.submitted.get()).id for _ in range(4)}
        asking.cancel()
        assert {await asyncio.wait_for(engine.cancelled.get(), 5) for _ in range(4)} == submitted
    assert engine.client.open_sequences == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_is_lost_is_an_error(client: AsyncOpenAI, engine: ScriptedEngine, stream: bool) -> None:
    engine.script = None
    asking = asyncio.create_task((streamed if stream else whole)(client, prompt=["a", "b"]))
    for _ in range(2):
        await engine.submitted.get()
    engine.client.close("rank 1 fell silent")
    with pytest.raises(openai.APIError, match="rank 1 fell silent"):
        await asking


async def test_a_long_text_is_encoded_beside_the_event_loop(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.become_ready(context_length=1_000_000)
    answer = await client.completions.create(model="", prompt="Hello " * 5_000, echo=True, logprobs=1)
    assert answer.choices[0].text == "Hello " * 5_000
    assert answer.choices[0].logprobs
    assert len(answer.choices[0].logprobs.tokens or []) > 5_000


class TestGaps:
    """With a tokenizer that has tokens for filling gaps, and one that begins every text."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_tokenizer_folder(tmp_path)
        tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        fim = ["<s>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"]
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in fim])
        begin = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<s>"}))
        return tmp_path

    @pytest.fixture
    def known(self, folder: Path) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder)

    @pytest.fixture
    async def client(
        self, serve: Serve, engine: ScriptedEngine, settings: Settings, folder: Path
    ) -> AsyncIterator[AsyncOpenAI]:
        async with serve(settings) as address:
            engine.connect()
            engine.find_model(folder)
            engine.become_ready(vocab_size=400)
            async with httpx.AsyncClient(base_url=address) as http:
                while (await http.get("/health")).status_code != 200:  # the tokenizer is loading
                    pass
            async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
                yield client

    async def test_a_gap_is_filled(self, client: AsyncOpenAI, engine: ScriptedEngine, known: Any) -> None:
        engine.script = encode(known, " return 1<|fim_pad|>x")
        before, after = "def f():\n    # <|fim_suffix|>\n", "\n\nprint(f())"
        answer = await client.completions.create(model="", prompt=before, suffix=after, max_tokens=50)
        assert answer.choices[0].text == " return 1", "what models write when they are done is left out"
        prompt = (await engine.submitted.get()).prompt
        assert known.decode(prompt) == f"<s><|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>"
        assert prompt.count(known.convert_tokens_to_ids("<|fim_suffix|>")) == 1, "source code has no control tokens"

    async def test_no_suffix_is_no_gap(self, client: AsyncOpenAI, engine: ScriptedEngine, known: Any) -> None:
        for suffix in ("", None):
            await client.completions.create(model="", prompt="a", suffix=suffix)
            assert (await engine.submitted.get()).prompt == known.encode("a")

    async def test_a_text_begins_as_the_tokenizer_begins_it_and_tokens_do_not(
        self, client: AsyncOpenAI, engine: ScriptedEngine, known: Any
    ) -> None:
        begin = known.convert_tokens_to_ids("<s>")
        for prompt, expected in [("a", [begin, *encode(known, "a")]), ([70], [70]), ("", [begin]), (None, [begin])]:
            await client.completions.create(model="", prompt=prompt)  # type: ignore[arg-type]
            assert (await engine.submitted.get()).prompt == expected

    async def test_the_beginning_is_not_in_the_echoed_text(self, client: AsyncOpenAI, engine: ScriptedEngine) -> None:
        choice = (await whole(client, prompt="ab", echo=True, logprobs=0, max_tokens=0))[0]
        assert choice["text"] == "ab"
        assert choice["logprobs"]["tokens"] == ["<s>", "a", "b"]
        assert choice["logprobs"]["text_offset"] == [0, 0, 1]
        assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -2.0]
