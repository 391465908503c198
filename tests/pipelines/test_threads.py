"""Threads, and callbacks, that use one UNet and one tokenizer."""

from __future__ import annotations

import copy
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import tokenize_prompt
from semantic_edit.denoisers import PromptInput, StableDiffusionDenoiser
from semantic_edit.mapping_networks import LearningSettings

pytestmark = pytest.mark.families("sd", slow=["sdxl"])

SOURCE, TARGET, OTHER = "a red apple on grass", "a green pear on grass", "a blue mug"
STEPS = 4


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Make threads switch as often as possible."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@dataclass
class Users:
    """Calls of different pipelines that share all models; each returns numbers for comparison."""

    style: Any
    diffedit: Any
    plain: Any
    image: Any
    learned: Any

    def restyles(self, **options: Any) -> np.ndarray:
        options = {"local_blend": "apple", "local_blend_threshold": 0.9, **options}
        return self.style(TARGET, self.learned, output_type="np", **options).images

    def restyles_otherwise(self) -> np.ndarray:
        return self.style(OTHER, self.learned, output_type="np", tau_v=0.2, tau_s=0.0).images

    def edits(self) -> np.ndarray:
        options = {"num_inference_steps": STEPS, "num_maps_per_mask": 2, "output_type": "np"}
        generator = torch.Generator().manual_seed(0)
        return self.diffedit(self.image, TARGET, SOURCE, generator=generator, **options).images

    def draws(self) -> np.ndarray:
        """A foreign pipeline, with as many rows as an edit with one prompt."""
        options = {"num_inference_steps": STEPS, "output_type": "np", "width": 64, "height": 48}
        generator = torch.Generator().manual_seed(0)
        return self.plain([SOURCE, OTHER], generator=generator, **options).images

    def learns(self) -> np.ndarray:
        settings = LearningSettings(inner_steps=2, stop_below=0.0, converged_below=100.0)
        network = self.style.learn_mapping(self.image, SOURCE, 2, settings=settings)
        return torch.cat([one.flatten() for one in network.state_dict().values()]).numpy()


@pytest.fixture
def users(family, make_pipe, make_style_pipe, make_unet, picture, learned) -> Users:
    unet = make_unet()
    style, diffedit = make_style_pipe(unet=unet), make_pipe(unet=unet)
    plain = family.plain(**diffedit.components, **family.silent)
    plain.set_progress_bar_config(disable=True)
    return Users(style, diffedit, plain, picture, learned)


def same(actual: np.ndarray, expected: np.ndarray) -> bool:
    return np.allclose(actual, expected, atol=1e-5)


def is_untouched(unet: Any) -> bool:
    return not any(
        hasattr(vars(module).get("processor"), "borrowed") or "forward" in vars(module)
        for module in unet.modules()
    ) and all(parameter.requires_grad for parameter in unet.parameters())


FREE = ("edits", "draws")  # they change no network, so they wait for nobody
ALONE = ("restyles", "restyles_otherwise", "learns")


@pytest.mark.families("sd")
@pytest.mark.parametrize("other", [*FREE, *ALONE])
def test_a_callback_may_use_the_same_models(users, other):
    """Also for an edit within the edit, because the lock belongs to the thread."""
    expected, alone = users.restyles(), getattr(users, other)()
    seen = []

    def callback(pipe, step, timestep, tensors):
        if step == 1:
            seen.append(getattr(users, other)())
        return {}

    assert same(users.restyles(callback_on_step_end=callback), expected)
    assert same(seen[0], alone)
    assert is_untouched(users.style.unet)


