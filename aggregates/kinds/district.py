"""An administrative district."""

from aggregates.registration import Kind
from hengliu.events.families.registry import DistrictRegistered

DISTRICT = Kind("district.registered", DistrictRegistered, "division")
