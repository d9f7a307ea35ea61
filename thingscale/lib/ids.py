"""A type for each kind of id, so that mypy finds it where one is passed in the place of another."""

from typing import NewType

UserPk = NewType("UserPk", int)
DevicePk = NewType("DevicePk", int)
ChannelPk = NewType("ChannelPk", int)
ChannelNumber = NewType("ChannelNumber", int)  # the contract's channel id, unique within an account
TagPk = NewType("TagPk", int)
IntakePk = NewType("IntakePk", int)
