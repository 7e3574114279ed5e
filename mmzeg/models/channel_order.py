"""The channel order of the network's input."""

from torch import nn


def converts_to_rgb(preprocessor: nn.Module) -> bool:
    """Return whether a data preprocessor turns the BGR images of mmseg's transforms into RGB network inputs.

    Args:
        preprocessor (nn.Module): ``SegDataPreProcessor``, mmseg's, or another one of MMEngine's.

    Raises:
        ValueError: The preprocessor does not say.
    """
    # The attribute's name in mmzeg, in mmseg, and in MMEngine and OneDL's mmseg.
    for name in ('reverses_channels', 'channel_conversion', '_channel_conversion'):
        if hasattr(preprocessor, name):
            return bool(getattr(preprocessor, name))
    raise ValueError(
        f'model.data_preprocessor: {type(preprocessor).__name__} does not say whether images become RGB: give it the '
        'attribute channel_conversion'
    )
