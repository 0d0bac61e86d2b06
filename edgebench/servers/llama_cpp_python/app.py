"""Queries to the loaded models, one at a time: the caller holds ``App.lock``."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from . import beams, requests
from .library import Llama, LlamaError, find_incompatibility, libllama, log
from .requests import Fields, RequestError
from .sampling import Vector
from .speculation import (
    Decoder,
    Drafter,
    Generation,
    GenerationRequest,
    LookupDraft,
    ModelDraft,
    Tally,
    common_prefix_length,
    evaluate_text,
)

DRAFT_STEPS = 8
"""Steps of the drafts whose costs are measured."""

RECURRENT_REASON = "it is recurrent and cannot remove rejected tokens from its state"


class App:
    """The target model, optionally a draft model, and the queries to them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.loaded: Llama | None = None
        self.draft: Llama | None = None
        self.build = self.system_info = ""

    def load(self) -> None:
        """Load both models. Raises ``LlamaError``, ``ImportError``."""
        options = self.options
        lib, self.build = libllama()
        self.system_info = lib.llama_print_system_info().decode().strip()
        log(f"build: {self.build}")
        log(f"system_info: n_threads = {options.threads} / {os.cpu_count()} | {self.system_info}")
        target = Llama(lib, options.model, options, options.gpu_layers)
        if options.model_draft:
            if target.is_recurrent:
                raise LlamaError(f"no draft can help this target: {RECURRENT_REASON}")
            log(f"loading draft model {options.model_draft}")
            options.ctx_size = target.n_ctx  # 0 would be as long as the draft was trained
            self.draft = Llama(lib, options.model_draft, options, options.gpu_layers_draft)
            if self.draft.is_recurrent:
                raise LlamaError(f"this model cannot draft: {RECURRENT_REASON}")
            reason = find_incompatibility(target, self.draft)
            if reason:
                raise LlamaError(f"target and draft do not have the same vocabulary: {reason}")
        self.loaded = target
        log(f"model loaded: context of {target.n_ctx} tokens")

    def close(self) -> None:
        for model in (self.draft, self.loaded):
            if model:
                model.close()

    @property
    def model(self) -> Llama:
        """The target. Raises ``RequestError`` while it is loading."""
        if self.loaded is None:
            raise RequestError("Loading model", 503, "unavailable_error")
        return self.loaded

    # --- text ---

    def props(self) -> Mapping[str, object]:
        model = self.model
        return {
            "build_info": self.build,
            "system_info": self.system_info,
            "model_path": model.path,
            "draft_path": self.options.model_draft,
            "total_slots": 1,
            "chat_template": model.chat_template(),
            "default_generation_settings": {"n_ctx": model.n_ctx, "speculative.n_max": self.options.draft_max},
        }

    def tokenize(self, fields: Fields) -> Mapping[str, object]:
        special, parse = fields.flag("add_special", False), fields.flag("parse_special", True)
        return {"tokens": self.model.tokenize(fields.text("content", ""), special, parse)}

    def detokenize(self, fields: Fields) -> Mapping[str, object]:
        tokens = fields.integers("tokens", 0, self.model.n_vocab - 1, [])
        return {"content": b"".join(self.model.token_bytes(token, True) for token in tokens).decode("utf-8", "replace")}

    def apply_template(self, fields: Fields) -> Mapping[str, object]:
        import jinja2
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        messages = fields.body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise RequestError("'messages' must be a list of objects")
        model = self.model
        try:
            formatter = Jinja2ChatFormatter(model.chat_template(), eos_token=model.eos, bos_token=model.bos)
            return {"prompt": formatter(messages=messages).prompt}
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise RequestError(f"the model's chat template does not take these messages: {error}") from None

    def prompt(self, fields: Fields) -> list[int]:
        """The tokens of ``prompt`` (a text or tokens) or of ``messages``."""
        model, value = self.model, fields.body.get("prompt")
        if "messages" in fields:
            value = self.apply_template(fields)["prompt"]
        if isinstance(value, str):
            # Some templates write the beginning-of-sequence token themselves.
            tokens = model.tokenize(value, special=not (model.bos and value.startswith(model.bos)))
        else:
            tokens = fields.integers("prompt", 0, model.n_vocab - 1, [])
        if not tokens:
            raise RequestError("'prompt' must be a text or a list of tokens, and not empty")
        if len(tokens) > model.n_ctx:
            message = f"request ({len(tokens)} tokens) exceeds the available context size ({model.n_ctx} tokens)"
            error_type = "exceed_context_size_error"
            raise RequestError(message, 400, error_type, n_prompt_tokens=len(tokens), n_ctx=model.n_ctx)
        return tokens

    # --- generation ---

    def parse_request(self, fields: Fields) -> GenerationRequest:
        request = requests.parse_request(fields, self.prompt(fields), self.options.draft_max, self.draft is not None)
        if request.k and self.model.is_recurrent:
            raise RequestError(f"'speculative.n_max' must be 0: {RECURRENT_REASON}")
        return request

    def tokens(self, request: GenerationRequest, tally: Tally) -> Iterator[tuple[int, str]]:
        """Each generated token and the characters that it completes."""
        model = self.model
        if request.beams > 1:
            generated: Iterator[int] = iter(beams.search(model, request, model.eog, tally))
        else:
            model.open(1)
            generated = iter(Generation(model, request, model.eog, tally, self.drafter(request)))
        data = b""
        for token in generated:
            data += b"" if token in model.eog else model.token_bytes(token)
            text, data = split_characters(data)
            yield token, text
            if self.stopping.is_set():
                raise RequestError("the server is stopping", 503, "unavailable_error")

    def drafter(self, request: GenerationRequest) -> Callable[[np.random.Generator], Drafter] | None:
        model, draft = self.model, self.draft
        if request.kind == "prompt-lookup":
            from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

            find_candidates = LlamaPromptLookupDecoding.find_candidate_pred_tokens
            return lambda rng: LookupDraft(find_candidates, request, model.eog, model.n_vocab)
        return (lambda rng: ModelDraft(draft, request, model.eog, model.n_vocab, rng)) if draft else None

    # --- measurements ---

    def costs(self, fields: Fields) -> Mapping[str, object]:
        """Time in seconds to verify a number of tokens at once, and for the steps of a draft, within a text.

        The text is the prompt and the ``tokens`` after it; in the midst of these (``depth``) the ones
        that follow are evaluated. ``verify_s``: by number of tokens (those of ``sizes`` that fit), one
        figure a repeat. ``draft_s``: for each repeat the steps of one draft; ``draft_two_s``: its first
        step where it reads two tokens, as after a draft that was accepted whole. Each is measured as it is
        in a generation: a size several times in a row, the first of which only prepares the others; a
        draft after an evaluation of the target.
        """
        model, prompt = self.model, self.prompt(fields)
        if model.is_recurrent:
            raise RequestError(f"nothing can be verified: {RECURRENT_REASON}")
        text = self.text(fields)
        depth = (len(prompt) + len(text)) // 2
        capacity = model.n_ctx - depth
        sizes = [size for size in fields.integers("sizes", 1, model.n_ctx, list(range(1, 18))) if size <= capacity]
        if capacity < 1:
            raise RequestError(f"after {depth} tokens there is no room in a context of {model.n_ctx}")
        longest = max([*sizes, min(DRAFT_STEPS, capacity)])
        following = (text[depth:] + text * (1 + longest // len(text)))[:longest]
        repeats = fields.integer("repeats", 1, 1000, 3)
        model.open(1)
        evaluate_text(model, text[:depth], True)
        verify_s: dict[str, list[float]] = {}
        for size in sizes:
            time_evaluation(model, following[:size])
            verify_s[str(size)] = [time_evaluation(model, following[:size]) for _ in range(repeats)]
        draft_s: list[list[float]] = []
        draft_two_s: list[float] = []
        if self.draft and max(text) < self.draft.n_vocab:
            evaluate_text(self.draft, text[:depth], True)
            for _ in range(repeats):
                time_evaluation(model, following[:1])
                steps = following[: min(DRAFT_STEPS, capacity)]
                draft_s.append([time_evaluation(self.draft, [token], restore=False) for token in steps])
                self.draft.keep(depth)
                if capacity > 1:
                    time_evaluation(model, following[:1])
                    draft_two_s.append(time_evaluation(self.draft, following[:2], n_rows=1))
        return {"depth": depth, "verify_s": verify_s, "draft_s": draft_s, "draft_two_s": draft_two_s}

    def logits(self, fields: Fields) -> Mapping[str, object]:
        """The target's logits after each of the last ``last`` tokens of a text.

        For each: the ``top`` likeliest as [token, logit], the logits of the tokens in ``of``, the
        logarithm of the sum of all exponentials, and, where the text goes on, the log-likelihood
        of its next token. With ``single`` they are evaluated one at a time, as a generation
        without a draft does it; else all at once, as a verification does. ``tokens`` are appended
        to the prompt.
        """
        model = self.model
        prompt = self.text(fields)
        last = min(fields.integer("last", 1, model.n_ctx, 1), len(prompt))
        top, of = fields.integer("top", 0, model.n_vocab, 2), fields.integers("of", 0, model.n_vocab - 1, [])
        entries = []
        begin = len(prompt) - last
        groups = [1] * last if fields.flag("single", False) else [last]
        for position, row in enumerate(self.rows(prompt, [begin, *groups], last), start=begin):
            next_token = prompt[position + 1] if position + 1 < len(prompt) else None
            entries.append({"position": position, **describe_logits(row, top, of, next_token)})
        return {"logits": entries}

    def divergence(self, fields: Fields) -> Mapping[str, object]:
        """The first divergence of two greedy texts after one prompt, and the logits there.

        ``one`` and ``other``: their tokens. ``position``: how many are equal, absent where all are.
        ``gap``: between the logits of the two next tokens, evaluated one by one; absent where one
        text is only shorter. ``noise``: the largest difference between a logit of the ways of
        evaluating, one by one after the prompt, the last ones at once, and all with the prompt at
        once, among the likeliest tokens of the last places.
        """
        max_token = self.model.n_vocab - 1
        first, second = fields.integers("one", 0, max_token, []), fields.integers("other", 0, max_token, [])
        n_equal = common_prefix_length(first, second)
        if n_equal == len(first) == len(second):
            return {}
        if n_equal in (len(first), len(second)):
            return {"position": n_equal}
        prompt = self.prompt(fields)
        text = [*prompt, *first[:n_equal]]
        last = min(17, n_equal + 1)
        single = self.rows(text, [len(prompt), *[1] * n_equal], last)
        noise = 0.0
        for rows in (self.rows(text, [len(text) - last, last], last), self.rows(text, [len(text)], last)):
            for row, other_row in zip(single, rows):  # noqa: B905 -- Python 3.9 has no strict
                likeliest = [*np.argsort(-row)[:5], first[n_equal], second[n_equal]]
                noise = max(noise, float(np.abs(row - other_row)[likeliest].max()))
        gap = abs(float(single[-1][first[n_equal]]) - float(single[-1][second[n_equal]]))
        return {"position": n_equal, "gap": gap, "noise": noise}

    def rows(self, text: list[int], groups: Sequence[int], last: int) -> list[Vector]:
        """The target's logits after each of the last tokens of a text that is evaluated in groups of so many tokens."""
        model = self.model
        model.open(1)
        model.keep(0)
        logits: list[Vector] = []
        begin = 0
        for size in groups:
            if size:
                n_rows = min(size, max(1, last - (len(text) - begin - size)))
                logits = [*logits, *np.array(model.feed(text[begin : begin + size], n_rows))][-last:]
                begin += size
        return logits

    def text(self, fields: Fields) -> list[int]:
        """The tokens of the prompt followed by ``tokens``."""
        text = [*self.prompt(fields), *fields.integers("tokens", 0, self.model.n_vocab - 1, [])]
        if len(text) > self.model.n_ctx:
            raise RequestError(f"{len(text)} tokens do not fit in a context of {self.model.n_ctx}")
        return text


def describe_logits(row: Vector, top: int, of: Sequence[int], next_token: int | None) -> dict[str, object]:
    peak = float(row.max())
    total = peak + float(np.log(np.exp(row.astype(np.float64) - peak).sum()))
    result: dict[str, object] = {
        "top": [[int(token), float(row[token])] for token in np.argsort(-row, kind="stable")[:top]],
        "of": [float(row[token]) for token in of],
        "log_sum_exp": total,
    }
    if next_token is not None:
        result["next_log_likelihood"] = float(row[next_token]) - total
    return result


def time_evaluation(decoder: Decoder, tokens: Sequence[int], restore: bool = True, n_rows: int | None = None) -> float:
    """Seconds for evaluating tokens at once and choosing after each, or after the ``wanted`` last ones."""
    n_past = len(decoder.tokens)
    started = time.perf_counter()
    decoder.feed(tokens, n_rows or len(tokens)).argmax(axis=1)
    elapsed_s = time.perf_counter() - started
    if restore:
        decoder.keep(n_past)
    return elapsed_s


def split_characters(data: bytes) -> tuple[str, bytes]:
    """The complete characters of UTF-8 data, and the remaining bytes of an incomplete one."""
    for distance in range(1, min(3, len(data)) + 1):
        lead_byte = data[-distance]
        if lead_byte >= 0xC0:
            length = 2 if lead_byte < 0xE0 else 3 if lead_byte < 0xF0 else 4
            end = len(data) - distance if distance < length else len(data)
            return data[:end].decode("utf-8", "replace"), data[end:]
        if lead_byte < 0x80:
            break
    return data.decode("utf-8", "replace"), b""
