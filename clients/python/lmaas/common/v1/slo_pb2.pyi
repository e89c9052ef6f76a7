from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class SloClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SLO_CLASS_UNSPECIFIED: _ClassVar[SloClass]
    SLO_CLASS_INTERACTIVE_FAST: _ClassVar[SloClass]
    SLO_CLASS_INTERACTIVE_NORMAL: _ClassVar[SloClass]
    SLO_CLASS_DEFERRED: _ClassVar[SloClass]
SLO_CLASS_UNSPECIFIED: SloClass
SLO_CLASS_INTERACTIVE_FAST: SloClass
SLO_CLASS_INTERACTIVE_NORMAL: SloClass
SLO_CLASS_DEFERRED: SloClass
