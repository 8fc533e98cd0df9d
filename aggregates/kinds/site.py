"""A site of an enterprise. It never changes hands: a new owner registers a new site, so that history keeps its owner."""

from aggregates.registration import InvariantViolated, Kind
from hengliu.events.families.registry import SiteRegistered


def _owner_is_fixed(latest: SiteRegistered, data: SiteRegistered) -> None:
    if data.enterprise != latest.enterprise:
        raise InvariantViolated("site-owner-fixed", site=latest.site, enterprise=latest.enterprise)


SITE = Kind("site.registered", SiteRegistered, "site", ("enterprise", "enterprise.registered"), _owner_is_fixed)
