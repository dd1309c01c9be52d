"""What is known of the models that a policy names, before anything is built.

Law: the shared catalog is read and never changed; an upstream that lists prices in the policy answers from them
alone, as it will once a Router is built.
"""

from __future__ import annotations

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.policy.schema import Policy
from orrouter.policy.upstreams import listed_model


class Known:
    """The models of a catalog and of a policy's own lists."""

    def __init__(self, policy: Policy, catalog: Catalog) -> None:
        self._shared, self._listed = catalog, Catalog(())
        self._listing = {name for name, options in policy.upstreams.items() if options.prices}
        for name in self._listing:
            prices = policy.upstreams[name].prices
            self._listed.add(name, [listed_model(slug, price) for slug, price in prices.items()])

    def get(self, slug: str, upstream: str) -> Model | None:
        """The model that a slug means at an upstream; None when unknown."""
        return self._of(upstream).get(slug, upstream)

    def nearest(self, slug: str, upstream: str) -> str | None:
        """The known slug that looks most like this one."""
        return self._of(upstream).nearest(slug, upstream)

    def lists(self, upstream: str) -> bool:
        """Whether the policy itself lists what this upstream serves."""
        return upstream in self._listing

    @property
    def as_of(self) -> str:
        """The day (YYYY-MM-DD) that the shared catalog held."""
        return self._shared.as_of

    def _of(self, upstream: str) -> Catalog:
        return self._listed if upstream in self._listing else self._shared
