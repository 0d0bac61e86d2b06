"""What one may ask the loaded models. One question at a time: the caller holds ``App.lock``."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from . import beams, requests
from .library import Llama, LlamaError, differences, libllama, log
from .requests import Fields, Refused
from .sampling import Vector
from .speculation import Ask, Decoder, Drafter, Generation, LookupDraft, ModelDraft, Tally, read, shared

DRAFT_STEPS = 8
"""Steps of the drafts whose costs are measured."""

RECURRENT = "it is recurrent and cannot drop refused tokens from its memory"


class App:
    """A target, perhaps a draft, and the questions."""

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
            if target.recurrent:
                raise LlamaError(f"no draft can help this target: {RECURRENT}")
            log(f"loading draft model {options.model_draft}")
            options.ctx_size = target.n_ctx  # 0 would be as long as the draft was trained
            self.draft = Llama(lib, options.model_draft, options, options.gpu_layers_draft)
            if self.draft.recurrent:
                raise LlamaError(f"this model cannot draft: {RECURRENT}")
            why = differences(target, self.draft)
            if why:
                raise LlamaError(f"target and draft do not have the same vocabulary: {why}")
        self.loaded = target
        log(f"model loaded: context of {target.n_ctx} tokens")

    def close(self) -> None:
        for model in (self.draft, self.loaded):
            if model:
                model.close()

    @property
    def model(self) -> Llama:
        """The target. Raises ``Refused`` while it is loading."""
        if self.loaded is None:
            raise Refused("Loading model", 503, "unavailable_error")
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
            "chat_template": model.template(),
            "default_generation_settings": {"n_ctx": model.n_ctx, "speculative.n_max": self.options.draft_max},
        }

    def tokenize(self, fields: Fields) -> Mapping[str, object]:
        special, parse = fields.flag("add_special", False), fields.flag("parse_special", True)
        return {"tokens": self.model.tokenize(fields.text("content", ""), special, parse)}

    def detokenize(self, fields: Fields) -> Mapping[str, object]:
        tokens = fields.wholes("tokens", 0, self.model.n_vocab - 1, [])
        return {"content": b"".join(self.model.piece(token, True) for token in tokens).decode("utf-8", "replace")}

    def apply_template(self, fields: Fields) -> Mapping[str, object]:
        import jinja2
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        messages = fields.body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise Refused("'messages' must be a list of objects")
        model = self.model
        try:
            formatter = Jinja2ChatFormatter(model.template(), eos_token=model.eos, bos_token=model.bos)
            return {"prompt": formatter(messages=messages).prompt}
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise Refused(f"the model's chat template does not take these messages: {error}") from None

    def prompt(self, fields: Fields) -> list[int]:
        """The tokens of ``prompt`` (a text or tokens) or of ``messages``."""
        model, value = self.model, fields.body.get("prompt")
        if "messages" in fields:
            value = self.apply_template(fields)["prompt"]
        if isinstance(value, str):
            # Some templates write the beginning-of-sequence token themselves.
            tokens = model.tokenize(value, special=not (model.bos and value.startswith(model.bos)))
        else:
            tokens = fields.wholes("prompt", 0, model.n_vocab - 1, [])
        if not tokens:
            raise Refused("'prompt' must be a text or a list of tokens, and not empty")
        if len(tokens) > model.n_ctx:
            message = f"request ({len(tokens)} tokens) exceeds the available context size ({model.n_ctx} tokens)"
            kind = "exceed_context_size_error"
            raise Refused(message, 400, kind, n_prompt_tokens=len(tokens), n_ctx=model.n_ctx)
        return tokens

    # --- generation ---

    def ask(self, fields: Fields) -> Ask:
        asked = requests.ask(fields, self.prompt(fields), self.options.draft_max, self.draft is not None)
        if asked.k and self.model.recurrent:
            raise Refused(f"'speculative.n_max' must be 0: {RECURRENT}")
        return asked

    def tokens(self, ask: Ask, tally: Tally) -> Iterator[tuple[int, str]]:
        """Each generated token and the characters that it completes."""
        model = self.model
        if ask.beams > 1:
            found: Iterator[int] = iter(beams.search(model, ask, model.eog, tally))
        else:
            model.open(1)
            found = iter(Generation(model, ask, model.eog, tally, self.drafter(ask)))
        data = b""
        for token in found:
            data += b"" if token in model.eog else model.piece(token)
            whole, data = characters(data)
            yield token, whole
            if self.stopping.is_set():
                raise Refused("the server is stopping", 503, "unavailable_error")

    def drafter(self, ask: Ask) -> Callable[[np.random.Generator], Drafter] | None:
        model, draft = self.model, self.draft
        if ask.kind == "prompt-lookup":
            from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

            find = LlamaPromptLookupDecoding.find_candidate_pred_tokens
            return lambda rng: LookupDraft(find, ask, model.eog, model.n_vocab)
        return (lambda rng: ModelDraft(draft, ask, model.eog, model.n_vocab, rng)) if draft else None

    # --- measurements ---

    def costs(self, fields: Fields) -> Mapping[str, object]:
        """Seconds for verifying so many tokens at once, and for the steps of a draft, within a text.

        The text is the prompt and the ``tokens`` after it; in the midst of these (``depth``) the ones
        that follow are evaluated. ``verify_s``: by number of tokens (those of ``sizes`` that fit), one
        figure a repeat. ``draft_s``: for each repeat the steps of one draft; ``draft_two_s``: its first
        step where it reads two tokens, as after a draft that was accepted whole. Each is measured as it is
        in a generation: a size several times in a row, the first of which only prepares the others; a
        draft after an evaluation of the target.
        """
        model, prompt = self.model, self.prompt(fields)
        if model.recurrent:
            raise Refused(f"nothing can be verified: {RECURRENT}")
        text = self.text(fields)
        depth = (len(prompt) + len(text)) // 2
        room = model.n_ctx - depth
        sizes = [size for size in fields.wholes("sizes", 1, model.n_ctx, list(range(1, 18))) if size <= room]
        if room < 1:
            raise Refused(f"after {depth} tokens there is no room in a context of {model.n_ctx}")
        most = max([*sizes, min(DRAFT_STEPS, room)])
        following = (text[depth:] + text * (1 + most // len(text)))[:most]
        repeats = fields.whole("repeats", 1, 1000, 3)
        model.open(1)
        read(model, text[:depth], True)
        verify_s: dict[str, list[float]] = {}
        for size in sizes:
            timed(model, following[:size])
            verify_s[str(size)] = [timed(model, following[:size]) for _ in range(repeats)]
        draft_s: list[list[float]] = []
        draft_two_s: list[float] = []
        if self.draft and max(text) < self.draft.n_vocab:
            read(self.draft, text[:depth], True)
            for _ in range(repeats):
                timed(model, following[:1])
                steps = following[: min(DRAFT_STEPS, room)]
                draft_s.append([timed(self.draft, [token], forget=False) for token in steps])
                self.draft.keep(depth)
                if room > 1:
                    timed(model, following[:1])
                    draft_two_s.append(timed(self.draft, following[:2], wanted=1))
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
        last = min(fields.whole("last", 1, model.n_ctx, 1), len(prompt))
        top, of = fields.whole("top", 0, model.n_vocab, 2), fields.wholes("of", 0, model.n_vocab - 1, [])
        found = []
        begin = len(prompt) - last
        groups = [1] * last if fields.flag("single", False) else [last]
        for place, row in enumerate(self.rows(prompt, [begin, *groups], last), start=begin):
            following = prompt[place + 1] if place + 1 < len(prompt) else None
            found.append({"position": place, **described(row, top, of, following)})
        return {"logits": found}

    def parting(self, fields: Fields) -> Mapping[str, object]:
        """Where two greedy texts after one prompt part, and what lies between the two tokens there.

        ``one`` and ``other``: their tokens. ``position``: how many are equal, absent where all are.
        ``gap``: between the logits of the two next tokens, evaluated one by one; absent where one
        text is only shorter. ``noise``: the largest difference between a logit of the ways of
        evaluating, one by one after the prompt, the last ones at once, and all with the prompt at
        once, among the likeliest tokens of the last places.
        """
        most = self.model.n_vocab - 1
        one, other = fields.wholes("one", 0, most, []), fields.wholes("other", 0, most, [])
        equal = shared(one, other)
        if equal == len(one) == len(other):
            return {}
        if equal in (len(one), len(other)):
            return {"position": equal}
        prompt = self.prompt(fields)
        text = [*prompt, *one[:equal]]
        last = min(17, equal + 1)
        single = self.rows(text, [len(prompt), *[1] * equal], last)
        noise = 0.0
        for at_once in (self.rows(text, [len(text) - last, last], last), self.rows(text, [len(text)], last)):
            for row, again in zip(single, at_once):  # noqa: B905 -- Python 3.9 has no strict
                likeliest = [*np.argsort(-row)[:5], one[equal], other[equal]]
                noise = max(noise, float(np.abs(row - again)[likeliest].max()))
        gap = abs(float(single[-1][one[equal]]) - float(single[-1][other[equal]]))
        return {"position": equal, "gap": gap, "noise": noise}

    def rows(self, text: list[int], groups: Sequence[int], last: int) -> list[Vector]:
        """The target's logits after each of the last tokens of a text that is evaluated in groups of so many tokens."""
        model = self.model
        model.open(1)
        model.keep(0)
        found: list[Vector] = []
        begin = 0
        for size in groups:
            if size:
                wanted = min(size, max(1, last - (len(text) - begin - size)))
                found = [*found, *np.array(model.feed(text[begin : begin + size], wanted))][-last:]
                begin += size
        return found

    def text(self, fields: Fields) -> list[int]:
        """The prompt and the ``tokens`` after it."""
        text = [*self.prompt(fields), *fields.wholes("tokens", 0, self.model.n_vocab - 1, [])]
        if len(text) > self.model.n_ctx:
            raise Refused(f"{len(text)} tokens do not fit in a context of {self.model.n_ctx}")
        return text


