"""An enterprise under supervision."""

from aggregates.registration import Kind
from hengliu.events.families.registry import EnterpriseRegistered

ENTERPRISE = Kind("enterprise.registered", EnterpriseRegistered, "enterprise")
