"""The trade of seen for unseen classes as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from mmzeg.utils.atomic import atomic_write

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

# A panel each: modes without lambda, then those with it.
PANELS = (('seg', 'img', 'pixel'), ('full',), ('unseen',))


def draw(rows: Sequence[dict], winners: Mapping[str, dict | None], path: Path, unseen: str) -> None:
    """Seen against unseen mIoU: a curve a mode and lambda along gamma, and the best harmonic mean of every mode.

    Args:
        rows (Sequence[dict]): Of a sweep, some of them with a harmonic mean.
        winners (Mapping[str, dict | None]): The best row of every mode, if it has one.
        path (Path): The PNG, written whole.
        unseen (str): What the unseen classes are called.
    """
    curves: dict[tuple, list[dict]] = {}
    for row in sorted(rows, key=lambda row: row['gamma']):
        if row['hIoU'] is not None:
            curves.setdefault((row['mode'], row['lam']), []).append(row)
    panels = [found for modes in PANELS if (found := [key for key in curves if key[0] in modes])]
    size = (max(5.0 * len(panels), 7.0), 6.2)
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False, layout='constrained'
    )
    for axes, keys in zip(grid[0], panels, strict=True):
        shades = matplotlib.colormaps['viridis'](np.linspace(0, 0.85, len(keys)))
        for (mode, lam), colour in zip(sorted(keys), shades, strict=True):
            x, y = ([row[score] for row in curves[mode, lam]] for score in ('unseen_mIoU', 'seen_mIoU'))
            label = f'λ {lam:g}' if mode in ('full', 'unseen') else mode
            axes.plot(x, y, '.-', color=colour, markersize=5, linewidth=1.3, label=label)
            axes.plot(x[0], y[0], 'o', color=colour, markerfacecolor='white', markersize=6, zorder=3)
        for mode in dict.fromkeys(mode for mode, _ in keys):
            row = winners[mode]
            lam = f'λ {row["lam"]:g}, ' if mode in ('full', 'unseen') else ''
            label = f'best {mode}: h {row["hIoU"]:.1f} ({lam}γ {row["gamma"]:g})'
            star = dict(color='crimson' if mode != 'img' else 'orange', markeredgecolor='black', markersize=14)
            axes.plot(row['unseen_mIoU'], row['seen_mIoU'], '*', **star, linestyle='none', zorder=4, label=label)
        axes.set_title(', '.join(dict.fromkeys(mode for mode, _ in keys)), fontsize=11)
        axes.set_xlabel(f'mIoU of {unseen}')
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=9)
    grid[0, 0].set_ylabel('mIoU of seen classes')
    for axes in grid[0]:
        harmonic_means(axes)
    gammas = [row['gamma'] for row in rows]
    title = f'along the curves γ grows from {min(gammas):g} (○) to {max(gammas):g}; grey: equal harmonic means h'
    figure.suptitle(title, fontsize=10)
    atomic_write(path, lambda partial: figure.savefig(partial, format='png', dpi=120))
    pyplot.close(figure)


def harmonic_means(axes: Axes) -> None:
    """Lines of equal harmonic mean behind what is drawn, within its limits."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(max(left, 0.1), right, 300), np.linspace(max(bottom, 0.1), top, 300))
    means = 2 * x * y / (x + y)
    levels = MaxNLocator(8).tick_values(means.min(), means.max())[1:-1]
    lines = axes.contour(x, y, means, levels=levels, colors='0.8', linewidths=0.7, zorder=0)
    axes.clabel(lines, fmt='h %g', fontsize=8, colors='0.5', zorder=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))
