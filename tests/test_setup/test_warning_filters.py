"""pytest's filters: a warning of mmzeg or of a test is an error, one of another package is not."""

import warnings

import pytest


def warn_from(module):
    exec("import warnings\nwarnings.warn('of a module')", dict(__name__=module))


def test_ours_are_errors():
    with pytest.raises(DeprecationWarning, match='of this test'):
        warnings.warn('of this test', DeprecationWarning, stacklevel=1)
    with pytest.raises(UserWarning, match='of a module'):
        warn_from('mmzeg.models.fusion')
    with pytest.warns(UserWarning, match='of a module'):
        warn_from('torch.nn')
