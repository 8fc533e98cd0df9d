"""A vehicle, with what the gross-mass limits need."""

from aggregates.registration import Kind
from hengliu.events.families.registry import VehicleRegistered

VEHICLE = Kind("vehicle.registered", VehicleRegistered, "plate")