def described(row: Vector, top: int, of: Sequence[int], following: int | None) -> dict[str, object]:
    peak = float(row.max())
    total = peak + float(np.log(np.exp(row.astype(np.float64) - peak).sum()))
    result: dict[str, object] = {
        "top": [[int(token), float(row[token])] for token in np.argsort(-row, kind="stable")[:top]],
        "of": [float(row[token]) for token in of],
        "log_sum_exp": total,
    }
    if following is not None:
        result["next_log_likelihood"] = float(row[following]) - total
    return result


def timed(decoder: Decoder, tokens: Sequence[int], forget: bool = True, wanted: int | None = None) -> float:
    """Seconds for evaluating tokens at once and choosing after each, or after the ``wanted`` last ones."""
    held = len(decoder.tokens)
    begun = time.perf_counter()
    decoder.feed(tokens, wanted or len(tokens)).argmax(axis=1)
    taken = time.perf_counter() - begun
    if forget:
        decoder.keep(held)
    return taken


def characters(data: bytes) -> tuple[str, bytes]:
    """The whole characters of UTF-8 data, and the bytes of one that isn't finished."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead >= 0xC0:
            needed = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            cut = len(data) - back if back < needed else len(data)
            return data[:cut].decode("utf-8", "replace"), data[cut:]
        if lead < 0x80:
            break
    return data.decode("utf-8", "replace"), b""
