"""Plot seen against unseen mIoU of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from mmzeg.evaluation.sweep_run import describe_weights
from mmzeg.utils.atomic import atomic_write

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

# Modes of each panel: those without an ensemble share one.
PANELS = (('seg', 'img', 'pixel'), ('full',), ('unseen',), ('geometric',))


def draw_sweep(rows: Sequence[dict], best: Mapping[str, dict | None], path: Path, unseen_label: str) -> None:
    """Draw a curve along gamma for each mode and ensemble weight, and the best harmonic mean of every mode.

    Args:
        rows (Sequence[dict]): Rows of a sweep, at least one with a harmonic mean.
        best (Mapping[str, dict | None]): The best row of every mode, None if no row has a harmonic mean.
        path (Path): The PNG, written atomically.
        unseen_label (str): What the x axis calls the unseen classes.
    """
    # One curve per mode, lambda, alpha and beta
    curves: dict[tuple[str, float, float, float], list[dict]] = {}
    for row in sorted(rows, key=lambda row: row['gamma']):
        if row['hIoU'] is not None:
            curves.setdefault((row['mode'], row['lam'], row['alpha'], row['beta']), []).append(row)
    panels = [[key for key in curves if key[0] in modes] for modes in PANELS]
    panels = [keys for keys in panels if keys]

    # One panel per group of modes
    size = (max(5.0 * len(panels), 7.0), 6.2)
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False, layout='constrained'
    )
    for axes, keys in zip(grid[0], panels, strict=True):
        _draw_panel(axes, {key: curves[key] for key in keys}, best)
        axes.set_title(', '.join(dict.fromkeys(mode for mode, *_ in keys)), fontsize=11)
        axes.set_xlabel(f'mIoU of {unseen_label}')
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=9)
    grid[0, 0].set_ylabel('mIoU of seen classes')
    # The panels share their limits, which are final only now.
    for axes in grid[0]:
        _draw_harmonic_means(axes)

    gammas = [row['gamma'] for row in rows]
    title = f'along the curves γ grows from {min(gammas):g} (○) to {max(gammas):g}; grey: equal harmonic means h'
    figure.suptitle(title, fontsize=10)
    atomic_write(path, lambda partial: figure.savefig(partial, format='png', dpi=120))
    pyplot.close(figure)


def _draw_panel(axes: Axes, curves: Mapping[tuple, list[dict]], best: Mapping[str, dict | None]) -> None:
    """Draw some modes' curves and their best rows."""
    colours = matplotlib.colormaps['viridis'](np.linspace(0, 0.85, len(curves)))
    for key, colour in zip(sorted(curves), colours, strict=True):
        rows = curves[key]
        x = [row['unseen_mIoU'] for row in rows]
        y = [row['seen_mIoU'] for row in rows]
        label = _greek(describe_weights(rows[0])) or rows[0]['mode']
        axes.plot(x, y, '.-', color=colour, markersize=5, linewidth=1.3, label=label)
        # An open circle marks the smallest gamma.
        axes.plot(x[0], y[0], 'o', color=colour, markerfacecolor='white', markersize=6, zorder=3)
    for mode in dict.fromkeys(mode for mode, *_ in curves):
        row = best[mode]
        weights = ', '.join(filter(None, [describe_weights(row), f'gamma {row["gamma"]:g}']))
        label = f'best {mode}: h {row["hIoU"]:.1f} ({_greek(weights)})'
        star = dict(color='crimson' if mode != 'img' else 'orange', markeredgecolor='black', markersize=14)
        axes.plot(row['unseen_mIoU'], row['seen_mIoU'], '*', **star, linestyle='none', zorder=4, label=label)


def _greek(text: str) -> str:
    """Return a text with Greek letters in place of their names."""
    for name, letter in (('lambda', 'λ'), ('alpha', 'α'), ('beta', 'β'), ('gamma', 'γ')):
        text = text.replace(name, letter)
    return text


def _draw_harmonic_means(axes: Axes) -> None:
    """Draw lines of equal harmonic mean behind the curves, within the limits of the axes."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    x, y = np.meshgrid(np.linspace(max(left, 0.1), right, 300), np.linspace(max(bottom, 0.1), top, 300))
    means = 2 * x * y / (x + y)
    levels = MaxNLocator(8).tick_values(means.min(), means.max())[1:-1]
    lines = axes.contour(x, y, means, levels=levels, colors='0.8', linewidths=0.7, zorder=0)
    axes.clabel(lines, fmt='h %g', fontsize=8, colors='0.5', zorder=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))
