"""Replay a UNet's evaluations as CUDA graphs.

At a batch of one or two, a GPU finishes each kernel before Python has launched the next. A graph launches all kernels
of an evaluation at once, the same ones in the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, FusedAttnProcessor2_0

from semantic_edit.attention_processors.changes import Changes

_PLAIN = {type(None), AttnProcessor, AttnProcessor2_0, FusedAttnProcessor2_0}
_NUMBERS = {bool, int, float}
ADDED = "added_cond_kwargs."
"""Prefix for the names of tensors that a UNet receives in a dict."""


@contextmanager
def cuda_graphs(unet: UNet2DConditionModel) -> Iterator[None]:
    """Let `unet` record its first evaluation of each shape during the block, and replay it for all later ones.

    Evaluations that cannot be replayed run as usual: with gradients, on other devices, or with attention processors,
    hooks or arguments whose changes a graph could not detect. If the model changes (LoRA layers or their scale, FreeU,
    another device), it is recorded again. Each recorded shape holds memory until the block ends. Nested blocks have no
    further effect.

        with cuda_graphs(pipe.unet):
            for image in images:
                pipe(image, source_prompt=before, prompt=after)

    Args:
        unet: On a GPU; elsewhere evaluations run as usual.

    Raises:
        ValueError: If `unet` is wrapped by `torch.compile`, which makes graphs itself, or is offloaded.
    """
    if hasattr(unet, "_orig_mod"):
        raise ValueError(
            "`unet` is wrapped by `torch.compile`, whose graphs cannot be recorded again. Pass the UNet itself, or let "
            '`torch.compile(unet, mode="reduce-overhead")` make the graphs.'
        )
    if hasattr(unet, "_hf_hook"):
        raise ValueError(
            "`unet` is offloaded: its weights move, and a graph reads them where they were when it was recorded. Keep "
            "the pipeline on the GPU with `pipe.remove_all_hooks()` and `pipe.to('cuda')`."
        )
    if records_graphs(unet):
        yield
        return
    with Changes() as changes:
        changes.replace(unet, "forward", _Recorder(unet))
        yield


def records_graphs(unet: Any) -> bool:
    """Whether `unet` is inside a block of `cuda_graphs`."""
    return isinstance(vars(unet).get("forward"), _Recorder)


def differentiable_graph(run: Callable[..., Any], *inputs: torch.Tensor) -> Callable[..., Any]:
    """Turn a function of tensors on one GPU into graphs of its forward and backward passes.

    Args:
        run: The function.
        inputs: Examples of its arguments; only the last one can have gradients.

    Returns:
        A function that returns the outputs of `run`; each call overwrites those of the previous call.
    """
    with torch.inference_mode(False), torch.enable_grad():
        *given, last = (value.detach().clone() for value in inputs)
        return torch.cuda.make_graphed_callables(run, (*given, last.requires_grad_()))


@dataclass(frozen=True, eq=False)
class _Recording:
    """replay: Computes `outputs` from the current content of `inputs`."""

    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[torch.Tensor, ...]
    replay: Callable[[], None]


class _Recorder:
    """A UNet's `forward` that records and replays."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._unet, self._forward = unet, unet.forward
        self._state: tuple[Any, ...] | None = None
        self._recordings: dict[tuple[Any, ...], _Recording] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: Mapping[str, torch.Tensor] | None = None,
        **options: Any,
    ) -> Any:
        inputs = {
            "sample": sample,
            "timestep": timestep,
            "encoder_hidden_states": encoder_hidden_states,
            **{f"{ADDED}{name}": value for name, value in (added_cond_kwargs or {}).items()},
        }
        replayable = not torch.is_grad_enabled() and _can_be_recorded(inputs, options)
        state = _state(self._unet) if replayable else None
        if state is None:
            return self._evaluate(**inputs, **options)
        with self._lock:
            if state != self._state:  # graphs of an earlier state would read weights that are gone
                self._state, self._recordings = state, {}
            key = (
                torch.is_autocast_enabled(sample.device.type),
                torch.get_autocast_dtype(sample.device.type),
                repr(sorted(options.items())),
                *((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items()),  # type: ignore[union-attr]
            )
            if key not in self._recordings:
                self._recordings[key] = recorded(self._evaluate, inputs, options)
            recording = self._recordings[key]
            for name, held in recording.inputs.items():
                held.copy_(inputs[name])  # type: ignore[arg-type]
            recording.replay()
            return tuple(output.clone() for output in recording.outputs)

    def _evaluate(self, **given: Any) -> Any:
        """The UNet's own `forward`, with SDXL's additional conditions put back into their dict."""
        added = {name.removeprefix(ADDED): given.pop(name) for name in tuple(given) if name.startswith(ADDED)}
        return self._forward(**given, **({"added_cond_kwargs": added} if added else {}))


def _can_be_recorded(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether a call has tensors on one GPU, returns a tuple, and has otherwise only plain values."""
    kwargs = options.get("cross_attention_kwargs") or {}
    plain = {**options, "cross_attention_kwargs": None}
    return (
        all(isinstance(one, torch.Tensor) and one.is_cuda for one in inputs.values())
        and len({one.device for one in inputs.values()}) == 1
        and options.get("return_dict") is False
        and all(type(value) in {type(None), str, *_NUMBERS} for value in (*plain.values(), *kwargs.values()))
    )


def _state(unet: UNet2DConditionModel) -> tuple[Any, ...] | None:
    """What an evaluation depends on besides its inputs, or `None` if it depends on more than can be seen here."""
    seen: list[Any] = []
    modules: list[Any] = [unet]
    while modules:  # `modules()` takes four times as long, and this is asked before every evaluation
        module = modules.pop()
        own = vars(module)
        if type(own.get("processor")) not in _PLAIN:
            return None
        if module is not unet and (own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own):
            return None
        seen.append(id(module))
        tensors = (*own["_parameters"].values(), *own["_buffers"].values())
        seen += [value.data_ptr() for value in tensors if value is not None]
        seen += [value for value in own.values() if type(value) in _NUMBERS]  # those of FreeU, for example
        if "scaling" in own:  # a LoRA layer
            seen.append(repr((own["scaling"], own.get("_active_adapter"))))
        modules += [one for one in own["_modules"].values() if one is not None]
    return tuple(seen)


def recorded(
    forward: Callable[..., tuple[torch.Tensor, ...]],
    inputs: Mapping[str, torch.Tensor | Any],
    options: Mapping[str, Any],
) -> _Recording:
    """Run `forward` once so that its libraries settle, and once to record it."""
    # tensors made in inference mode cannot be written to outside it
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(inputs["sample"].device):
        held = {name: value.detach().clone() for name, value in inputs.items()}
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            forward(**held, **options)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = forward(**held, **options)
    return _Recording(held, outputs, graph.replay)
