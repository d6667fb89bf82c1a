"""A run given to others: models with their cards, and its data as a dataset, in a folder or on the hub."""

from solon.publishing.gather import Wanted, gather
from solon.publishing.leaks import check
from solon.publishing.parcel import Parcel, write

__all__ = ["Parcel", "Wanted", "check", "gather", "write"]
