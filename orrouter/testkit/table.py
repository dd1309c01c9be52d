"""The models that the fake upstream serves: who runs them, at what price, with which abilities.

Law: values and their arithmetic only. What a request may use is decided in `routing.py`, what is said in
`speech.py`. The prices are those of a realistic day, not of today: nothing here is a catalog to rely on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from orrouter.core import money

if TYPE_CHECKING:
    from decimal import Decimal

BILLS_IN_FULL = frozenset(
    {
        *(
            "AI21",
            "AionLabs",
            "Alibaba",
            "Amazon Bedrock",
            "Featherless",
            "Google",
            "Google AI Studio",
            "Google Vertex",
        ),
        *("Groq", "HuggingFace", "Inflection", "InferenceNet", "Kluster", "Lambda", "Lynn", "Minimax", "Mistral"),
        *("Modal", "Nebius", "Perplexity", "Reflection", "Replicate", "SambaNova", "Targon", "ZeroOneAI"),
    }
)
"""Providers that go on, and charge, after the client has left (OpenRouter's streaming guide, stream cancellation)."""

SAMPLING = ("max_tokens", "temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty")
TOOLS = ("tools", "tool_choice")
STRUCTURED = ("response_format", "structured_outputs")
THINKING = ("reasoning", "include_reasoning")
EVERYTHING = (*SAMPLING, *TOOLS, *STRUCTURED, *THINKING)

VARIANTS = frozenset({"nitro", "floor", "online", "exacto", "extended", "thinking"})
"""Suffixes that choose among the endpoints of a model and are no model of their own."""

Reasoning = Literal["none", "optional", "mandatory"]


@dataclass(frozen=True)
class FakeProvider:
    """One endpoint of a model: a provider's name and slug, prices (`$3/M`), bounds in tokens, and its habits."""

    name: str
    tag: str
    prompt: str = "$1/M"
    completion: str = "$2/M"
    context: int = 128_000
    max_output: int = 16_384
    quantization: str = "unknown"
    keeps_data: bool = False
    throughput: int = 80
    byok: bool = False

    @cached_property
    def prices(self) -> tuple[Decimal, Decimal]:
        """USD for one prompt token and for one completion token."""
        return money.parse_price(self.prompt), money.parse_price(self.completion)

    @property
    def cancellable(self) -> bool:
        """Whether a stream that the client leaves is charged only for what was produced until then."""
        return self.name not in BILLS_IN_FULL

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Nano-USD for so many tokens, rounded up once."""
        prompt, completion = self.prices
        return money.nano(prompt * prompt_tokens + completion * completion_tokens)

    def listed(self, model: FakeModel) -> dict[str, Any]:
        """This endpoint as `GET /models/{author}/{slug}/endpoints` shows it."""
        return {
            "name": f"{self.name} | {model.slug}",
            "model_id": model.slug,
            "model_name": model.slug,
            "context_length": self.context,
            "pricing": self.pricing(),
            "provider_name": self.name,
            "tag": self.tag,
            "quantization": self.quantization,
            "max_completion_tokens": self.max_output,
            "max_prompt_tokens": None,
            "supported_parameters": list(model.parameters),
            "status": 0,
            "uptime_last_30m": 100,
            "supports_implicit_caching": False,
        }

    def pricing(self) -> dict[str, str]:
        """Prices as OpenRouter prints them: decimal strings, USD per token."""
        prompt, completion = (format(price, "f") for price in self.prices)
        return {"prompt": prompt, "completion": completion, "request": "0", "image": "0"}


@dataclass(frozen=True)
class FakeModel:
    """A model: slug, the providers that serve it (dearest last is no rule: the first is preferred), abilities."""

    slug: str
    providers: tuple[FakeProvider, ...] = (FakeProvider("Acme", "acme"),)
    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ("text",)
    parameters: tuple[str, ...] = (*SAMPLING, *TOOLS, *STRUCTURED)
    reasoning: Reasoning = "none"

    @property
    def author(self) -> str:
        """The part of the slug before the stroke."""
        return self.slug.partition("/")[0]

    def listed(self) -> dict[str, Any]:
        """This model as `GET /models` shows it."""
        first = self.providers[0]
        arrow = f"{'+'.join(self.inputs)}->{'+'.join(self.outputs)}"
        return {
            "id": self.slug,
            "canonical_slug": self.slug,
            "name": self.slug,
            "created": 1_750_000_000,
            "description": "A model of the fake upstream.",
            "context_length": max(one.context for one in self.providers),
            "architecture": {
                "input_modalities": list(self.inputs),
                "output_modalities": list(self.outputs),
                "modality": arrow,
                "tokenizer": "Other",
                "instruct_type": None,
            },
            "pricing": first.pricing(),
            "top_provider": {
                "context_length": first.context,
                "max_completion_tokens": first.max_output,
                "is_moderated": False,
            },
            "per_request_limits": None,
            "supported_parameters": list(self.parameters),
            "default_parameters": {},
            "expiration_date": None,
        }

    def endpoints(self) -> dict[str, Any]:
        """The body of `GET /models/{author}/{slug}/endpoints`."""
        shown = self.listed()
        kept = {key: shown[key] for key in ("id", "name", "created", "description", "architecture")}
        return {"data": {**kept, "endpoints": [one.listed(self) for one in self.providers]}}


def _claude() -> FakeModel:
    first = FakeProvider("Anthropic", "anthropic", "$3/M", "$15/M", 1_000_000, 64_000)
    bedrock = replace(first, name="Amazon Bedrock", tag="amazon-bedrock", context=200_000, throughput=60)
    vertex = replace(first, name="Google Vertex", tag="google-vertex", context=200_000, throughput=70)
    return FakeModel(
        "anthropic/claude-sonnet-4.5",
        (first, bedrock, vertex),
        ("text", "image", "file"),
        ("text",),
        EVERYTHING,
        "optional",
    )


def _openai(slug: str, prompt: str, completion: str) -> FakeModel:
    first = FakeProvider("OpenAI", "openai", prompt, completion, throughput=90)
    azure = replace(first, name="Azure", tag="azure", throughput=110)
    return FakeModel(slug, (first, azure), ("text", "image", "file"))


def _gpt_5_mini() -> FakeModel:
    first = FakeProvider("OpenAI", "openai", "$0.25/M", "$2/M", 400_000, 128_000)
    azure = replace(first, name="Azure", tag="azure")
    return FakeModel("openai/gpt-5-mini", (first, azure), ("text", "image"), ("text",), EVERYTHING, "mandatory")


def _gemini(slug: str, *outputs: str) -> FakeModel:
    vertex = FakeProvider("Google Vertex", "google-vertex", "$0.30/M", "$2.50/M", 1_048_576, 65_535, throughput=150)
    studio = replace(vertex, name="Google AI Studio", tag="google-ai-studio", keeps_data=True)
    return FakeModel(slug, (vertex, studio), ("text", "image", "audio", "file"), outputs, EVERYTHING, "optional")


def _llama() -> FakeModel:
    deepinfra = FakeProvider("DeepInfra", "deepinfra/turbo", "$0.13/M", "$0.39/M", 131_072, 16_384, "fp8")
    together = FakeProvider("Together", "together", "$0.88/M", "$0.88/M", 131_072, 8_192, "fp8", throughput=120)
    groq = FakeProvider("Groq", "groq", "$0.59/M", "$0.79/M", 131_072, 32_768, throughput=300)
    return FakeModel("meta-llama/llama-3.3-70b-instruct", (deepinfra, together, groq))


def _llama_free() -> FakeModel:
    venice = FakeProvider("Venice", "venice", "$0/M", "$0/M", 65_536, 8_192, "fp8", keeps_data=True)
    chutes = replace(venice, name="Chutes", tag="chutes")
    return FakeModel("meta-llama/llama-3.3-70b-instruct:free", (venice, chutes))


def _deepseek() -> FakeModel:
    first = FakeProvider("DeepSeek", "deepseek", "$0.28/M", "$0.42/M", 128_000, 8_192, keeps_data=True)
    novita = FakeProvider("Novita", "novita", "$0.27/M", "$1/M", 131_072, 16_384, "fp8")
    deepinfra = FakeProvider("DeepInfra", "deepinfra/fp4", "$0.25/M", "$0.88/M", 163_840, 16_384, "fp4")
    return FakeModel("deepseek/deepseek-chat", (first, novita, deepinfra))


def _without_tools() -> FakeModel:
    novita = FakeProvider("Novita", "novita", "$0.62/M", "$0.62/M", 65_535, 8_000)
    infermatic = replace(novita, name="Infermatic", tag="infermatic", context=16_000)
    return FakeModel("microsoft/wizardlm-2-8x22b", (novita, infermatic), parameters=SAMPLING)


def _embedding() -> FakeModel:
    first = FakeProvider("OpenAI", "openai", "$0.02/M", "$0/M", 8_192, 1)
    azure = replace(first, name="Azure", tag="azure")
    return FakeModel("openai/text-embedding-3-small", (first, azure), outputs=("embeddings",), parameters=())


def _audio() -> FakeModel:
    first = FakeProvider("OpenAI", "openai", "$2.50/M", "$10/M")
    return FakeModel("openai/gpt-4o-audio-preview", (first,), ("text", "audio"), ("text", "audio"))


def default_models() -> tuple[FakeModel, ...]:
    """The models that a fake upstream starts with."""
    return (
        _claude(),
        _openai("openai/gpt-4o", "$2.50/M", "$10/M"),
        _openai("openai/gpt-4o-mini", "$0.15/M", "$0.60/M"),
        _gpt_5_mini(),
        _audio(),
        _gemini("google/gemini-2.5-flash", "text"),
        _gemini("google/gemini-2.5-flash-image", "image", "text"),
        _llama(),
        _llama_free(),
        _deepseek(),
        _without_tools(),
        _embedding(),
    )


def fault_model(slug: str) -> FakeModel:
    """A model that can do anything and is served by two providers: what stands behind a slug `fault/NAME`."""
    one, two = (FakeProvider(f"Fake {word}", f"fake-{word.lower()}", context=1_000_000) for word in ("One", "Two"))
    return FakeModel(
        slug, (one, two), ("text", "image", "audio", "file", "video"), ("text", "embeddings"), EVERYTHING, "optional"
    )
