"""One request at the prices of the models that may serve it: what each part of it may cost at most.

Law: pure, in atto-USD. It meets the counts of `fields.py` with the rates of `held.py`; `ceiling.py` adds it all up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orrouter.catalog.bounds import UNKNOWN_PRICE, Bounds, Unbounded
from orrouter.catalog.extras import Extra, fee_of, of_body, of_slug
from orrouter.catalog.fields import EMBED, Asked, admit
from orrouter.catalog.held import ATTO, Rates
from orrouter.catalog.model import Model
from orrouter.core.money import NANO

ATTO_A_NANO: Final = ATTO // NANO
_FEELESS: Final = frozenset({"plugins", "tools", "tool_choice", "web_search_options"})
"""Fields where a fee may hide; a request without them has none but those of its files and its model's name."""


class Case:
    """What is asked, of which models (by slug, the rates in their order), and what a policy lets it rest on."""

    __slots__ = ("asked", "bounds", "models", "rates")

    def __init__(self, asked: Asked, models: Mapping[str, Model | None], rates: list[Rates], bounds: Bounds) -> None:
        self.asked, self.models, self.rates, self.bounds = asked, models, rates, bounds

    # --- what is read -----------------------------------------------------------------------------------

    def input(self, *, searched: bool) -> int:
        """The most tokens of one prompt: its bytes, or where something in it has no such bound a whole context."""
        weight, bounds = self.asked.weight, self.bounds
        tokens, boundless = weight.tokens, bool(weight.files or weight.sounds or weight.videos) or searched
        if weight.images and bounds.image_tokens is not None:
            tokens += weight.images * bounds.image_tokens
            self.asked.doubts.append("image_tokens")
        if boundless:
            return max(tokens, self._window(UNKNOWN_PRICE) * self.asked.prompts)
        if weight.images and bounds.image_tokens is None:
            return max(tokens, self._window("image_tokens: 2000") * self.asked.prompts)
        return tokens

    def _window(self, option: str) -> int:
        windows = []
        for slug, model in self.models.items():
            if model is None or not model.context_length:
                raise Unbounded(
                    "context_length",
                    f"something in the request may fill the context of {slug}, and nobody knows how long that is",
                    option,
                )
            windows.append(model.context_length)
        return max(windows)

    def prompt(self, tokens: int) -> int:
        """Atto-USD of one prompt, with what is charged for the request and for each picture in it."""
        weight = self.asked.weight
        rate = self._known("prompt")
        if weight.sounds or weight.videos:
            rate = max(rate, self._heard())
        if len(self.rates) == 1:
            rates = self.rates[0]
            return tokens * rate + rates.request + weight.images * rates.image
        request, image = max(rates.request for rates in self.rates), max(rates.image for rates in self.rates)
        return tokens * rate + request + weight.images * image

    def _heard(self) -> int:
        """The rate of a token that is heard. A film is heard too, by a model that can."""
        dearest = 0
        for (slug, model), rates in zip(self.models.items(), self.rates, strict=True):
            deaf = model is not None and model.takes("audio") is False and not self.asked.weight.sounds
            if rates.audio is not None:
                dearest = max(dearest, rates.audio)
            elif not deaf:
                self._admit("input_audio", f"nobody knows what {slug} charges for what it hears")
        self.asked.doubts.append("audio: no cap bounds its price")
        return dearest

    # --- what is written --------------------------------------------------------------------------------

    def default(self) -> int:
        """What is put in where the caller names no length: no more than any of the models can write, or fit."""
        most = [self.bounds.max_tokens]
        for model in self.models.values():
            if model is not None:
                most += [model.max_completion_tokens or most[0], (model.context_length or most[0] * 2) // 2 or 1]
        return min(most)

    def output(self) -> int:
        """The rate of a token on its way out: the dearest of what the model may write, say aloud or draw."""
        dearest = self._known("completion")
        for (slug, model), rates in zip(self.models.items(), self.rates, strict=True):
            for modality, rate in (("image", rates.drawn), ("audio", rates.spoken)):
                if self._makes(model, modality):
                    dearest = max(dearest, self._made(slug, modality, rate))
        return dearest

    def _makes(self, model: Model | None, modality: str) -> bool:
        wanted = self.asked.modalities
        if wanted is not None:
            return modality in wanted
        return model is not None and model.output_modalities is not None and modality in model.output_modalities

    def _made(self, slug: str, modality: str, rate: int | None) -> int:
        if rate is None:
            reason = f"{slug} may answer with {modality}, and nobody knows what that costs"
            self._admit("modalities", f'{reason} (with `modalities: ["text"]` it answers in words)')
        else:
            self.asked.doubts.append(f"{modality}: no cap bounds its price")
        return rate or 0

    # --- fees, prices, doubts ---------------------------------------------------------------------------

    def fees(self, body: Mapping[str, Any], dialect: str) -> tuple[int, int, bool]:
        """How many turns it may take, the nano-USD of its fees, and whether what is found fills the context."""
        turns, fees, searched = 1, 0, False
        for extra in self._extras(body, dialect):
            fee = fee_of(extra, self.bounds, self._searching())
            turns, fees, searched = max(turns, fee.turns), fees + fee.nano, searched or fee.searched
            self.asked.doubts.append(f"{extra.name}: no cap bounds its fees")
        return turns, fees, searched

    def _extras(self, body: Mapping[str, Any], dialect: str) -> list[Extra]:
        extras = []
        for slug in self.models:
            wanted, wishes = of_slug(slug)
            extras += [extra for extra in wanted if dialect != "openai" or extra.name == "web_search"]
            for wish in wishes if dialect != "openai" else ():
                self._admit(wish, f"{slug} may cost more than is listed for its model")
        weight = self.asked.weight
        if weight.files or not _FEELESS.isdisjoint(body):
            readers = [model is not None and model.takes("file") is True for model in self.models.values()]
            extras += of_body(body, dialect, files=bool(weight.files), reads_files=all(readers))
        return list({extra.name: extra for extra in extras}.values()) if len(extras) > 1 else extras

    def _searching(self) -> int | None:
        rates = [rates.search for rates in self.rates]
        return None if None in rates else max(-(-rate // ATTO_A_NANO) for rate in rates if rate is not None)

    def _known(self, key: str) -> int:
        """The dearest rate of all models. Raises Unbounded for one that nobody knows."""
        dearest = 0
        for slug, rates in zip(self.models, self.rates, strict=True):
            rate = rates.prompt if key == "prompt" else rates.completion
            if rate is None:
                raise Unbounded(f"pricing.{key}", f"nobody knows the {key} price of {slug}", UNKNOWN_PRICE)
            dearest = max(dearest, rate)
        return dearest

    def _admit(self, name: str, reason: str) -> None:
        admit(name, reason, self.asked, self.bounds)

    def doubts(self, dialect: str) -> list[str]:
        """Why the bound is no proof; to be asked when everything else has been."""
        strange = [f"unknown price key {key}" for rates in self.rates for key in rates.strange]
        uncapped = ["openai dialect: no price cap can be sent"] if dialect == "openai" else []
        return list(dict.fromkeys([*self.asked.doubts, *uncapped, *strange]))

    def caps(self, endpoint: str) -> dict[str, float]:
        """What to send: per million tokens, or each; of a kind that is not billed here, nothing."""
        caps: dict[str, float] = {}
        for rates in self.rates:
            for key, cap in rates.caps.items():
                caps[key] = max(caps.get(key, 0.0), float(cap))
        if endpoint == EMBED:
            caps.pop("completion", None)
        if not self.asked.weight.images:
            caps.pop("image", None)
        return caps