@pytest.mark.parametrize("other", FREE)
@pytest.mark.parametrize("holder", ["restyles", "learns"])
def test_another_thread_gets_its_usual_answer_in_the_middle_of_an_evaluation(users, holder, other):
    expected, alone = getattr(users, holder)(), getattr(users, other)()
    evaluations, answers = [], []

    def meanwhile(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            evaluations.append(1)
            if len(evaluations) in (1, 4, 6):
                with ThreadPoolExecutor(1) as pool:
                    answers.append(pool.submit(getattr(users, other)).result())

    handle = users.style.unet.mid_block.resnets[0].register_forward_pre_hook(meanwhile)
    actual = getattr(users, holder)()
    handle.remove()
    assert len(answers) >= 2
    assert all(same(answer, alone) for answer in answers)
    assert same(actual, expected)
    assert is_untouched(users.style.unet)


@pytest.mark.families("sd")
@pytest.mark.parametrize("other", ALONE)
@pytest.mark.parametrize("holder", ["restyles", "learns"])
def test_who_changes_the_unet_waits_for_who_does(users, holder, other):
    expected, alone = getattr(users, holder)(), getattr(users, other)()
    threads: list[Any] = []
    waiting: list[Future[np.ndarray]] = []

    with ThreadPoolExecutor(1) as pool:

        def note(*_: Any) -> None:
            threads.append(threading.current_thread())
            if not waiting:
                waiting.append(pool.submit(getattr(users, other)))
                threading.Event().wait(0.2)  # the other one comes as far as it can

        handle = users.style.unet.conv_in.register_forward_pre_hook(note)
        actual = getattr(users, holder)()
        assert same(waiting[0].result(timeout=60), alone)
        handle.remove()
    assert same(actual, expected)
    changes = sum(one is not another for one, another in pairwise(threads))
    assert changes == 1  # all of the one, then all of the other
    assert is_untouched(users.style.unet)


@pytest.mark.families("sd")
def test_an_error_lets_the_next_thread_in(users):
    def fail(pipe, step, timestep, tensors):
        raise RuntimeError("boom")

    expected = users.restyles()
    with pytest.raises(RuntimeError, match="boom"):
        users.restyles(callback_on_step_end=fail)
    with ThreadPoolExecutor(1) as pool:
        assert same(pool.submit(users.restyles).result(timeout=60), expected)


@pytest.mark.families("sd")
def test_processors_that_are_set_meanwhile_stay_and_end_the_edit_with_an_error(users):
    other = AttnProcessor()

    def callback(pipe, step, timestep, tensors):
        pipe.unet.set_attn_processor(other)
        return {}

    with pytest.raises(RuntimeError, match="was replaced from outside while the UNet was in use here"):
        users.restyles(callback_on_step_end=callback)
    assert set(users.style.unet.attn_processors.values()) == {other}
    assert is_untouched(users.style.unet)


def embeds_of(pipe: Any, text: str) -> torch.Tensor:
    denoiser = StableDiffusionDenoiser(pipe)
    (given,) = denoiser.embed([denoiser.read_prompt(PromptInput("prompt", text))], 1)
    return given.prompt_embeds


@pytest.mark.families("sd")
@pytest.mark.filterwarnings("ignore:`prompt` is longer than")
def test_threads_encode_prompts_with_one_tokenizer(make_pipe, tokenizer, monkeypatch):
    """Each call sets how the tokenizer pads; here, other threads get a turn between that and the encoding."""
    tokenizer = copy.deepcopy(tokenizer)
    pipe, prompts = make_pipe(tokenizer=tokenizer), [SOURCE, "a", f"{OTHER} " * 9]
    expected = [embeds_of(pipe, text) for text in prompts]
    words = [tokenize_prompt(tokenizer, text) for text in prompts]
    set_up = getattr(tokenizer, "set_truncation_and_padding", None)
    if set_up is None:
        pytest.skip("this tokenizer is a slow one, which keeps no such state")

    def set_up_slowly(*args: Any, **kwargs: Any) -> None:
        set_up(*args, **kwargs)
        time.sleep(0.001)

    monkeypatch.setattr(tokenizer, "set_truncation_and_padding", set_up_slowly)

    def encodes(number: int) -> bool:
        chosen = number % len(prompts)
        found = embeds_of(pipe, prompts[chosen])
        return (
            torch.equal(found, expected[chosen])
            and tokenize_prompt(tokenizer, prompts[chosen]) == words[chosen]
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(encodes, range(60)))


@pytest.mark.families("sd")
def test_prompts_that_somebody_else_cut_short_are_refused(style_pipe, learned, monkeypatch):
    message = (
        r"returned 16 tokens where 20 were asked for: another thread .* `copy\.deepcopy\(pipe\.tokenizer\)`"
    )
    found = embeds_of(style_pipe, SOURCE)
    monkeypatch.setattr(style_pipe, "encode_prompt", lambda *_, **__: (found,))
    monkeypatch.setattr(style_pipe.tokenizer, "model_max_length", 20)
    with pytest.raises(RuntimeError, match=message):
        embeds_of(style_pipe, SOURCE)


@pytest.mark.families("sd")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wrapped", "in place", "by blocks"])
def test_a_compiled_unet_answers_others_rightly_meanwhile(users, kind):
    torch.compiler.reset()
    unet = compiled = users.style.unet
    inputs = torch.randn(2, 4, 6, 8), torch.tensor(7), torch.randn(2, 16, 32)

    def answer() -> torch.Tensor:
        with torch.no_grad():
            return compiled(*inputs).sample

    usual, expected, answers = answer(), users.restyles(), []
    if kind == "wrapped":
        compiled = torch.compile(unet, backend="eager")
        users.style.unet = compiled
    elif kind == "in place":
        unet.compile(backend="eager")
    else:
        unet.compile_repeated_blocks(backend="eager")

    def callback(pipe, step, timestep, tensors):
        if step == 1:
            with ThreadPoolExecutor(1) as pool:
                answers.extend([answer(), pool.submit(answer).result()])
        return {}

    assert same(users.restyles(callback_on_step_end=callback), expected)
    for one in (*answers, answer()):
        torch.testing.assert_close(one, usual, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt in a destructor
@pytest.mark.parametrize("name", ["restyles", "learns"])
def test_an_interrupt_at_any_moment_leaves_nothing_behind(users, name):
    """By a signal, as Ctrl-C sends one."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def seconds_taken() -> float:
        started = time.perf_counter()
        getattr(users, name)()
        return time.perf_counter() - started

    # the shortest of several: a later moment than the end interrupts nothing
    seconds = min(seconds_taken() for _ in range(5))
    moments = random.Random(0)
    usual = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for _ in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-4, seconds))
                getattr(users, name)()
            except KeyboardInterrupt as error:
                caught = error  # noqa: F841 # what its traceback refers to is not collected yet
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert is_untouched(users.style.unet)
            with ThreadPoolExecutor(1) as pool:
                lock: Any = lock_of(users.style.unet)
                assert pool.submit(lock.acquire, blocking=False).result()
                pool.submit(lock.release).result()
    finally:
        signal.signal(signal.SIGALRM, usual)
    assert interrupted > 75


@pytest.mark.families("sd")
@pytest.mark.slow
@pytest.mark.parametrize("first", [*FREE, *ALONE])
@pytest.mark.parametrize("second", ALONE)
def test_two_threads_that_do_anything_at_once(users, quick_turns, first, second):
    names = (first, second) * 8
    expected = {name: getattr(users, name)() for name in (*names, "draws")}

    def use(name: str) -> bool:
        return same(getattr(users, name)(), expected[name])

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(use, names))
    assert is_untouched(users.style.unet)
    assert use("draws")
